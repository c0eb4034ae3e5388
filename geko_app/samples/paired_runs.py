"""Two runs compared on the evaluation rows that both answered, anew only when a file changes: a page asks with every poll."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from geko_app.samples.correction_log import file_version
from geko_engine.exceptions import RunError
from geko_engine.runs.evaluation_scores import PairedDifference, compare, load
from geko_engine.runs.folder import RunFolder


def paired_difference(first: RunFolder, second: RunFolder) -> PairedDifference | None:
    """The second run minus the first one; None where one has no evaluation or they hardly have a row in common."""
    paths = first.evaluation_path, second.evaluation_path
    return _compared(*paths, *map(file_version, paths))


@lru_cache(maxsize=64)
def _compared(first: Path, second: Path, _first_version: str, _second_version: str) -> PairedDifference | None:
    try:
        return compare(load(first), load(second))
    except RunError:
        return None  # without an evaluation, or of an earlier version
