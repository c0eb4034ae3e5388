"""Rows of Parquet and Arrow files. A cell that cannot become a value of Python is kept as the reason why.

Each error is one sentence that names the file and the way out. Knows no column.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geko_engine.data.formats.base import UnreadableCell
from geko_engine.exceptions import DataError

ROWS_AT_A_TIME = 1000


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_names(file.schema_arrow.names, path)
            for batch in file.iter_batches(ROWS_AT_A_TIME):
                yield from _rows(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} is no whole Parquet file, copy it again: {_first_line(error)}.") from error


def arrow_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of Arrow's file format, or of the stream format that the datasets library keeps its cache in."""
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
                batch.validate(full=True)  # a damaged file would end the process
                _check_names(batch.schema.names, path)
                for first in range(0, batch.num_rows, ROWS_AT_A_TIME):
                    yield from _rows(batch.slice(first, ROWS_AT_A_TIME))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{str(path)!r} is no whole Arrow file, copy it again: {_first_line(error)}.") from error


def _check_names(names: list[str], path: Path) -> None:
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise DataError(f"{str(path)!r} names the column {double[0]!r} twice: give each column its own name.")


def _rows(batch: Any) -> list[dict[str, Any]]:
    """The rows of a batch; cell by cell where a cell cannot be read."""
    try:
        found: list[dict[str, Any]] = batch.to_pylist()
        return found
    except (ValueError, OverflowError, TypeError, KeyError):  # text that is not UTF-8 is a ValueError too
        columns = {
            name: [_cell(cell) for cell in column] for name, column in zip(batch.schema.names, batch, strict=True)
        }
        return [{name: cells[row] for name, cells in columns.items()} for row in range(batch.num_rows)]


def _cell(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return UnreadableCell("text that is not UTF-8")
    except (ValueError, OverflowError, TypeError, KeyError):
        return UnreadableCell(f"a {cell.type} that cannot be read")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
