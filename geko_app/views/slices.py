"""The groups of a run's samples -> the tables that the Samples page draws. Pure."""

from __future__ import annotations

from typing import Any

from geko_app.formatting import UNKNOWN, format_loss, format_percent
from geko_app.samples.slices import Group

COLUMNS = ("Samples", "Loss", "Exact match", "Likely mislabeled", "Forgotten", "Compute")
TITLES = {"file": "File", "answer": "Answer"}


def slice_tables(found: dict[str, list[Group]]) -> list[dict[str, Any]]:
    """One table for each slicing: its name and title, and lines of texts with the value first."""
    return [
        {
            "name": name,
            "title": TITLES.get(name, name),
            "columns": [*COLUMNS],
            "lines": [_line(group) for group in groups],
        }
        for name, groups in found.items()
    ]


def _line(group: Group) -> list[str]:
    known = group.visited > 0
    return [
        group.value,
        f"{group.samples:,}",
        format_loss(group.loss) if known else UNKNOWN,
        format_percent(group.right) if known else UNKNOWN,
        f"{group.mislabeled:,}",
        f"{group.forgotten:,}",
        format_percent(group.compute),
    ]
