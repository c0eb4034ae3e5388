"""What the user should know about the rows of a dataset, one sentence each: what is cut, left out, changed or not read. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from geko_engine.data.batches import TokenizedData
from geko_engine.data.formats import column_names
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.row_names import RowNames


@dataclass(frozen=True)
class Finding:
    """Something that the user should know about some rows.

    Attributes:
        kind: truncated, empty, masked, duplicate, unusable, flagged, corrected, deleted, outdated, trained,
            overlap or files. rows: their numbers, from 1.
        sentence: what it is and what follows from it, with the first row numbers.
    """

    kind: str
    rows: list[int]
    sentence: str


def finding(kind: str, rows: list[int], what: str, names: RowNames | None = None) -> Finding:
    """A finding about `rows`, counted from 0; `what` completes "N rows ...", and `names` says how rows are named."""
    return Finding(kind, [row + 1 for row in rows], _numbered(rows, f" {what}", names))


def _numbered(rows: list[int], what: str = "", names: RowNames | None = None) -> str:
    """How many rows, `what` of them, and the first of their numbers."""
    return f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}{what}: {(names or RowNames()).list(rows)}"


def findings(
    data: TokenizedData, limit: int, whose: str = "max_length", names: RowNames | None = None
) -> list[Finding]:
    """What the user should know about the rows of one dataset; `names` says how they are named."""
    listed = [
        ("truncated", data.truncated, f"cut at {limit} tokens ({whose})"),
        ("empty", data.empty, "without anything to learn, left out"),
        ("masked", data.masked, f"with nothing to learn within {limit} tokens ({whose}), left out"),
        ("duplicate", data.duplicates, "equal to an earlier one"),
        *(("changed", rows, what) for what, rows in data.notes.items()),
        *(("remark", rows, what) for what, rows in data.remarks.items()),
    ]
    for reason in dict.fromkeys(data.unusable.values()):
        rows = [row for row, why in data.unusable.items() if why == reason]
        listed.append(("unusable", rows, f"left out, because {reason}"))
    return [finding(kind, rows, what, names) for kind, rows, what in listed if rows]


def column_findings(rendered: RenderedRows) -> list[Finding]:
    """Columns that are not read, and those whose whole numbers had become fractions."""
    rows = [(number, row) for number, row in enumerate(rendered.rows) if row is not None and rendered.reads(row)]
    names = rendered.names
    unread = [name for name in column_names([row for _, row in rows]) if name not in rendered.format.columns]
    filled = [number for number, row in rows if any(row.get(name) is not None for name in unread)]
    found = [
        finding(
            "remark",
            numbers,
            f"whose {name!r} is learned as the whole number that it was before the column had gaps",
            names,
        )
        for name, numbers in rendered.restored.items()
    ]
    if filled:
        where = f", filled in {_numbered(filled, names=names)}" if len(filled) < len(rows) else ""
        found.append(
            Finding("unread", [n + 1 for n in filled], f"Columns that are not read: {', '.join(unread)}{where}")
        )
    return found


def excluded_findings(rendered: RenderedRows) -> list[Finding]:
    """Rows that are left out or changed: by row flags, by corrections, or for the earlier run."""
    left_out = [number for number, row in enumerate(rendered.rows) if row is None]
    before = [number for number in left_out if number in rendered.trained_before]
    deleted = [number for number in left_out if number in rendered.deleted]
    flagged = [number for number in left_out if number not in rendered.trained_before | rendered.deleted]
    found = [
        ("flagged", flagged, "left out, because they are flagged"),
        ("corrected", sorted(rendered.corrected), "corrected (data.corrections)"),
        ("deleted", deleted, "left out, because they are deleted (data.corrections)"),
        (
            "outdated",
            sorted(rendered.outdated),
            "not corrected (data.corrections): they have another text now, or are not there any more",
        ),
        ("trained", before, "left out, because the earlier run was trained on them"),
    ]
    return [finding(kind, rows, what, rendered.names) for kind, rows, what in found if rows]
