"""What nvidia-smi says of the GPUs, also where it does not say how much memory one has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from geko_app import hardware


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An nvidia-smi to be written."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    _forget()
    yield tmp_path / "nvidia-smi"
    _forget()


def _forget() -> None:
    hardware._gpus.cache_clear()
    hardware.gpu.cache_clear()


def lists(tool: Path, *lines: str) -> None:
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines), encoding="utf-8")
    tool.chmod(0o755)


def test_memory_that_nvidia_smi_does_not_know_is_not_named(tool: Path) -> None:
    lists(tool, "GPU-a, [N/A], NVIDIA GB10", "GPU-b, 81559, H100")
    assert hardware._gpus() == [hardware.Gpu("NVIDIA GB10", 0, "GPU-a"), hardware.Gpu("H100", 81559 * 2**20, "GPU-b")]
    assert hardware.gpu() == "NVIDIA GB10 · H100, 80 GB"
    assert hardware.training_memory() == 81559 * 2**20


def test_a_gpu_of_unknown_memory_alone_has_the_main_memory(tool: Path) -> None:
    lists(tool, "GPU-a, [N/A], NVIDIA GB10")
    assert 0 < hardware.training_memory() <= psutil.virtual_memory().total
