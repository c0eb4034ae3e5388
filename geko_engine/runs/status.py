"""The status of a run: the content of status.json, and whether the process that wrote it lives. Knows no folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import psutil

from geko_engine.reporting.event_lines import is_count, is_number

ENDS = ("", "complete", "stopped", "failed", "interrupted")


@dataclass(frozen=True)
class Status:
    """The content of status.json.

    Attributes:
        phase: of the last PhaseChanged event, or the end.
        pid: process id of the worker.
        pid_started: start time of that process, in seconds since 1970: another process may get the same pid later.
        heartbeat: time of the last write, in seconds since 1970.
        seq: number of the last event.
        end: complete, stopped, failed or interrupted; "" while the run goes on.
        reason: of the end, for the user.
    """

    phase: str = "starting"
    pid: int = 0
    pid_started: float = 0.0
    heartbeat: float = 0.0
    seq: int = 0
    end: str = ""
    reason: str = ""

    @property
    def alive(self) -> bool:
        """Whether the process that wrote this status is still running."""
        return self.pid > 0 and process_started(self.pid) == self.pid_started


def process_started(pid: int) -> float | None:
    """Start time of process `pid` in seconds since 1970, or None if it is gone (zombies count as gone)."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def read_status(path: Path) -> Status:
    """The content of the status.json at `path`.

    Raises:
        OSError: when there is none, or it cannot be read. ValueError, RecursionError: when it is damaged.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    try:
        status = Status(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error
    counts = is_count(status.pid) and is_count(status.seq) and 0 <= status.pid < 1 << 31
    times = is_number(status.pid_started) and is_number(status.heartbeat)
    words = all(isinstance(value, str) for value in (status.phase, status.end, status.reason))
    if not (counts and times and words and status.end in ENDS):
        raise ValueError("a value is of another type")
    f"{status.phase}{status.reason}".encode()  # raises UnicodeEncodeError, a ValueError, for half a character
    return status
