"""Follows one worker process: reads its events, and says why it died. Knows no queue of runs."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from geko_app.runs.live_state import RunState
from geko_engine.reporting.events import RunEnded
from geko_engine.runs.folder import RunFolder, Status
from geko_engine.runs.writer import mark_interrupted
from geko_engine.storage.disk_space import DISK_FULL, full_sentence

POLL_SECONDS = 0.1


class Feed:
    """One run's events on their way to the page: a thread puts them in, whoever asks folds them."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._state, self._offset, self._lock = RunState(), 0, threading.Lock()
        self._reading = threading.Lock()
        self._unwritten = False

    def read(self) -> None:
        """Put what the worker has written since the last call into the queue."""
        with self._reading:
            for offset, event in self.folder.events(self._offset):
                self._offset = offset
                self.queue.put(event)

    def give_end(self, reason: str) -> None:
        """Mark a run whose worker is gone; on a full disk only the page is told, until there is room again."""
        try:
            mark_interrupted(self.folder, reason)
        except OSError:
            if not self._unwritten:
                self.queue.put({"time": time.time(), **RunEnded("interrupted", reason, {}).to_dict()})
            self._unwritten = True

    def state(self) -> RunState:
        """The fold of everything read so far."""
        with self._lock:
            while True:
                try:
                    self._state.apply(self.queue.get_nowait())
                except queue.Empty:
                    return self._state


class _Training(threading.Thread):
    """Follows one worker to its end; asks, terminates and kills when a stop was asked for.

    Args:
        patience: seconds from the stop request to SIGTERM, and from there to SIGKILL.
        then: called at the very end.
    """

    def __init__(
        self,
        feed: Feed,
        process: subprocess.Popen[bytes] | None,
        patience: tuple[float, float],
        then: Callable[[], None],
    ) -> None:
        super().__init__(name=f"training-{feed.folder.id}", daemon=True)
        self.ours = process is not None or is_worker((feed.folder.status() or Status()).pid)
        self.feed, self._process, self._then = feed, process, then
        self._grace, self._kill_after = patience
        self.over = False
        self._asked: float | None = None
        self._forced = ""

    def run(self) -> None:
        while self._alive():
            self.feed.read()
            self._enforce_stop()
            time.sleep(POLL_SECONDS)
        self.feed.read()
        self.feed.give_end(self._forced or death_reason(self._process, self.feed.folder))
        self.over = True
        self._then()

    def ask_to_stop(self) -> None:
        """Raise the stop flag; the grace period begins with the first call."""
        try:
            self.feed.folder.request_stop()
        except OSError:  # no room for the flag: to a worker the signal says the same
            self._signal(signal.SIGTERM)
        self._asked = self._asked or time.monotonic()

    def _alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        status = self.feed.folder.status() or Status()
        # A worker of a page is waited for to its last breath, for its memory; another program may live on after its run.
        return status.alive and (self.ours or not status.end)

    def _enforce_stop(self) -> None:
        if self._asked is None:
            return
        waited = time.monotonic() - self._asked
        if waited > self._grace + self._kill_after:
            self._forced = f"The worker did not answer the stop for {waited:.0f} seconds and was killed."
            self._signal(signal.SIGKILL)
        elif waited > self._grace and not self._forced:
            self._forced = f"The worker did not answer the stop for {waited:.0f} seconds and was terminated."
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # does nothing when it has just ended
            return
        status = self.feed.folder.status() or Status()
        if status.alive:  # never a stranger with an old id, never 0, which would be this very process group
            with contextlib.suppress(ProcessLookupError):
                os.kill(status.pid, number)


def is_worker(pid: int) -> bool:
    """Whether process `pid` was started by a page (an earlier one, when this one finds it at work)."""
    try:
        return pid > 0 and "geko_app.workers.training_worker" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def death_reason(process: subprocess.Popen[bytes] | None, folder: RunFolder) -> str:
    """Why a worker that wrote no end is gone, in words."""
    if process is None:
        return "Its process ended without a word: it was killed, or the machine went down. Resume goes on from there."
    code = process.returncode
    if code == DISK_FULL:
        return f"{full_sentence(folder.path)} Then resume."
    if code < 0:
        name = signal.Signals(-code).name
        hint = (
            " Most often the system does that when memory runs out: halve the batch size." if name == "SIGKILL" else ""
        )
        return f"The worker was ended by the system ({name}).{hint}"
    return "The worker ended without a word" + (f" (exit code {code})" if code else "") + ": see worker.log."
