"""The stop flag of a run: signals, the stop file, a parent that is gone."""

from __future__ import annotations

import signal
from pathlib import Path

from geko_engine.runs.folder import RunFolder


class StopFlag:
    """True once a stop was asked for: by the `stop` file of the run, or by SIGINT or SIGTERM to this process.

    A second SIGINT ends the process at once.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._path = Path(folder.stop_path)
        self.signalled = False

    def install(self) -> StopFlag:
        """Listen to the signals; only the main thread of a process may."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.signalled and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signalled = True

    def __call__(self) -> bool:
        return self.signalled or self._path.exists()
