"""The log of decisions of a run, read again only when it changes. Knows no sample.

A run that was itself started with corrections goes on from those: its own log begins with a copy of them, so that it holds all
that was ever changed in the source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from geko_app.form.rerun_options import Corrected
from geko_engine.data.corrections import DELETE, REPLACE, Correction, current, read_corrections
from geko_engine.exceptions import GekoError
from geko_engine.runs.folder import RunFolder


def file_version(path: Path) -> str:
    """A text that changes with the file at `path`; "0" while there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return "0"
    return f"{found.st_mtime_ns}.{found.st_ino}.{found.st_size}"


def version(folder: RunFolder) -> str:
    """A text that changes with the decisions."""
    return f"{file_version(folder.corrections_path)}.{file_version(folder.used_corrections_path)}"


def log_of(folder: RunFolder) -> Sequence[Correction]:
    """All decisions that hold for the rows of a run, in their order. Raises DataError."""
    return _read(folder.corrections_path, file_version(folder.corrections_path)) or started_with(folder)


def started_with(folder: RunFolder) -> Sequence[Correction]:
    """The decisions that the run was started with. Raises DataError."""
    return _read(folder.used_corrections_path, file_version(folder.used_corrections_path))


def own_decisions(folder: RunFolder) -> dict[int, Correction]:
    """Row -> what was decided about this run's samples: not what it was started with. Raises DataError."""
    before = current(started_with(folder))
    return {row: found for row, found in current(log_of(folder)).items() if before.get(row) != found}


def corrected_rows(folder: RunFolder) -> Corrected | None:
    """The corrections of a run, for training again; None where they change nothing or cannot be read."""
    try:
        actions = Counter(found.action for found in own_decisions(folder).values())
    except GekoError:
        return None
    if not actions[REPLACE] + actions[DELETE]:
        return None
    model = str(folder.model_path.resolve()) if folder.model_path.is_dir() else ""
    log = str(folder.corrections_path.absolute())
    return Corrected(str(folder.path.resolve()), model, log, actions[REPLACE], actions[DELETE])


@lru_cache(maxsize=16)
def _read(path: Path, _version: str) -> Sequence[Correction]:
    return tuple(read_corrections(path))
