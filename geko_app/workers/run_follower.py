"""Follows one worker process: reads its events and works out why it died. Knows no queue of runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from geko_app.runs.folded_events import FoldedEvents
from geko_app.runs.live_state import RunState
from geko_engine.reporting.events import Event, PhaseChanged, RunEnded
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.status import Status
from geko_engine.runs.writer import mark_interrupted
from geko_engine.storage.disk_space import DISK_FULL, full_sentence

POLL_SECONDS = 0.1
DAMAGED = " A library met what it cannot survive: a damaged data file, most often. Write that file again."
HINTS = {
    "SIGKILL": " This usually means that memory ran out: halve the batch size.",
    **dict.fromkeys(("SIGSEGV", "SIGBUS", "SIGABRT"), DAMAGED),
}
ENDED_ON_REQUEST = "The worker was ended at once, as requested, before it had saved. Press Resume to continue."
TRAINING_WORKER = "geko_app.workers.training_worker"


class Feed:
    """One run's events on their way to the page: a follower's thread folds them, and so does any request thread.

    Args:
        folder: the run to read.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._events, self._lock = FoldedEvents(folder), threading.Lock()
        self._unwritten: list[Event] = []  # what only this page knows, until the worker writes again
        self._generations = 0  # of the state before the file was rewritten

    def read(self) -> None:
        """Fold the events that the worker has written since the last call."""
        with self._lock:
            rewritten, generation = self._events.rewritten, self._events.state.generation
            if self._events.read():
                self._unwritten.clear()
            if self._events.rewritten > rewritten:
                self._generations += generation + 1

    def mark_resumed(self) -> None:
        """Show the run as starting until its worker's first event, no longer as ended."""
        self._show(PhaseChanged("starting", "resuming"))

    def mark_ended(self, reason: str) -> None:
        """Mark the run as interrupted if its worker wrote no end.

        On a full disk the mark cannot be written: then only the page knows, until the next attempt.
        """
        try:
            mark_interrupted(self.folder, reason)
        except OSError:
            if not any(isinstance(event, RunEnded) for event in self._unwritten):  # the first reason is the best one
                self._show(RunEnded("interrupted", reason, {}))

    def state(self) -> RunState:
        """A copy of the state after all events read so far."""
        with self._lock:
            state = self._events.state.copy()
            state.generation += self._generations
            for event in self._unwritten:
                state.apply({"time": time.time(), **event.to_dict()})
            # Their lines are not in the file: a tab that counted them would miss as many of the worker's.
            state.log, state.logged = self._events.state.log.copy(), self._events.state.logged
            return state

    def _show(self, event: Event) -> None:
        with self._lock:
            self._unwritten = [event]


@dataclass(frozen=True)
class Patience:
    """How long a worker may take to stop.

    Attributes:
        grace_seconds: from the stop request to SIGTERM, or from the end of a checkpoint or model that was being written.
        kill_seconds: from SIGTERM to SIGKILL.
        save_seconds: how long after the stop request a checkpoint or model may still be written.
        flush_seconds: how long its files may stay as they are, while they are checked and flushed to the disk.
    """

    grace_seconds: float
    kill_seconds: float
    save_seconds: float
    flush_seconds: float


class SavingWatch:
    """Whether a run writes a checkpoint or model: one in which nothing changes any more was left by a killed writer.

    Args:
        folder: of the run.
        flush_seconds: as in Patience.
        clock: gives seconds.
    """

    def __init__(self, folder: RunFolder, flush_seconds: float, clock: Callable[[], float]) -> None:
        self._folder, self._flush_seconds, self._clock = folder, flush_seconds, clock
        self._seen: dict[str, tuple[int, float]] | None = None
        self._changed_at = 0.0

    def is_saving(self) -> bool:
        """Whether something is half written, and has changed not long ago."""
        now, seen = self._clock(), self._folder.half_written()
        if self._seen is None and seen:  # the first look: only the files know when they changed
            self._changed_at = now - max(0.0, time.time() - max(changed for _, changed in seen.values()))
        elif self._seen is not None and seen != self._seen:
            self._changed_at = now
        self._seen = seen
        return bool(seen) and now - self._changed_at <= self._flush_seconds


