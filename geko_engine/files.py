"""Rows of local files: JSONL, JSON, CSV, TSV, Parquet, TXT. Torch-free; each error is a sentence that names the place."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geko_engine.exceptions import DataError

FILE_KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")


def local_rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a local file, one after the other. Raises DataError, without a field."""
    path = Path(name).expanduser()
    readers = {
        ".jsonl": _jsonl,
        ".json": _json,
        ".csv": _csv,
        ".tsv": _csv,
        ".parquet": _parquet,
        ".txt": _txt,
    }
    if not path.exists():
        raise DataError(f"There is no file {name!r}: check the path, or give a Hub id or 'demo'.")
    if path.is_dir() or path.suffix.lower() not in readers:
        raise DataError(f"{name!r} is not a kind of file that can be read: give {', '.join(FILE_KINDS)}.")
    try:
        yield from readers[path.suffix.lower()](path)
    except OSError as error:
        raise DataError(f"{name!r} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name!r} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _as_row(_parse(line, path, f"line {number}"), path, f"line {number}")


def _json(path: Path) -> Iterator[dict[str, Any]]:
    values = _parse(path.read_text(encoding="utf-8-sig"), path, "the file")
    lists = [v for v in values.values() if isinstance(v, list)] if isinstance(values, dict) else [values]
    if len(lists) != 1 or not isinstance(lists[0], list):
        raise DataError(f"{str(path)!r} is not a list of rows: write [{{...}}, {{...}}] or one object a line (.jsonl).")
    for number, row in enumerate(lists[0], 1):
        yield _as_row(row, path, f"row {number}")


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            for row in reader:
                if None in row or any(value is None for value in row.values()):
                    raise DataError(
                        f"Line {reader.line_num} of {str(path)!r} has another number of columns than the "
                        f"{len(reader.fieldnames or [])} of its header: quote values that hold a separator."
                    )
                yield dict(row)
        except csv.Error as error:
            raise DataError(f"Line {reader.line_num} of {str(path)!r} cannot be read as CSV: {error}.") from error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches(1000):
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise DataError(f"{str(path)!r} is no whole Parquet file: {error}") from error


def _txt(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield {"text": line.rstrip("\n")}


def _parse(text: str, path: Path, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where[0].upper() + where[1:]} of {str(path)!r} is not valid JSON: {error.msg} (column {error.colno})."
        ) from error


def _as_row(value: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f"{where[0].upper() + where[1:]} of {str(path)!r} is not an object with named values, but {type(value).__name__}."
        )
    return value
