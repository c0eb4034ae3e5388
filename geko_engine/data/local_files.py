"""Rows of local files. Torch-free; each error is one sentence that names the file, the place in it and the way out."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from geko_engine.exceptions import DataError

MAX_LINE = 20_000_000  # characters; no row that a model can learn from is longer
CODECS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"PK", "a ZIP archive"), (b"\x1f\x8b", "gzip"))


def local_rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a local file, one after the other. Raises DataError, without a field."""
    path = Path(name).expanduser()
    if not path.exists():
        raise DataError(f"There is no file {name!r}: check the path, or give a Hub id or 'demo'.")
    if path.is_dir():
        raise DataError(f"{name!r} is a folder: give one file in it.")
    if path.suffix.lower() not in READERS:
        raise DataError(f"{name!r} is not a kind of file that can be read: give {', '.join(FILE_KINDS)}.")
    try:
        yield from READERS[path.suffix.lower()](path)
    except OSError as error:
        raise DataError(f"{name!r} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name!r} is not UTF-8 text{_looks_like(path)}: save it as UTF-8.") from error


def _looks_like(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    return next((f", it looks like {name}" for magic, name in CODECS if head.startswith(magic)), "")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(_bounded(file, path), 1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _bounded(file: IO[str], path: Path) -> Iterator[str]:
    """Lines of at most MAX_LINE characters, so that a file without line breaks does not fill the memory."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise DataError(
                f"Line {number} of {str(path)!r} is longer than {MAX_LINE / 1e6:.0f} million characters: write one row a line."
            )
        yield line


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in _lines(path):
        yield _as_row(_parse(line, path, f"Line {number}"), path, f"Line {number}")


def _json(path: Path) -> Iterator[dict[str, Any]]:
    """A list of rows, alone or as the only list of an object; or what is really one object a line."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            yield from _jsonl(path)
            return
        raise _not_json(error, path, f"Line {error.lineno}") from error
    lists = [v for v in values.values() if isinstance(v, list)] if isinstance(values, dict) else [values]
    if len(lists) != 1 or not isinstance(lists[0], list):
        raise DataError(f"{str(path)!r} is not a list of rows: write [{{...}}, {{...}}] or one object a line (.jsonl).")
    for number, row in enumerate(lists[0], 1):
        yield _as_row(row, path, f"Row {number}")


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(MAX_LINE)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(_bounded(file, path), delimiter=separator, strict=True)
        try:
            names = reader.fieldnames or []
            _check_header(names, separator, path)
            for row in reader:
                if None in row or any(value is None for value in row.values()):
                    raise DataError(
                        f"Line {reader.line_num} of {str(path)!r} has another number of columns than the "
                        f"{len(names)} of its header: quote values that hold a separator."
                    )
                yield dict(row)
        except csv.Error as error:
            raise DataError(f"Line {reader.line_num} of {str(path)!r} cannot be read as CSV: {error}.") from error


def _check_header(names: Any, separator: str, path: Path) -> None:
    double = sorted({name for name in names if list(names).count(name) > 1})
    if double:
        raise DataError(f"The header of {str(path)!r} names {double[0]!r} twice: give each column its own name.")
    other = next((mark for mark in (";", "\t", "|") if mark != separator and names and mark in names[0]), None)
    if len(names) == 1 and other:
        found = {"\t": "tabs: name it .tsv", ";": "semicolons: save it with commas", "|": "bars: save it with commas"}
        raise DataError(f"The columns of {str(path)!r} are separated by {found[other]}.")


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches(1000):
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise DataError(f"{str(path)!r} is no whole Parquet file, copy it again: {_first_line(error)}") from error


def _arrow(path: Path) -> Iterator[dict[str, Any]]:
    """Arrow's file format, or the stream format that the datasets library keeps its cache in."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            try:
                batches: Any = pa.ipc.open_stream(source)
            except pa.ArrowInvalid:
                source.seek(0)
                reader = pa.ipc.open_file(source)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            for batch in batches:
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{str(path)!r} is no whole Arrow file, copy it again: {_first_line(error)}") from error


def _txt(path: Path) -> Iterator[dict[str, Any]]:
    for _, line in _lines(path):
        yield {"text": line}


def _parse(text: str, path: Path, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _not_json(error, path, where) from error
    except RecursionError as error:
        raise DataError(f"{where} of {str(path)!r} is nested too deeply to be read.") from error


def _not_json(error: json.JSONDecodeError, path: Path, where: str) -> DataError:
    return DataError(f"{where} of {str(path)!r} is not valid JSON: {error.msg} (column {error.colno}).")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _as_row(value: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} of {str(path)!r} is not an object with named values, but {type(value).__name__}.")
    return value


READERS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".txt": _txt,
}
FILE_KINDS = tuple(READERS)


def is_local(name: str) -> bool:
    """Whether `name` can only be a path: it exists, starts like one, ends like a data file or is deeper than a Hub id."""
    looks = name.startswith((".", "~", os.sep)) or name.count("/") > 1 or "\\" in name
    return looks or Path(name).suffix.lower() in FILE_KINDS or Path(name).expanduser().exists()
