"""Processes that are on their way out: each is ended in a thread of its own, and nobody waits but a page that closes."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Endings:
    """The endings that have begun. Their owner's lock keeps `begin` to one thread at a time."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def begin(self, end: Callable[[], None]) -> None:
        """Call `end`, which ends a process and waits for that, and do not wait for it."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=end, name="ending-process", daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Wait until all of these processes are gone: what a page leaves behind would keep its memory."""
        for thread in list(self._threads):
            thread.join()
