"""Checks the texts of runs for data issues, one worker process at a time. Knows no page and no torch.

The process (issue_check_worker.py) writes issues.json beside the run. It has a low priority and one thread: a training at the
same time comes first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence

from geko_engine.runs.folder import RunFolder
from geko_engine.runs.issue_check import issues_path

CHECK_COMMAND = (sys.executable, "-P", "-m", "geko_app.workers.issue_check_worker")  # -P: as in supervisor.py
RUNNING, WAITING, FAILED = "running", "waiting", "failed"


class IssueChecks:
    """Starts checks and follows them.

    Args:
        command: starts a check; the run's folder is appended.
    """

    def __init__(self, command: Sequence[str] = CHECK_COMMAND) -> None:
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._run = ""
        self._tried: set[str] = set()  # once is enough: what fails, fails again
        self._lock = threading.Lock()

    def look(self, folder: RunFolder) -> str:
        """How far the check of a run's texts is, which the first look at them starts: as `start`, "" when nothing is to do."""
        is_ready = folder.rows_path.exists() and folder.texts_path.exists()
        return self.start(folder) if is_ready and not issues_path(folder).exists() else ""

    def start(self, folder: RunFolder) -> str:
        """Start the check of a run whose texts are there, unless it was tried before or another one is running.

        Returns:
            RUNNING, WAITING (for the check of another run), or FAILED.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return RUNNING if self._run == folder.id else WAITING
            if folder.id in self._tried:
                return FAILED
            self._tried.add(folder.id)
            self._run = folder.id
            self._process = subprocess.Popen(
                [*self._command, str(folder.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            return RUNNING

    def shutdown(self) -> None:
        """End the process; what it has not finished is checked again after the next start."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait()