class RunFollower(threading.Thread):
    """Follows one worker to its end; once a stop is requested, terminates and then kills a worker that does not react.

    Args:
        feed: receives the events.
        process: the worker if this page started it; None for a worker found at work.
        patience: how long it may take to stop.
        on_end: called last, in this thread.
        clock: gives the seconds by which patience is measured.
    """

    def __init__(
        self,
        feed: Feed,
        process: subprocess.Popen[bytes] | None,
        patience: Patience,
        on_end: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name=f"follow-{feed.folder.id}", daemon=True)
        self.own = process is not None or is_page_worker((feed.folder.status() or Status()).pid)
        self.feed, self._process, self._on_end = feed, process, on_end
        self._patience, self._clock = patience, clock
        self.finished = False
        self._saving = SavingWatch(feed.folder, patience.flush_seconds, clock)
        self._stop_requested_at: float | None = None
        self._end_requested_at: float | None = None
        self._last_saving_at = 0.0
        self._forced_reason = ""

    def run(self) -> None:
        while self._process_is_alive():
            self.feed.read()
            self._enforce_stop()
            time.sleep(POLL_SECONDS)
        self.feed.read()
        self.feed.mark_ended(self._forced_reason or death_reason(self._process, self.feed.folder))
        self.finished = True
        self._on_end()

    def request_stop(self, *, now: bool = False) -> None:
        """Raise the stop flag; the grace period begins with the first call.

        Args:
            now: whether to end the worker without more patience, also in the middle of a checkpoint.
        """
        try:
            self.feed.folder.request_stop()
        except OSError:  # the disk has no room for the flag; the worker treats SIGTERM the same way
            self._signal(signal.SIGTERM)
        self._stop_requested_at = self._stop_requested_at or self._clock()
        if now:
            self._end_requested_at = self._end_requested_at or self._clock()

    def _process_is_alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        status = self.feed.folder.status() or Status()
        # A page's worker must be gone before the next run starts, for its memory; another program may outlive its run.
        return status.alive and (self.own or not status.end)

    def _enforce_stop(self) -> None:
        if self._stop_requested_at is None:
            return
        if self._end_requested_at is not None:
            self._force(self._clock() - self._end_requested_at, ENDED_ON_REQUEST, ENDED_ON_REQUEST)
            return
        now, patience = self._clock(), self._patience
        waited = now - self._stop_requested_at
        if waited <= patience.save_seconds and self._saving.is_saving():
            self._last_saving_at = now  # what it is busy with is what the stop is to keep
        overdue = now - max(self._stop_requested_at, self._last_saving_at) - patience.grace_seconds
        self._force(
            overdue,
            f"The worker did not react to the stop request for {waited:.0f} s and was terminated.",
            f"The worker did not react to the stop request for {waited:.0f} s and was killed.",
        )

    def _force(self, overdue: float, terminated: str, killed: str) -> None:
        """Terminate a worker that is `overdue` by some seconds, or kill it; the reasons are for the user."""
        if overdue > self._patience.kill_seconds:
            self._forced_reason = killed
            self._signal(signal.SIGKILL)
        elif overdue > 0 and not self._forced_reason:
            self._forced_reason = terminated
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # does nothing if it has just ended
            return
        status = self.feed.folder.status() or Status()
        if status.alive:  # never a stranger that got the pid since, and never 0, which is this process group
            with contextlib.suppress(ProcessLookupError):
                os.kill(status.pid, number)


def is_page_worker(pid: int) -> bool:
    """Whether process `pid` is a training worker that this page or an earlier one started."""
    try:
        return pid > 0 and TRAINING_WORKER in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def death_reason(process: subprocess.Popen[bytes] | None, folder: RunFolder) -> str:
    """One sentence for the user: why a worker that wrote no end is gone.

    Args:
        process: the ended worker; None if this page did not start it.
        folder: its run.
    """
    if process is None:
        return "The process ended unexpectedly: it was killed, or the computer went down. Press Resume to continue."
    code = process.returncode
    if code == DISK_FULL:
        return f"{full_sentence(folder.path)} Then resume."
    if code < 0:
        name = signal.Signals(-code).name
        return f"The worker was ended by the system ({name}).{HINTS.get(name, '')}"
    return "The worker ended unexpectedly" + (f" (exit code {code})" if code else "") + ": see worker.log."
