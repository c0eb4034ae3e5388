"""The stop flag of a run: set by signals or by the stop file."""

from __future__ import annotations

import signal
from pathlib import Path

from geko_engine.runs.folder import RunFolder


class StopFlag:
    """Callable that returns True once a stop was requested, by the run's `stop` file or by SIGINT or SIGTERM.

    A second SIGINT ends the process at once (KeyboardInterrupt).

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._path = Path(folder.stop_path)
        self.signalled = False

    def install(self) -> StopFlag:
        """Install the signal handlers, which only the main thread of a process can do. Returns self."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.signalled and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signalled = True

    def __call__(self) -> bool:
        return self.signalled or self._path.exists()
