"""The GPU by its name and its memory."""

from __future__ import annotations

import os

import pytest
import torch

pytestmark = pytest.mark.gpu


def test_the_gpu_is_named_and_its_memory_is_what_counts(cuda: torch.device) -> None:
    from geko_app.hardware import gpu
    from geko_engine.preflight.memory_estimate import available_memory

    assert torch.cuda.get_device_name(cuda).removeprefix("NVIDIA ") in gpu()
    assert available_memory()[1] == torch.cuda.get_device_properties(cuda).total_memory


def test_a_run_on_the_gpu_shows_how_busy_full_and_warm_it_is(cuda: torch.device) -> None:
    from geko_app.telemetry import Gpus

    held = torch.ones(1 << 20, device=cuda)
    lines = Gpus().lines({os.getpid()})
    assert len(held) and lines and all("GPU" in line and "°C" in line for line in lines)
