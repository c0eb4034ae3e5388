"""Waits for the signal that ends the page. Knows no page."""

from __future__ import annotations

import contextlib
import signal
import socket

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class EndSignal:
    """SIGINT or SIGTERM, from `install` on.

    Python runs its handlers in the main thread, and does not wake a main thread that waits for a lock when the system
    has handed the signal to another thread: the page would never end. What is written to the wake-up socket is seen in
    each case.
    """

    def __init__(self) -> None:
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)  # signal.set_wakeup_fd wants it

    def install(self) -> EndSignal:
        """Take the signals over, which only the main thread of a process can do. Returns self."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _ignore)  # a handler of Python's, or nothing would be written
        return self

    def wait(self) -> None:
        """Wait until one of the signals has come, since the last call or `forget`."""
        self._woken.recv(1)

    def forget(self) -> None:
        """Do not count the signals that have come so far."""
        self._woken.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(64):
                pass
        self._woken.setblocking(True)


def _ignore(_number: int, _frame: object) -> None:
    """Nothing more than the wake-up."""
