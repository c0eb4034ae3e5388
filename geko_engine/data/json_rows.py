"""JSON values as rows: a document, or one line of JSON Lines. Knows no file but by its name in a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geko_engine.exceptions import DataError

MAX_DEPTH = 100  # of lists and objects in each other; no row that people write is deeper
CONVERSATION = "messages"  # the column of turns that stand alone
OF_A_ROW = (
    "prompt",
    "question",
    "instruction",
    "problem",
    "input",
    "text",
    "content",
)  # names no list of rows stands beside


class DoubleKeys(dict[str, Any]):
    """An object in which a key stood twice, here or further in; the last value of each counts.

    Attributes:
        names: the keys that stood twice here.
    """

    names: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON text. Called for each one, so it does little where there is nothing to say."""
    made = dict(pairs)
    if len(made) == len(pairs) and not any(map(_has_double, made.values())):
        return made
    found, names = DoubleKeys(made), [name for name, _ in pairs]
    found.names = tuple(name for name in made if names.count(name) > 1)
    return found


def _has_double(value: Any) -> bool:
    kind = type(value)
    return kind is DoubleKeys or (kind is list and any(type(item) is DoubleKeys for item in value))


def parse_json(text: str, path: Path, where: str = "") -> Any:
    """The value of a JSON text.

    Args:
        text: of a document, or of one line.
        path: its file.
        where: the line, where it is one; else the error names the line.

    Raises:
        DataError: it is not valid JSON, or too deep.
        JSONDecodeError: only without `where`: there is more after a first object.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        if not where and error.msg == "Extra data" and text.lstrip().startswith("{"):
            raise
        place = where or f"Line {error.lineno}"
        raise DataError(f"{place} of {str(path)!r} is not valid JSON: {error.msg} (column {error.colno}).") from error
    except RecursionError as error:
        raise _too_deep(path, where) from error
    except ValueError as error:  # more digits than Python reads
        raise DataError(
            f"{where or 'A value'} of {str(path)!r} is a number of thousands of digits: write it in quotes, as text."
        ) from error
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _too_deep(path, where)
    return value


def rows_of_line(value: Any, path: Path, where: str) -> dict[str, Any]:
    """The row of one line: an object, or a list of turns. Raises DataError."""
    if isinstance(value, dict):
        return _readable_names(value)
    if _is_conversation(value):
        return {CONVERSATION: value}
    raise DataError(f"{where} of {str(path)!r} is not an object with named values, but {type(value).__name__}.")


def rows_of_document(value: Any, path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON document.

    It is a list of rows, alone or as the only list of an object; an object of columns, each a list of the same length or,
    as pandas writes them, an object of the same keys; or one row, an object or a list of turns.

    Raises:
        DataError: it is none of these.
    """
    if _is_conversation(value):
        yield {CONVERSATION: value}
        return
    rows = _rows_of_object(value, path) if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise DataError(f"{str(path)!r} is not a list of rows: write [{{...}}, {{...}}] or one object a line (.jsonl).")
    for number, row in enumerate(rows, 1):
        yield rows_of_line(row, path, f"Row {number}")


def _rows_of_object(value: dict[str, Any], path: Path) -> list[Any]:
    lists = {name: item for name, item in value.items() if isinstance(item, list)}
    if any(map(_is_conversation, lists.values())) or (lists != value and _is_single(value)):
        return [value]
    tables = [name for name, item in lists.items() if item and all(isinstance(row, dict) for row in item)]
    if len(lists) == len(tables) == 1:
        return next(iter(lists.values()))
    if len(lists) == len(tables) > 1:
        raise DataError(
            f"{str(path)!r} holds several lists of rows ({', '.join(lists)}): write each to a file of its own."
        )
    columns = lists if lists == value else _columns_by_key(value)
    if columns and isinstance(value, DoubleKeys) and value.names:
        raise DataError(f"{str(path)!r} names the column {value.names[0]!r} twice: give each column its own name.")
    return _rows_of_columns(columns, path) if columns else [value]


def _is_conversation(value: Any) -> bool:
    """Whether a value is the turns of one conversation."""
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return False
    roles = all("role" in turn or "from" in turn for turn in value)
    return roles and any("content" in turn or "value" in turn or "tool_calls" in turn for turn in value)


def _is_single(value: dict[str, Any]) -> bool:
    return any(isinstance(value.get(name), str | int | float) for name in OF_A_ROW)


def _columns_by_key(value: dict[str, Any]) -> dict[str, list[Any]]:
    """Columns that pandas wrote as {"0": ..., "1": ...}; none where the object is something else."""
    keys = [list(item) for item in value.values() if isinstance(item, dict)]
    if not keys or len(keys) < len(value) or not keys[0] or any(k != [str(i) for i in range(len(k))] for k in keys):
        return {}
    return {name: list(item.values()) for name, item in value.items()}


def _rows_of_columns(columns: dict[str, list[Any]], path: Path) -> list[dict[str, Any]]:
    sizes = {name: len(cells) for name, cells in columns.items()}
    if len(set(sizes.values())) > 1:
        few, many = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        raise DataError(
            f"The columns of {str(path)!r} have different lengths ({few!r} has {sizes[few]:,} values, {many!r} "
            f"{sizes[many]:,}): give every row a value, or null."
        )
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _readable_names(row: dict[str, Any]) -> dict[str, Any]:
    """`row` with column names that a sentence can hold: half a character in one is written as its escape."""
    if all(map(str.isascii, row)):
        return row
    made = {name.encode("utf-8", "backslashreplace").decode(): value for name, value in row.items()}
    return DoubleKeys(made) if isinstance(row, DoubleKeys) else made


def _depth(value: Any) -> int:
    """How many lists and objects stand in each other. Without recursion: it is asked of what is too deep for that."""
    deepest, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        deepest += 1
        level = [item for parent in level for item in (parent.values() if isinstance(parent, dict) else parent)]
    return deepest


def _too_deep(path: Path, where: str) -> DataError:
    place = f"{where} of {str(path)!r}" if where else f"{str(path)!r}"
    return DataError(f"{place} is nested too deeply to be read: at most {MAX_DEPTH} lists and objects in each other.")
