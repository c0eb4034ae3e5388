"""What a run takes of the computer: of a real process, and of GPUs as NVML describes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from geko_app import telemetry
from geko_app.telemetry import Gpus, Telemetry, Usage
from geko_app.views.usage import usage_charts


class TwoGpus:
    """As pynvml describes two GPUs; `users` are the processes on each."""

    class NVMLError(Exception):
        """The driver has gone."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *users: list[int]) -> None:
        self.users, self.gone = users, False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.users)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        if self.gone:
            raise self.NVMLError
        return [SimpleNamespace(pid=pid) for pid in self.users[handle]]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=(handle + 1) * 2**30, total=24 * 2**30)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=80 + handle)

    def nvmlDeviceGetTemperature(self, handle: int, _kind: int) -> int:
        return 70 + handle


def test_a_process_has_memory_at_once_and_a_share_of_the_processor_from_the_second_look_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry, "FRESH_SECONDS", 0.0)
    found = Telemetry(Gpus(TwoGpus([], [])))
    assert re.fullmatch(r"memory [\d.]+ [MG]B", found.line(os.getpid()))
    assert re.fullmatch(r"CPU \d+ % · memory [\d.]+ [MG]B", found.line(os.getpid()))


def test_a_process_that_is_gone_takes_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert Telemetry(Gpus(TwoGpus([], []))).line(ended.pid) == ""


def test_the_gpus_of_the_run_are_shown_and_in_a_container_all_that_are_used() -> None:
    nvml = TwoGpus([11], [12, 13])
    assert list(map(str, Gpus(nvml).uses({12, 99}))) == ["GPU 81 %, 2.0 of 24 GB, 71 °C"]
    assert list(map(str, Gpus(nvml).uses({99}))) == ["GPU 80 %, 1.0 of 24 GB, 70 °C", "GPU 81 %, 2.0 of 24 GB, 71 °C"]
    nvml.gone = True
    assert Gpus(nvml).uses({12}) == []


def test_the_last_minutes_are_kept_while_a_run_is_drawn_and_become_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "FRESH_SECONDS", 0.0)
    found = Telemetry(Gpus(TwoGpus([os.getpid()], [])))
    for _ in range(telemetry.KEPT + 5):
        history = found.history(os.getpid())
    assert len(history) == telemetry.KEPT
    charts = usage_charts(history)
    assert [chart["name"] for chart in charts] == ["CPU", "Memory", "GPU", "GPU memory"]
    assert charts[2]["value"] == "80 % · 70 °C" and charts[3]["value"] == "1.0 of 24 GB"
    assert all(0 <= point <= 1 for chart in charts for point in chart["points"])
    assert (
        found.history(os.getppid()) and len(found.history(os.getppid())) == 2
    )  # of another process: from the beginning
    assert usage_charts([]) == [] and [chart["name"] for chart in usage_charts([Usage(None, 5)])] == ["Memory"]
