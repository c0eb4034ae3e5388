"""Every kind of file gives the same rows; and the sentence that a user reads for each kind of broken file."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from geko_engine.config.sections import DataConfig
from geko_engine.data.local_files import MAX_LINE, local_rows
from geko_engine.data.sources import load_rows
from geko_engine.exceptions import DataError

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c, ü", "completion": "d"}]
LINES = "".join(json.dumps(row) + "\n\n" for row in ROWS)
TABLE = pa.Table.from_pylist(ROWS)
TEXTS = {
    "rows.jsonl": LINES,
    "rows.json": json.dumps(ROWS),
    "wrapped.json": json.dumps({"version": 1, "data": ROWS}),
    "really-lines.json": LINES,
    "rows.csv": 'prompt,completion\na,b\n"c, ü",d\n',
    "windows.csv": 'prompt,completion\r\na,b\r\n"c, ü",d\r\n',
    "rows.tsv": "prompt\tcompletion\na\tb\nc, ü\td\n",
    "ROWS.JSONL": LINES,
}


@pytest.mark.parametrize("mark", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_kind_of_file_gives_the_same_rows(name: str, mark: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(TEXTS[name], encoding=mark, newline="")
    assert load_rows(DataConfig(train=str(path))) == ROWS
    assert load_rows(DataConfig(train=str(path), sample_count=1)) == ROWS[:1]


def test_tables_and_plain_text(tmp_path: Path) -> None:
    parquet.write_table(TABLE, tmp_path / "rows.parquet")
    with pa.OSFile(str(tmp_path / "file.arrow"), "wb") as sink, pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    with pa.OSFile(str(tmp_path / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    for name in ("rows.parquet", "file.arrow", "stream.arrow"):
        assert list(local_rows(str(tmp_path / name))) == ROWS
    (tmp_path / "t.txt").write_text("x\n\ny z\n", encoding="utf-8")
    assert list(local_rows(str(tmp_path / "t.txt"))) == [{"text": "x"}, {"text": "y z"}]


def cut(kind: str, tmp_path: Path) -> bytes:
    """The first half of a good table."""
    path = tmp_path / "whole"
    if kind == "parquet":
        parquet.write_table(TABLE, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, TABLE.schema) as writer:
            writer.write_table(TABLE)
    return path.read_bytes()[: path.stat().st_size // 2]


BROKEN: dict[str, tuple[bytes, str]] = {
    "cut.jsonl": (b'{"prompt": "a"}\n{"prompt": \n', r"Line 2 of .* is not valid JSON: Expecting value \(column 12\)"),
    "list.jsonl": (b"[1, 2]\n", "Line 1 of .* is not an object with named values, but list"),
    "deep.jsonl": (b"[" * 200_000, "Line 1 of .* is nested too deeply"),
    "long.jsonl": (b"x" * (MAX_LINE + 2), "Line 1 of .* is longer than 20 million characters: write one row a line"),
    "long.txt": (b"x" * 100_000_000, "Line 1 of .* is longer than 20 million characters"),
    "long.csv": (b"text\n" + b"x" * (MAX_LINE + 2), "Line 2 of .* is longer than 20 million characters"),
    "number.json": (b"3", r"is not a list of rows: write \[{...}, {...}\]"),
    "two-lists.json": (b'{"train": [], "test": []}', "is not a list of rows"),
    "texts.json": (b'["a", "b"]', "Row 1 of .* is not an object with named values, but str"),
    "cut.json": (b'[{"prompt": "a"},', "Line 1 of .* is not valid JSON"),
    "ragged.csv": (b"prompt,completion\na,b\nc\n", "Line 3 of .* another number of columns than the 2"),
    "wide.csv": (b"prompt,completion\na,b,c\n", "Line 2 of .* another number of columns than the 2"),
    "open-quote.csv": (b'prompt,completion\na,"b\n', "cannot be read as CSV: unexpected end of data"),
    "double.csv": (b"text,text\na,b\n", "names 'text' twice: give each column its own name"),
    "semicolons.csv": (b"prompt;completion\na;b\n", "separated by semicolons: save it with commas"),
    "tabs.csv": (b"prompt\tcompletion\na\tb\n", "separated by tabs: name it .tsv"),
    "latin.txt": (b"caf\xe9\n", "is not UTF-8 text: save it as UTF-8"),
    "latin.csv": (b"text\ncaf\xe9\n", "is not UTF-8 text"),
    "wide.jsonl": ('{"text": "a"}'.encode("utf-16"), "is not UTF-8 text, it looks like UTF-16: save it as UTF-8"),
    "packed.jsonl": (b"\x1f\x8b\x08\x00", "is not UTF-8 text, it looks like gzip"),
    "cut.parquet": (b"", "is no whole Parquet file, copy it again"),
    "cut.arrow": (b"", "is no whole Arrow file, copy it again"),
    "empty.jsonl": (b"", "holds no rows"),
    "header.csv": (b"prompt,completion\n", "holds no rows"),
    "blank.txt": (b"\n  \n", "holds no rows"),
    "image.png": (b"x", "is not a kind of file that can be read: give .jsonl, .json, .csv"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_fault(name: str, tmp_path: Path) -> None:
    content, sentence = BROKEN[name]
    kind = Path(name).suffix[1:]
    (tmp_path / name).write_bytes(cut(kind, tmp_path) if kind in ("parquet", "arrow") else content)
    with pytest.raises(DataError, match=sentence) as caught:
        load_rows(DataConfig(train=str(tmp_path / name)))
    assert caught.value.field == "data.train" and repr(str(tmp_path / name)) in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    for name, sentence in ((str(tmp_path), "is a folder: give one file in it"), ("./none.csv", "There is no file")):
        with pytest.raises(DataError, match=sentence):
            next(local_rows(name))
