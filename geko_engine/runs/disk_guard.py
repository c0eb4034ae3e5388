"""Stops a run from filling its disk: before it writes, it waits until there is room. Knows no trainer and no screen.

A run that waits is paused, with a sentence that says what it needs, and goes on by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from geko_engine.reporting.events import PAUSED, Event, Message, PhaseChanged, RunStarted, StepCompleted
from geko_engine.storage.disk_space import free_bytes, shortage_sentence

ROOM = 1_000_000  # bytes that stay free: for events, the status and the sample record of small data
WAIT_SECONDS = 1.0
CHECKPOINT, MODEL = "checkpoint", "model"


class DiskGuard:
    """A listener that passes every event on, once there is room for what the run writes next.

    Args:
        folder: on the disk that is written to.
        emit: receives all events, and those of the pause.
        should_stop: True ends the pause; the run then fails to write, or stops.
        free: bytes left on the disk of a folder.
        sleep: called with the seconds between two looks.
    """

    def __init__(
        self,
        folder: Path,
        emit: Callable[[Event], None],
        should_stop: Callable[[], bool],
        *,
        free: Callable[[Path], int] = free_bytes,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._folder, self._emit, self._should_stop = folder, emit, should_stop
        self._free, self._sleep = free, sleep
        self._phase: PhaseChanged | None = None
        self.sizes: dict[str, Callable[[], int]] = {}  # of CHECKPOINT and MODEL; without any it waits for nothing

    def __call__(self, event: Event) -> None:
        what, needed = self._next_write(event)
        if needed and self._free(self._folder) < needed:
            self._pause(what, needed)
        if isinstance(event, PhaseChanged):
            self._phase = event
        self._emit(event)

    def _next_write(self, event: Event) -> tuple[str, int]:
        """(its name, bytes) of what the run writes after `event`; 0 bytes if that is not worth a look."""
        if isinstance(event, StepCompleted) and self.sizes:
            return "the run", ROOM
        saved = (
            (CHECKPOINT, MODEL)
            if isinstance(event, RunStarted)
            else (event.message,)
            if isinstance(event, PhaseChanged) and event.phase == "saving"
            else ()
        )
        names = [name for name in saved if name in self.sizes]
        if not names:
            return "", 0
        return " and ".join(f"the {name}" for name in names), ROOM + sum(self.sizes[name]() for name in names)

    def _pause(self, what: str, needed: int) -> None:
        if self._should_stop():
            return
        self._emit(PhaseChanged(PAUSED, shortage_sentence(self._folder, self._free(self._folder), needed, what)))
        if not wait_until(lambda: self._free(self._folder) >= needed, self._should_stop, self._sleep):
            return
        self._emit(Message("There is room on the disk again: the run goes on."))
        if self._phase is not None:
            self._emit(self._phase)


def wait_until(
    ready: Callable[[], bool], should_stop: Callable[[], bool], sleep: Callable[[float], object] = time.sleep
) -> bool:
    """Look every WAIT_SECONDS until `ready` is true, or a stop was asked for. Returns whether it was ready."""
    while not ready():
        if should_stop():
            return False
        sleep(WAIT_SECONDS)
    return True
