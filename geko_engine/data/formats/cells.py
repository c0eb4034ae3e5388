"""Cells of a table as text and as values, and what had to be changed to read them. Knows no format."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import uuid
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from geko_engine.data.formats.base import Row, UnreadableCell, UnusableRow

BOOLEANS = "whose {column!r} is true or false, which is learned as the word"
MISSING = "whose {column!r} is the word {text!r}, which is learned (leave such cells empty where there is no value)"
MISSING_WORDS = {"nan", "NaN", "null", "NULL", "None", "<NA>"}  # what tables write in place of an empty cell
FALSE_WORDS = {"false", "no", "off", "0", "0.0"}


class Cells:
    """The cells of one row.

    Args:
        row: the row as it came from its file.

    Attributes:
        notes: what was changed to read the cells that were asked for; each completes "N rows ...".
    """

    def __init__(self, row: Row) -> None:
        self.row = row
        self.notes: list[str] = []

    def value(self, column: str | None) -> Any:
        """The cell without the null values in it; None where it is missing or NaN. Raises UnusableRow."""
        if not column:
            return None
        try:
            return without_nulls(self.row.get(column))
        except UnusableRow as reason:
            raise UnusableRow(f"the column {column!r} holds {reason}") from None

    def text(self, column: str | None) -> str:
        """The cell as text: empty where it is missing, JSON where it is a list or an object. Raises UnusableRow."""
        found = self.value(column)
        if isinstance(found, bool):
            self.notes.append(BOOLEANS.format(column=column))
        text = as_text(found)
        if text in MISSING_WORDS:
            self.notes.append(MISSING.format(column=column, text=text))
        if not is_unicode(text):
            raise UnusableRow(f"the column {column!r} holds half a character (a lone surrogate)")
        return text

    def is_off(self, column: str | None) -> bool:
        """Whether the cell says no: false, 0, or a word for it."""
        found = self.value(column)
        return found is not None and is_off(found)


def something(text: str) -> str:
    """The text of what is learned; "" where it holds nothing but spaces and line breaks."""
    return text if text.strip() else ""


def is_off(value: Any) -> bool:
    """Whether a weight or a yes-or-no says that something is not to be learned."""
    return value.strip().lower() in FALSE_WORDS if isinstance(value, str) else not value


def is_unicode(text: str) -> bool:
    """Whether a tokenizer can read the text: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(value: Any) -> str:
    """A value without nulls as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=as_text)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return "" if value is None else str(value)


def without_nulls(value: Any) -> Any:
    """`value` without null and NaN at any depth; tables fill the keys that other rows have with them.

    Raises:
        UnusableRow: when it holds bytes, or what no text can be made of.
    """
    if isinstance(value, dict):
        kept = {str(name): without_nulls(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None}
    if isinstance(value, list | tuple):
        return [item for item in map(without_nulls, value) if item is not None]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and math.isinf(value):
        raise UnusableRow("an infinite number, not text")
    if isinstance(value, bytes | bytearray | memoryview):
        raise UnusableRow("bytes, not text")
    if isinstance(value, UnreadableCell):
        raise UnusableRow(value.reason)
    known = str | int | float | dt.date | dt.time | dt.timedelta | decimal.Decimal | uuid.UUID
    if isinstance(value, known):
        return value
    if hasattr(value, "tolist"):  # arrays and scalars of numpy
        return without_nulls(value.tolist())
    raise UnusableRow(f"a {type(value).__name__}, not text")


def restore_integers(rows: list[Row], starts: Sequence[int] = (0,)) -> tuple[list[Row], dict[str, list[int]]]:
    """Whole numbers that a table turned into fractions because the column has gaps, as whole numbers again.

    Args:
        rows: the rows of one dataset.
        starts: number of the first row of each table, counted from 0.

    Returns:
        The rows, and for each column that was restored the numbers of its rows, counted from 0.
    """
    restored: dict[str, list[int]] = {}
    for begin, end in pairwise([*starts, len(rows)]):
        for column, numbers in _whole_numbers(rows[begin:end]).items():
            restored.setdefault(column, []).extend(begin + number for number in numbers)
    if restored:
        rows = [dict(row) for row in rows]
        for column, numbers in restored.items():
            for number in numbers:
                rows[number][column] = int(rows[number][column])
    return rows, restored


def _whole_numbers(rows: list[Row]) -> dict[str, list[int]]:
    """The rows of one table whose numbers are whole in a column that has gaps, by column."""
    found = {}
    for column in {name for row in rows for name, value in row.items() if isinstance(value, float)}:
        cells = ((i, row.get(column)) for i, row in enumerate(rows))
        there = {i: value for i, value in cells if value is not None and value == value}  # NaN differs from itself
        whole = all(isinstance(value, float) and value.is_integer() for value in there.values())
        if whole and 0 < len(there) < len(rows):
            found[column] = list(there)
    return found
