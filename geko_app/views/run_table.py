"""The list of runs as the page shows it, and what of it is new to a tab. Knows no layout."""

from __future__ import annotations

import secrets
import threading
from typing import Any

from geko_app.runs.queue import QUEUED
from geko_app.runs.summary import FactsReader
from geko_app.views.runs import row
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import RunError


class RunTable:
    """Every line has the number of its last change; a tab asks for those after the number that it has seen."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor, self.reader = supervisor, FactsReader()
        self._book = secrets.token_hex(4)  # of these numbers: those of an earlier page mean nothing here
        self._number, self._listed = 0, 0
        self._lines: dict[str, tuple[int, dict[str, Any]]] = {}
        self._ids: list[str] = []
        self._lock = threading.Lock()

    def news(self, book: str, since: int) -> dict[str, Any]:
        """The lines that changed after `since`; all ids, newest first, when a run came or went."""
        with self._lock:
            self._renew()
            since = since if book == self._book and since <= self._number else -1
            return {
                "book": self._book,
                "number": self._number,
                "ids": self._ids if self._listed > since else None,
                "rows": [line for changed, line in self._lines.values() if changed > since],
            }

    def _renew(self) -> None:
        found = {run_id: line for run_id in self.supervisor.store.ids() if (line := self._line(run_id))}
        ids = sorted(found, key=lambda run_id: (found[run_id]["cells"]["when"]["order"], run_id), reverse=True)
        news = [run_id for run_id in ids if self._lines.get(run_id, (0, None))[1] != found[run_id]]
        if ids == self._ids and not news:
            return
        self._number += 1
        self._listed = self._number if ids != self._ids else self._listed
        self._ids = ids
        self._lines = {i: (self._number, found[i]) if i in news else self._lines[i] for i in ids}

    def _line(self, run_id: str) -> dict[str, Any] | None:
        try:
            folder = self.supervisor.store.folder(run_id)
            if self._lines.get(run_id, (0, {"ended": False}))[1]["ended"] is False:
                self.supervisor.look(run_id)  # a command line may have begun it, or its process may be gone
            facts = self.reader.facts(folder)
            after = self.supervisor.waits_for(run_id) if facts.phase == QUEUED else None
        except RunError:
            return None  # just deleted
        return row(facts, after)
