"""Rows of text files: JSON Lines, JSON, CSV, TSV and plain text, packed with gzip or Zstandard or not.

Each error is one sentence that names the file, the place in it and the way out. Knows no column.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, cast

from geko_engine.data.encodings import NAMES, UTF_8, encoding_of
from geko_engine.data.json_rows import parse_json, rows_of_document, rows_of_line
from geko_engine.exceptions import DataError

MAX_LINE = 20_000_000  # characters; no row that a model can learn from is longer
MAX_DOCUMENT = 2_000_000_000  # characters of a .json file, which is read at once
PACKED = {".gz": "gzip", ".zst": "Zstandard"}
SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}
IN_ANY_ENCODING = (".csv", ".tsv", ".txt")  # JSON is UTF-8 by its definition
CODECS = (
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"PK", "a ZIP archive"),
    (b"\x1f\x8b", "gzip (.gz)"),
    (b"\x28\xb5\x2f\xfd", "Zstandard (.zst)"),
)
CONTENT_ERRORS = (OSError, EOFError, UnicodeDecodeError, zlib.error)  # raised while a file is read


def jsonl_rows(path: Path) -> Iterator[dict[str, Any]]:
    """One row a line."""
    for number, line in _lines(path):
        yield rows_of_line(parse_json(line, path, f"Line {number}"), path, f"Line {number}")


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON document; or of what is really one object a line."""
    with open_text(path) as file:
        text = file.read(MAX_DOCUMENT + 1)
    if len(text) > MAX_DOCUMENT:
        raise DataError(f"{str(path)!r} is too long to be read at once: write one object a line, and name it .jsonl.")
    if not text.strip():
        return
    try:
        document = parse_json(text, path)
    except json.JSONDecodeError:  # more follows after the first object
        yield from jsonl_rows(path)
        return
    yield from rows_of_document(document, path)


def csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows below a header line."""
    csv.field_size_limit(MAX_LINE)
    with open_text(path, newline="") as file:
        lines = _bounded(file, path)
        head = next(lines, "")
        separator = _separator(head, file_kind(path))
        reader = csv.DictReader(itertools.chain([head], lines), delimiter=separator, strict=True)
        try:
            reader.fieldnames = _header(list(reader.fieldnames or []), path)
            for row in reader:
                if None in row or any(value is None for value in row.values()):
                    raise DataError(
                        f"Line {reader.line_num} of {str(path)!r} has another number of columns than the "
                        f"{len(reader.fieldnames)} of its header: quote values that hold a separator."
                    )
                yield dict(row)
        except csv.Error as error:
            raise DataError(f"Line {reader.line_num} of {str(path)!r} cannot be read as CSV: {error}.") from error


def txt_rows(path: Path) -> Iterator[dict[str, Any]]:
    """One text a line."""
    for _, line in _lines(path):
        yield {"text": line}


def file_kind(path: Path) -> str:
    """What a file holds, as the ending of its name without that of its packing: ".csv" for "a.csv.gz"."""
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() if ending in PACKED else ending


def _separator(head: str, kind: str) -> str:
    """What stands between the columns of a header line: what its kind says, unless only another mark is there."""
    usual = "\t" if kind == ".tsv" else ","
    return usual if usual in head else next((mark for mark in SEPARATORS if mark in head), usual)


def _header(names: list[str], path: Path) -> list[str]:
    """The columns' names; one without a name, as of the index that pandas writes, is called by its place."""
    names = [name or f"column {place}" for place, name in enumerate(names, 1)]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise DataError(f"The header of {str(path)!r} names {double[0]!r} twice: give each column its own name.")
    return names


def open_text(path: Path, newline: str | None = None) -> IO[str]:
    """The file as text, unpacked. Raises OSError; what is wrong with the content is found while reading."""
    encoding = text_encoding(path) if file_kind(path) in IN_ANY_ENCODING else UTF_8
    return io.TextIOWrapper(_unpacked(path), encoding=encoding, newline=newline)


def text_encoding(path: Path) -> str:
    """The encoding that a file of text is read in. Raises CONTENT_ERRORS."""
    found = path.stat()
    return _encoding(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=1024)
def _encoding(path: Path, _changed: int, _size: int) -> str:
    with _unpacked(path) as file:
        return encoding_of(file) or UTF_8


def reading_notes(path: Path) -> list[str]:
    """What to say of a file that is read in another encoding or with another separator than usual."""
    kind = file_kind(path)
    found = []
    if kind in IN_ANY_ENCODING and (encoding := text_encoding(path)) != UTF_8:
        found.append(
            f"{path.name} is not UTF-8 and was read as {NAMES[encoding]}: if letters look wrong in the preview, save it as "
            "UTF-8"
        )
    if kind in (".csv", ".tsv"):
        with open_text(path) as file:
            separator = _separator(file.readline(MAX_LINE), kind)
        if separator != _separator("", kind):
            found.append(f"The columns of {path.name} are separated by {SEPARATORS[separator]}")
    return found


def _unpacked(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked."""
    packing = path.suffix.lower()
    if packing == ".gz":
        return cast(IO[bytes], gzip.open(path))
    if packing == ".zst":
        import pyarrow as pa

        if not pa.Codec.is_available("zstd"):
            raise DataError(
                f"{str(path)!r} cannot be unpacked, because this pyarrow has no Zstandard: run `pip install pyarrow`, "
                "or pack the file with gzip."
            )
        return cast(IO[bytes], pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


def content_problem(error: Exception, path: Path) -> str:
    """What one of CONTENT_ERRORS says about a file, in one sentence."""
    packing = PACKED.get(path.suffix.lower())
    if isinstance(error, UnicodeDecodeError):
        return f"{str(path)!r} is not UTF-8 text{_looks_like(path)}: save it as UTF-8."
    if packing and getattr(error, "errno", None) is None:  # not from the disk
        return f"{str(path)!r} is no whole {packing} file, copy it again: {str(error).rstrip('.')}."
    return f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}."


def _looks_like(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    found = next((f", it looks like {name}" for magic, name in CODECS if head.startswith(magic)), "")
    return "" if path.suffix.lower() in PACKED else found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank."""
    with open_text(path) as file:
        for number, line in enumerate(_bounded(file, path), 1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _bounded(file: IO[str], path: Path) -> Iterator[str]:
    """Lines of at most MAX_LINE characters, so that a file without line breaks does not fill the memory."""
    number = 0
    with closing(file):
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise DataError(
                    f"Line {number} of {str(path)!r} is longer than {MAX_LINE / 1e6:.0f} million characters: "
                    "write one row a line."
                )
            yield line
