"""By what the samples of a run can be grouped: file, answer, and columns of few values. Knows no record and no page.

slices.parquet   row i is sample i; one column of texts for each slicing, which its metadata `slices` names in order
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from geko_engine.data.batches import TokenizedData
from geko_engine.data.formats import Rendering
from geko_engine.data.formats.cells import is_unicode
from geko_engine.data.rendering import RenderedRows
from geko_engine.storage.atomic_files import replace_file

MOST_VALUES = 200  # of one slicing; a column with more is no group but a text
LONGEST = 100  # characters of a value
SMALLEST_GROUP = 2.0  # samples of a value, on average
FILE, ANSWER, NOTHING = "file", "answer", "(none)"


def write_slices(path: Path, rendered: RenderedRows, data: TokenizedData) -> None:
    """Write slices.parquet, whole or not at all; a file without columns where the samples cannot be grouped.

    Args:
        path: of the file. rendered: the rows that `data` was made of. data: the samples of the run.

    Raises:
        OSError: when the disk is full.
    """
    found = slices_of(rendered, data)
    columns = {name: pa.array(values, pa.string()).dictionary_encode() for name, values in found.items()}
    table = pa.table(columns).replace_schema_metadata({"slices": json.dumps(list(found))})
    replace_file(path, lambda file: parquet.write_table(table, file, compression="zstd"))


def slices_of(rendered: RenderedRows, data: TokenizedData) -> dict[str, list[str]]:
    """Name of each slicing -> its value for every sample, [count]."""
    numbers = data.rows.tolist()
    found: dict[str, list[str]] = {}
    if rendered.names.files:
        found[FILE] = _kept(rendered.names.file(number) for number in numbers) or []
    if rendered.format.has_answers:
        chosen = zip(numbers, data.parts.tolist(), strict=True)
        found[ANSWER] = _kept(_answer(rendered[number][part]) for number, part in chosen) or []
    for name in _other_columns(rendered):
        values = _kept(_value((rendered.rows[number] or {}).get(name)) for number in numbers)
        found[name if name not in found else f"column {name}"] = values or []
    return {name: values for name, values in found.items() if values}


def _other_columns(rendered: RenderedRows) -> list[str]:
    """Columns that are not read as text of a sample, in the order in which they first come."""
    names = dict.fromkeys(name for row in rendered.rows if row is not None for name in row)
    return [
        name for name in names if isinstance(name, str) and is_unicode(name) and name not in rendered.format.columns
    ]


def _answer(rendering: Rendering) -> str | None:
    learnt = [text for text, is_learnt in rendering.segments if is_learnt]
    return _value(learnt[-1].strip()) if learnt else None


def _value(value: Any) -> str | None:
    """A value as a text; None where it is no name of a group."""
    if value is None or value == "":
        return NOTHING
    if not isinstance(value, str | bool | int):
        return None
    text = str(value).encode("utf-8", "replace").decode()  # half a character cannot be written
    return text if len(text) <= LONGEST else None


def _kept(values: Iterable[str | None]) -> list[str] | None:
    """The values as a list; None where they form no groups: too many, too long, or all alike. Ends early then."""
    found, seen = [], set()
    for value in values:
        if value is None:
            return None
        seen.add(value)
        if len(seen) > MOST_VALUES:
            return None
        found.append(value)
    return found if 2 <= len(seen) <= len(found) / SMALLEST_GROUP else None
