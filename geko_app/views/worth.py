"""What a run was worth against the run that it was made from: with its corrections, or on a choice of its rows. Knows no page."""

from __future__ import annotations

from collections.abc import Sequence

from geko_app.samples.paired_runs import paired_difference
from geko_app.views.core_set import source_run, verdict
from geko_app.views.corrections_worth import corrected_run, worth_sentence
from geko_app.views.paired import CAUTION
from geko_engine.runs.folder import RunFolder


def worth(folder: RunFolder) -> str:
    """What an ended run was worth; "" for one that was made from no other run in these ways."""
    return verdict(folder) or worth_sentence(folder)


def worth_of_two(folders: Sequence[RunFolder], names: Sequence[str]) -> str:
    """What one of two runs was worth against the other, where it was made from that one; else "".

    Args:
        folders: of the runs that are compared. names: of these runs.
    """
    if len(folders) != 2:
        return ""
    for later, earlier in ((1, 0), (0, 1)):
        source = source_run(folders[later]) or corrected_run(folders[later])
        if source is None or source.path.resolve() != folders[earlier].path.resolve():
            continue
        if said := worth(folders[later]):
            is_compared = CAUTION not in said and paired_difference(folders[earlier], folders[later]) is not None
            return _of_two(names[later], names[earlier], said, is_compared=is_compared)
    return ""


def _of_two(later: str, earlier: str, said: str, *, is_compared: bool) -> str:
    caution = f" {CAUTION}" if is_compared else ""
    return f"{later} was made from {earlier}. {said}{caution}"
