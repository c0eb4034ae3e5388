"""Rows that a person flagged in an earlier run: reads {"rows": [...]}, row numbers of the source from 1.

Knows no data: the user answers for it that the numbers belong to the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.sections import DataConfig
from geko_engine.exceptions import DataError
from geko_engine.storage.user_paths import FILE, expand, kind_of, path_problem, shown_path

FIELD = "data.row_flags"
MAX_FLAGS = 100_000_000  # characters: ten million row numbers
EXCLUDE, NEVER_FREEZE = "exclude", "never_freeze"


def flagged_rows(config: DataConfig, action: str) -> set[int]:
    """The flagged rows, counted from 0, where `action` is what the settings do with them; else none.

    Args:
        config: names the file and the action.
        action: EXCLUDE or NEVER_FREEZE.

    Raises:
        DataError: at the setting of the file, when it cannot be read or is damaged.
    """
    return (
        {row - 1 for row in read_row_flags(config.row_flags)}
        if config.row_flags and config.flag_action == action
        else set()
    )


def among(rows: NDArray[Any], wanted: Iterable[int]) -> NDArray[Any]:
    """Mask [count] of those of `rows` that are in `wanted`."""
    return np.isin(rows, np.fromiter(wanted, np.int64))


def read_row_flags(name: str) -> list[int]:
    """The row numbers in a file of flags.

    Args:
        name: path of the file.

    Returns:
        Row numbers, counted from 1.

    Raises:
        DataError: at the setting of the file, when it cannot be read or is damaged.
    """
    problem = path_problem(name)
    if problem:
        raise DataError(problem, FIELD)
    if kind_of(name) != FILE:
        raise DataError(
            f"There is no file {shown_path(name)}: flag samples on the Samples page, or leave it empty.", FIELD
        )
    try:
        with expand(name).open(encoding="utf-8") as file:
            text = file.read(MAX_FLAGS + 1)
        found = json.loads(text) if len(text) <= MAX_FLAGS else None
    except OSError as error:
        raise DataError(
            f"The row flags {shown_path(name)} cannot be read ({error.strerror}): give a row_flags.json.", FIELD
        ) from error
    except (ValueError, RecursionError) as error:
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
    return f'{shown_path(name)} holds no row flags: give a run\'s row_flags.json, {{"rows": [3, 17]}} with row numbers from 1.'
