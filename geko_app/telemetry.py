"""What the process of a run takes of this computer at the moment. Imports no torch: asks psutil, and NVML where it is."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import psutil

from geko_app.formatting import format_memory, format_ram

FRESH_SECONDS = 1.0  # so long a figure is given again: many tabs ask, and a share of the processor needs an interval
KEPT = 120  # usages, some two minutes


@dataclass(frozen=True)
class GpuUse:
    """What one GPU does: its load and temperature, and bytes of its memory that are used, of how many."""

    busy: int
    used: int
    total: int
    warm: int

    def __str__(self) -> str:
        return f"GPU {self.busy} %, {self.used / 2**30:.1f} of {format_ram(self.total)}, {self.warm} °C"


@dataclass(frozen=True)
class Usage:
    """What the processes of a run take at one moment.

    Attributes:
        cpu: seconds of the processor per second; None at the first look, which has no interval.
        memory: bytes.
        gpus: those that the run uses.
    """

    cpu: float | None
    memory: int
    gpus: tuple[GpuUse, ...] = ()

    def __str__(self) -> str:
        share = [] if self.cpu is None else [f"CPU {100 * self.cpu:.0f} %"]
        return " · ".join([*share, f"memory {format_memory(self.memory)}", *map(str, self.gpus)])


class Telemetry:
    """Processor, memory and GPUs of the process with a given id and of its children, now and for a while; safe in many threads.

    It only remembers what it was asked for: the time in which some tab drew the run.
    """

    def __init__(self, gpus: Gpus | None = None) -> None:
        self._gpus = gpus or Gpus()
        self._lock = threading.Lock()
        self._process: psutil.Process | None = None
        self._spent: tuple[float, float] | None = None  # (time, seconds of the processor by then)
        self._history: deque[Usage] = deque(maxlen=KEPT)
        self._made = 0.0

    def history(self, pid: int) -> list[Usage]:
        """The last usages, about one a second, the newest last; [] for a process that is gone."""
        with self._lock:
            if self._process is None or self._process.pid != pid:
                self._process, self._spent, self._made = None, None, 0.0
                self._history.clear()
            if time.monotonic() - self._made >= FRESH_SECONDS:
                usage, self._made = self._measured(pid), time.monotonic()
                if usage is None:
                    self._history.clear()
                else:
                    self._history.append(usage)
            return list(self._history)

    def line(self, pid: int) -> str:
        """ "CPU 98 % · memory 1.2 GB · GPU 87 %, 20.1 of 24 GB, 71 °C"; "" for a process that is gone."""
        found = self.history(pid)
        return str(found[-1]) if found else ""

    def _measured(self, pid: int) -> Usage | None:
        try:
            if self._process is None:
                self._process = psutil.Process(pid)
            family = [self._process, *self._process.children(recursive=True)]
            memory, spent = 0, 0.0
            for process in family:
                times = process.cpu_times()
                memory, spent = memory + process.memory_info().rss, spent + times.user + times.system
        except psutil.Error:
            return None
        before, now = self._spent, time.monotonic()
        self._spent = now, spent
        share = None if before is None else max(0.0, (spent - before[1]) / (now - before[0]))
        return Usage(share, memory, tuple(self._gpus.uses({process.pid for process in family})))


class Gpus:
    """The NVIDIA GPUs of this computer, through NVML; none where the driver or its package is missing."""

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml or _nvml()
        self._handles: list[Any] = []
        if self._nvml is not None:
            count = self._nvml.nvmlDeviceGetCount()
            self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(number) for number in range(count)]

    def uses(self, pids: set[int]) -> list[GpuUse]:
        """How busy, full and warm each GPU is that one of the processes `pids` uses.

        In a container the driver names processes by other numbers: then every GPU in use is shown.
        """
        users = [(handle, self._users(handle)) for handle in self._handles]
        mine = [handle for handle, found in users if found & pids] or [handle for handle, found in users if found]
        return [use for handle in mine if (use := self._use(handle))]

    def _users(self, handle: Any) -> set[int]:
        try:
            return {process.pid for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)}
        except self._nvml.NVMLError:
            return set()

    def _use(self, handle: Any) -> GpuUse | None:
        nvml = self._nvml
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
            warm = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        except nvml.NVMLError:
            return None
        return GpuUse(busy, memory.used, memory.total, warm)


def _nvml() -> Any:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - not installed, or no driver: each has its own error
        return None
    return pynvml
