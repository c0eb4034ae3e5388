"""The queue of runs: a marker file in the folder of each. Knows no process and starts nothing.

The marker holds the run's place and whether it is to be resumed; its status has the phase "queued". Removing the
marker takes the run out, so two pages over one folder cannot both start it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from geko_app.runs.store import RunStore
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.status import Status
from geko_engine.storage.atomic_files import replace_json

MARKER = "queued"
QUEUED = "queued"  # the phase in status.json
REMOVED = "Removed from the queue before it started."


@dataclass(frozen=True)
class Waiting:
    """One queued run; `place` only orders it among the others."""

    place: int
    id: str
    resume: bool = False


class RunQueue:
    """The queued runs of a store."""

    def __init__(self, store: RunStore) -> None:
        self.store = store

    def waiting(self) -> list[Waiting]:
        """All queued runs, the next one first."""
        return sorted(self._found(), key=lambda run: (run.place, run.id))

    def holds(self, run_id: str) -> bool:
        """Whether this run is queued."""
        return is_queued(self.store.folder(run_id))

    def ahead_of(self, run_id: str) -> list[str]:
        """Ids of the runs queued before this one, the next one first."""
        ids = [run.id for run in self.waiting()]
        return ids[: ids.index(run_id)] if run_id in ids else []

    def add(self, folder: RunFolder, *, resume: bool, first: bool = False) -> None:
        """Put a run at the end, or before all others; `resume` says whether it continues from a checkpoint."""
        places = [run.place for run in self.waiting()] or [0]
        place = min(places) - 1 if first else max(places) + 1
        replace_json(folder.path / MARKER, {"place": place, "resume": resume})
        replace_json(folder.path / "status.json", asdict(Status(QUEUED)))

    def take(self, run_id: str) -> bool:
        """Take a run out; returns False if it was taken already."""
        try:
            (self.store.folder(run_id).path / MARKER).unlink()
        except FileNotFoundError:
            return False
        return True

    def leave(self, run_id: str) -> None:
        """Remove a run without starting it; it can be resumed later."""
        if self.take(run_id):
            folder = self.store.folder(run_id)
            replace_json(folder.path / "status.json", asdict(Status("stopped", end="stopped", reason=REMOVED)))

    def _found(self) -> Iterator[Waiting]:
        for run_id in self.store.ids():
            folder = self.store.folder(run_id)
            if is_queued(folder):
                place, resume = _read(folder)
                yield Waiting(place, run_id, resume)


def is_queued(folder: RunFolder) -> bool:
    """Whether the run is queued: it has a marker, and no command line has started it meanwhile."""
    if not (folder.path / MARKER).exists():
        return False
    status = folder.status()
    return status is None or status.phase == QUEUED


def _read(folder: RunFolder) -> tuple[int, bool]:
    """(place, resume) of a marker; one that cannot be read comes first, as a new run."""
    try:
        values = json.loads((folder.path / MARKER).read_text(encoding="utf-8"))
        return int(values["place"]), bool(values["resume"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, False
