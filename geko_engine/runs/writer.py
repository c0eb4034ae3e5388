"""Writes a run's events and status. Knows no training loop and no screen."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geko_engine.exceptions import RunLockedError
from geko_engine.reporting.events import PAUSED, Event, LogOpened, Message, PhaseChanged, RunEnded
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.lock import RunLock
from geko_engine.runs.status import Status, process_started
from geko_engine.storage.atomic_files import finite, replace_json
from geko_engine.storage.disk_space import explain_write_errors, free_reserve, keep_reserve

HEARTBEAT_SECONDS = 2.0
BLOCK = 1 << 16  # bytes read at a time
NO_LOCK = "The file system of {!r} has no locks: let only one process write this run."


class RunWriter:
    """The only writer of a run's events and status. Use it as a context manager around the run.

    Calling it with an Event appends the event to events.jsonl and, if the phase changes, replaces status.json. A thread
    renews the heartbeat in status.json. A small reserve of disk space is kept for the last event. The run folder is
    locked in between.

    Args:
        folder: of the run.
        clear_stop: whether a stop that was requested before is forgotten.

    Raises:
        RunLockedError: on entry, if another process writes this run.
        RunError: on entry, if the run is complete, or a newer version of GEKO made its folder in another format.
        RunError: on entry or when called, if the disk is full or the folder cannot be written.
    """

    def __init__(self, folder: RunFolder, *, clear_stop: bool = False) -> None:
        self.folder, self._clear_stop = folder, clear_stop
        self._phase, self._end, self._reason = "starting", "", ""
        self._pid, self._pid_started = os.getpid(), process_started(os.getpid()) or 0.0
        self._lock, self._closed = threading.Lock(), threading.Event()

    def __enter__(self) -> RunWriter:
        with contextlib.ExitStack() as stack, explain_write_errors(self.folder.path):
            lock = stack.enter_context(RunLock(self.folder.path))
            self.folder.require_known_format()
            self.folder.require_unfinished()
            self.folder.remove_leftovers()
            self.folder.keep_format()
            if self._clear_stop:
                self.folder.clear_stop()
            stack.push(self._forget_stop)
            keep_reserve(self.folder.path)
            stack.callback(free_reserve, self.folder.path)
            repair_tail(self.folder.events_path)
            self._seq = self.folder.last_seq() or 0
            self._file = stack.enter_context(self.folder.events_path.open("ab", buffering=0))
            self._append_event(LogOpened())
            if not lock.works:
                self._append_event(Message(NO_LOCK.format(str(self.folder.path)), "warning"))
            self._write_status()
            self._opened = stack.pop_all()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self._opened.close()

    def _forget_stop(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.folder.clear_stop()  # it was for this process

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunEnded) or (isinstance(event, PhaseChanged) and event.phase == PAUSED):
            free_reserve(self.folder.path)
        elif isinstance(event, PhaseChanged) and self._phase == PAUSED:
            keep_reserve(self.folder.path)
        with self._lock, explain_write_errors(self.folder.path):
            self._append_event(event)
        if isinstance(event, PhaseChanged):
            self._phase = event.phase
        if isinstance(event, RunEnded):
            self._phase, self._end, self._reason = event.end, event.end, event.reason
        if isinstance(event, PhaseChanged | RunEnded):
            with explain_write_errors(self.folder.path):
                self._write_status()

    def _append_event(self, event: Event) -> None:
        self._append({"seq": self._seq + 1, "time": round(time.time(), 3), **event.to_dict()})
        self._seq += 1

    def _append(self, values: dict[str, Any]) -> None:
        """Append one complete line, or nothing."""
        line = (json.dumps(finite(values), allow_nan=False) + "\n").encode()
        before, done = os.fstat(self._file.fileno()).st_size, 0
        try:
            while done < len(line):  # a nearly full disk writes only a part
                done += self._file.write(line[done:])
        except OSError:
            self._file.truncate(before)
            raise

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # the next heartbeat may find space again
                self._write_status()

    def _write_status(self) -> None:
        with self._lock:
            status = Status(self._phase, self._pid, self._pid_started, time.time(), self._seq, self._end, self._reason)
            replace_json(self.folder.path / "status.json", asdict(status))


def mark_interrupted(folder: RunFolder, reason: str) -> None:
    """Write the end "interrupted" for a run whose worker is gone, so that it is not shown as running.

    Args:
        folder: of the run; nothing happens if it has ended or is still being written.
        reason: shown to the user.
    """
    with contextlib.suppress(RunLockedError), RunLock(folder.path):
        repair_tail(folder.events_path)
        status = folder.status() or Status()
        if status.end or status.alive:
            return
        ended = {"phase": "interrupted", "end": "interrupted", "reason": reason}
        replace_json(folder.path / "status.json", {**asdict(status), **ended})


def repair_tail(path: Path) -> None:
    """Cut off an incomplete last line, which only a killed writer leaves behind."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - BLOCK)
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        if end < size:
            file.truncate(end)
