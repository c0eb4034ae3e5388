"""The hardware of this computer. Imports no torch: asks the package metadata and nvidia-smi."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import psutil

from geko_app.formatting import format_ram


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, bytes of its memory (0 where it does not say, as one that shares the main memory), and its UUID."""

    name: str
    memory: int
    uuid: str = ""

    @property
    def label(self) -> str:
        """Name and memory: "H100, 80 GB"."""
        return f"{self.name}, {format_ram(self.memory)}" if self.memory else self.name


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
    return " · ".join(gpu.label for gpu in _gpus())


def training_memory() -> int:
    """Bytes that a run can have: all of the largest GPU, else the main memory that is free now."""
    return max((gpu.memory for gpu in _gpus()), default=0) or psutil.virtual_memory().available


def visible_gpus(visible: str | None = None) -> list[Gpu]:
    """The GPUs that runs of this page can use, in the order in which they are numbered there.

    Args:
        visible: numbers or UUIDs, with commas between them; CUDA_VISIBLE_DEVICES of this process by default.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    if chosen is None:
        return list(_gpus())
    by_name = {name: gpu for number, gpu in enumerate(_gpus()) for name in (str(number), gpu.uuid)}
    return [by_name[name.strip()] for name in chosen.split(",") if name.strip() in by_name]


@cache
def _gpus() -> list[Gpu]:
    """Each GPU that nvidia-smi lists."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=uuid,memory.total,name", "--format=csv,noheader,nounits"]
    try:
        lines = (
            subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip().splitlines()
        )
    except (OSError, subprocess.SubprocessError):
        return []
    found = [[part.strip() for part in line.split(",", 2)] for line in lines if line.count(",") > 1]
    return [Gpu(name, _bytes(memory), uuid) for uuid, memory, name in found]


def _bytes(mebibytes: str) -> int:
    """The bytes of a number of MiB; 0 for words such as "[N/A]"."""
    return int(mebibytes) * 2**20 if mebibytes.isdecimal() else 0


def cpu() -> str:
    """Cores and memory of a computer without a GPU."""
    return f"CPU only · {psutil.cpu_count() or 1} cores · {format_ram(psutil.virtual_memory().total)} memory"
