"""Rows that a person flagged in an earlier run: reads row_flags.json, {"rows": [...]}, row numbers in the source from 1.

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

FIELD = "data.row_flags"
EXCLUDE, NEVER_FREEZE = "exclude", "never_freeze"


def flagged_rows(config: DataConfig, action: str) -> set[int]:
    """Numbers, from 0, of the flagged rows where `action` is what is to be done with them; else none.

    Raises:
        DataError: at data.row_flags, when the file cannot be read or is damaged.
    """
    if not config.row_flags or config.flag_action != action:
        return set()
    return {row - 1 for row in read_row_flags(config.row_flags)}


def among(rows: NDArray, wanted: Iterable[int]) -> NDArray:
    """Mask [count] of those of `rows` that are in `wanted`."""
    return np.isin(rows, np.fromiter(wanted, np.int64))


def read_row_flags(name: str) -> list[int]:
    """The row numbers, from 1, in the file `name`. Raises DataError at data.row_flags."""
    try:
        found = json.loads(Path(name).expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"There is no file {name!r}: flag samples on the Samples page, or leave it empty.", FIELD
        ) from None
    except OSError as error:
        raise DataError(
            f"The row flags {name!r} cannot be read ({error.strerror}): give a row_flags.json.", FIELD
        ) from error
    except ValueError as error:
        raise DataError(_damaged(name), FIELD) from error
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise DataError(_damaged(name), FIELD)
    return rows


def row_flags_problem(name: str | None) -> str:
    """Why the file `name` holds no row flags, or ""."""
    try:
        read_row_flags(name) if name else None
    except DataError as error:
        return str(error)
    return ""


def _is_row(value: Any) -> bool:
    return type(value) is int and value > 0


def _damaged(name: str) -> str:
    return f'{name!r} holds no row flags: give a run\'s row_flags.json, {{"rows": [3, 17]}} with row numbers from 1.'
