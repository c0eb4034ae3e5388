"""The groups of a run's samples -> the tables that the Samples page draws. Pure."""

from __future__ import annotations

from typing import Any

from geko_app.formatting import UNKNOWN, format_loss, format_percent
from geko_app.samples.slices import Group, slicings
from geko_app.samples.store import Samples

COLUMNS = ("Samples", "Loss", "Exact match", "Suspected labels", "Forgotten", "Compute")
TITLES = {"file": "File", "answer": "Answer"}
ABOUT = (
    "The highest loss comes first. Forgotten: right after some epoch, and wrong now. Compute: share of all trained tokens. Open a "
    "group to see its samples."
)
NONE = (
    "The samples of this run cannot be grouped: they come from one file, their answers do not repeat, and the data has no other "
    "column of few values. Runs of earlier versions have no groups either."
)


def slice_tables(samples: Samples) -> dict[str, Any]:
    """One table for each slicing: its name and title, and lines of texts with the value first; and a note on them."""
    groupings = [
        {
            "name": name,
            "title": TITLES.get(name, name),
            "columns": list(COLUMNS),
            "lines": [group_line(group) for group in groups],
        }
        for name, groups in slicings(samples).items()
    ]
    return {"groupings": groupings, "note": ABOUT if groupings else NONE}


def group_line(group: Group) -> list[str]:
    """The texts of one group."""
    known = group.visited > 0
    return [
        group.value,
        f"{group.samples:,}",
        format_loss(group.loss) if known else UNKNOWN,
        format_percent(group.right) if known else UNKNOWN,
        f"{group.suspected:,}",
        f"{group.forgotten:,}",
        format_percent(group.compute),
    ]
