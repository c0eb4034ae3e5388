"""Rows that a person marked in an earlier run: reads marks.json, {"rows": [...]}, row numbers in the source from 1.

Knows no data: whether the numbers are of the same data, only the user can tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.sections import DataConfig
from geko_engine.exceptions import DataError

FIELD = "data.marks"
EXCLUDE, NEVER_FREEZE = "exclude", "never freeze"


def flagged_rows(config: DataConfig, treated: str) -> set[int]:
    """Numbers, from 0, of the rows that are marked, where marked rows are to be `treated` so; else none.

    Raises:
        DataError: at data.marks, when the file cannot be read or is damaged.
    """
    return {row - 1 for row in read_row_flags(config.marks)} if config.marks and config.marked == treated else set()


def among(rows: NDArray, wanted: Iterable[int]) -> NDArray:
    """Mask [count] of those of `rows` that are in `wanted`."""
    return np.isin(rows, np.fromiter(wanted, np.int64))


def read_row_flags(name: str) -> list[int]:
    """The row numbers, from 1, in the file `name`. Raises DataError at data.marks."""
    try:
        found = json.loads(Path(name).expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"There is no file {name!r}: mark samples on the Samples page, or leave it empty.", FIELD
        ) from None
    except OSError as error:
        raise DataError(f"The marks {name!r} cannot be read ({error.strerror}): give a marks.json.", FIELD) from error
    except ValueError as error:
        raise DataError(_damaged(name), FIELD) from error
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise DataError(_damaged(name), FIELD)
    return rows


def row_flags_problem(name: str | None) -> str:
    """Why the file `name` holds no marks, or ""."""
    try:
        read_row_flags(name) if name else None
    except DataError as error:
        return str(error)
    return ""


def _is_row(value: Any) -> bool:
    return type(value) is int and value > 0


def _damaged(name: str) -> str:
    return f'{name!r} holds no marks: give a run\'s marks.json, {{"rows": [3, 17]}} with row numbers from 1.'
