"""Pushes the model of each run that ends as complete to the Hub, as long as the page lives. Knows no request.

A run that had ended before the page was started is left alone, so a restart pushes nothing twice.
"""

from __future__ import annotations

import threading

from geko_app.services import Services
from geko_app.workers.export_jobs import ExportOptions
from geko_engine.exceptions import GekoError
from geko_engine.runs.status import Status

SECONDS = 5.0  # between two looks


class PushAtEnd:
    """A thread that looks for ends.

    Args:
        services: of the page.
        owner: user or organization of the repositories.
        seconds: between two looks.
    """

    def __init__(self, services: Services, owner: str, seconds: float = SECONDS) -> None:
        self._services, self._owner, self._seconds = services, owner, seconds
        self._store = services.supervisor.store
        self._seen = {run_id for run_id in self._store.ids() if self._end(run_id)}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="push-at-end", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Begin the export of one run that has ended since; the others wait for the next look."""
        for run_id in reversed(self._store.ids()):  # oldest first
            end = "" if run_id in self._seen else self._end(run_id)
            if not end:
                continue
            if end == "complete" and self._has_model(run_id) and not self._begun(run_id):
                return  # another export is running
            self._seen.add(run_id)

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self.look()

    def _begun(self, run_id: str) -> bool:
        try:
            self._services.exports.start(run_id, "hub", ExportOptions(f"{self._owner}/{run_id}"))
        except GekoError:
            return False
        return True

    def _has_model(self, run_id: str) -> bool:
        return self._store.folder(run_id).model_path.is_dir()

    def _end(self, run_id: str) -> str:
        try:
            return (self._store.folder(run_id).status() or Status()).end
        except GekoError:
            return ""  # just deleted
