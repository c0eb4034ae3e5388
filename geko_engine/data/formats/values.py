"""Cells of a table as text."""

from __future__ import annotations

import json

from geko_engine.data.formats.base import Row


def text_of(row: Row, column: str | None) -> str:
    """The cell as text: empty where it is missing, JSON where it is a list or an object."""
    found = row.get(column) if column else None
    if isinstance(found, dict | list):
        return json.dumps(found, ensure_ascii=False)
    return "" if found is None else str(found)
