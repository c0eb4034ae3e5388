"""The hardware of this computer. Imports no torch: asks the package metadata and nvidia-smi."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import psutil

from geko_app.formatting import format_ram


def hardware_strip() -> tuple[str, str]:
    """(version of torch, name and memory of the GPUs or "CPU only" with cores and memory)."""
    try:
        torch = f"torch {version('torch')}"
    except PackageNotFoundError:
        torch = "torch is not installed"
    return torch, gpu() or cpu()


def precisions() -> tuple[list[str], str]:
    """(precisions that this computer can train in, why not more)."""
    if gpu():
        return ["fp32", "bf16", "fp16"], ""
    return ["fp32", "bf16"], "FP16 needs a GPU, and this computer has none."


@cache
def gpu() -> str:
    """Name and memory of each GPU; "" if there is none or its driver does not answer."""
    return " · ".join(f"{name}, {format_ram(memory)}" for name, memory in _gpus())


def training_memory() -> int:
    """Bytes that a run can have: all of the largest GPU, else the main memory that is free now."""
    return max((memory for _, memory in _gpus()), default=psutil.virtual_memory().available)


@cache
def _gpus() -> list[tuple[str, int]]:
    """Name and bytes of memory of each GPU that nvidia-smi lists."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = (
            subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip().splitlines()
        )
    except (OSError, subprocess.SubprocessError):
        return []
    found = [line.rsplit(",", 1) for line in lines if "," in line]
    return [(name.strip(), int(float(memory) * 2**20)) for name, memory in found]


def cpu() -> str:
    """Cores and memory of a computer without a GPU."""
    return f"CPU only · {psutil.cpu_count() or 1} cores · {format_ram(psutil.virtual_memory().total)} memory"
