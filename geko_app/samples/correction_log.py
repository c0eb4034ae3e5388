"""The log of decisions of a run, read again only when it changes. Knows no sample.

A run that was itself started with corrections goes on from those: its own log begins with a copy of them, so that it holds all
that was ever changed in the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from geko_engine.data.corrections import KEEP, Correction, current, read_corrections
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
    """Row -> what was decided about this run's samples: not what it was started with. Raises DataError.

    A row that was edited before the run and kept in it is edited still; here that is KEEP.
    """
    before, found = current(started_with(folder)), {}
    for row, made in current(log_of(folder)).items():
        old = before.get(row)
        if old == made:
            continue
        is_kept = old is not None and replace(made, at=old.at) == old
        found[row] = Correction(row, made.digest, KEEP, at=made.at) if is_kept else made
    return found


@lru_cache(maxsize=16)
def _read(path: Path, _version: str) -> Sequence[Correction]:
    return tuple(read_corrections(path))
