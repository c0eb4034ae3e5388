"""Tests that need a GPU are skipped without one, and say so. GEKO_GPU_TESTS=cpu runs those of them that a CPU can."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
NEEDS_GPU = "needs an NVIDIA GPU: run `make gpu` on a machine with one"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what lies in this folder, unless there is a GPU or the CPU was asked for."""
    if torch.cuda.is_available() or os.environ.get("GEKO_GPU_TESTS") == "cpu":
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=NEEDS_GPU))


@pytest.fixture
def cuda() -> torch.device:
    """The GPU; skips without one."""
    if not torch.cuda.is_available():
        pytest.skip(NEEDS_GPU)
    return torch.device("cuda")
