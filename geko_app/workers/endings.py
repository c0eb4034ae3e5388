"""Processes that are on their way out: each is ended in a thread of its own, and only who needs its place waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Endings:
    """The endings that have begun. Their owner's lock keeps `begin` to one thread at a time."""

    def __init__(self) -> None:
        self._threads: list[tuple[threading.Thread, int | None]] = []

    def begin(self, end: Callable[[], None], gpu: int | None = None) -> None:
        """Call `end`, which ends a process and waits for that, and do not wait for it.

        Args:
            end: called in a thread of its own.
            gpu: the GPU whose memory the process holds; None where there is no choice.
        """
        self._threads = [(thread, other) for thread, other in self._threads if thread.is_alive()]
        thread = threading.Thread(target=end, name="ending-process", daemon=True)
        self._threads.append((thread, gpu))
        thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all of these processes are gone: what a page leaves behind would keep its memory.

        Args:
            seconds: to wait for each at most; None for as long as it takes.

        Returns:
            Whether they are gone.
        """
        return _join([thread for thread, _ in self._threads], seconds)

    def holds(self, gpu: int | None) -> bool:
        """Whether one of these processes may still hold memory of a GPU."""
        return any(other == gpu and thread.is_alive() for thread, other in self._threads)

    def wait_for(self, gpu: int | None, seconds: float) -> bool:
        """Wait until none of these processes holds memory of a GPU; as `wait`. Not for who holds the owner's lock."""
        return _join([thread for thread, other in self._threads if other == gpu], seconds)


def _join(threads: list[threading.Thread], seconds: float | None) -> bool:
    for thread in threads:
        thread.join(seconds)
    return not any(thread.is_alive() for thread in threads)
