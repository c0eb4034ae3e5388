"""Every kind of file gives the same rows; and the sentence that a user reads for each kind of broken file."""

from __future__ import annotations

import gzip
import json
import os
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from geko_engine.config.sections import DataConfig
from geko_engine.data.formats.base import UnreadableCell
from geko_engine.data.local_files import is_local, local_rows
from geko_engine.data.sources import load_rows
from geko_engine.data.text_files import MAX_LINE
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


DOUBLE = '{"prompt": "a", "completion": "b", "completion": "c"}'
NESTED = '{"messages": [{"role": "user", "content": "a", "content": "b"}, {"role": "assistant", "content": "c"}]}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", f"{LINES}{DOUBLE}\n{DOUBLE}\n"),
        ("a.json", json.dumps(ROWS)[:-1] + f", {DOUBLE}, {DOUBLE}]"),
        ("b.json", '{"data": ' + json.dumps(ROWS)[:-1] + f", {DOUBLE}, {DOUBLE}]}}"),
        ("nested.jsonl", f"{LINES}{NESTED}\n{NESTED}\n"),
        ("unusual.jsonl", LINES + '{"prömpt": "a", "prömpt": "b"}\n' * 2),
    ],
)
def test_rows_with_a_key_twice_are_named(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = load_rows(DataConfig(train=str(tmp_path / name)))
    assert "2 rows with a key that stands twice, whose last value is read: 3, 4" in found.origin.sentences
    assert found[:2] == ROWS and len(found) == 4


def test_one_row_with_a_key_twice_is_named_with_its_file(tmp_path: Path) -> None:
    for name, text in (("a.jsonl", LINES), ("b.jsonl", f"{LINES}{DOUBLE}\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = load_rows(DataConfig(train=str(tmp_path)))
    assert "1 row with a key that stands twice, whose last value is read: b.jsonl 3" in found.origin.sentences
    assert found[4]["completion"] == "c"


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"prompt": ["a"], "completion": ["b"], "prompt": ["c"]}', encoding="utf-8")
    with pytest.raises(DataError, match="names the column 'prompt' twice: give each column its own name"):
        load_rows(DataConfig(train=str(tmp_path / "a.json")))


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
    "texts-in-a-list.json": (b'["a", "b"]', "Row 1 of .* is not an object with named values, but str"),
    "two-lists.json": (
        b'{"train": [{"text": "a"}], "test": [{"text": "b"}]}',
        r"holds several lists of rows \(train, test\): write each to a file of its own",
    ),
    "uneven.json": (
        b'{"prompt": ["a", "b"], "completion": ["c"]}',
        r"different lengths \('completion' has 1 values, 'prompt' 2\)",
    ),
    "digits.json": (b"[" + b"1" * 5000 + b"]", "A value of .* is a number of thousands of digits"),
    "digits.jsonl": (b'{"a": ' + b"1" * 5000 + b"}", "Line 1 of .* is a number of thousands of digits"),
    "deep.json": (b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}", "nested too deeply to be read: at most 100"),
    "deeper.json": (b"[" * 200_000, "nested too deeply to be read"),
    "cut.json": (b'[{"prompt": "a"},', "Line 1 of .* is not valid JSON"),
    "ragged.csv": (b"prompt,completion\na,b\nc\n", "Line 3 of .* another number of columns than the 2"),
    "wide.csv": (b"prompt,completion\na,b,c\n", "Line 2 of .* another number of columns than the 2"),
    "open-quote.csv": (b'prompt,completion\na,"b\n', "cannot be read as CSV: unexpected end of data"),
    "double.csv": (b"text,text\na,b\n", "names 'text' twice: give each column its own name"),
    "ragged-semicolons.csv": (b"prompt;completion\na;b;c\n", "Line 2 of .* another number of columns than the 2"),
    "latin.jsonl": (b'{"text": "caf\xe9"}\n', "is not UTF-8 text: save it as UTF-8"),
    "binary.csv": (b"text\n\x00\xff\n", "is not UTF-8 text"),
    "wide.jsonl": ('{"text": "a"}'.encode("utf-16"), "is not UTF-8 text, it looks like UTF-16: save it as UTF-8"),
    "packed.jsonl": (b"\x1f\x8b\x08\x00", r"is not UTF-8 text, it looks like gzip \(.gz\)"),
    "latin.json.gz": (gzip.compress(b'{"text": "caf\xe9"}\n'), "is not UTF-8 text: save it as UTF-8"),
    "cut.jsonl.gz": (gzip.compress(LINES.encode())[:-9], "is no whole gzip file, copy it again: Compressed file ended"),
    "damaged.json.gz": (b"\x1f\x8b\x08\x00\0\0\0\0\0\0" + b"x" * 20, "is no whole gzip file, copy it again: Error -3"),
    "plain.txt.gz": (b"a text", "is no whole gzip file, copy it again: Not a gzipped file"),
    "plain.txt.zst": (b"a text", "is no whole Zstandard file, copy it again"),
    "long.txt.gz": (gzip.compress(b"x" * (MAX_LINE + 2)), "Line 1 of .* is longer than 20 million characters"),
    "table.parquet.gz": (gzip.compress(b"x"), "is not a kind of file that can be read"),
    "all.tar.gz": (gzip.compress(b"x"), "is not a kind of file that can be read"),
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


def test_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    os.mkfifo("pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.csv")
    for name, sentence in {
        "./none.csv": "There is no file './none.csv': check the path",
        ".": "The folder '.' holds no data files: give a folder with .jsonl, .json",
        "/dev/zero": "'/dev/zero' is a device, not a file or a folder: give a file or a folder",
        "./pipe.txt": "is a pipe, not a file",
        "./socket.csv": "is a socket, not a file",
        "a\0.csv": r"'a\\x00.csv' is no path, because it holds a NUL character",
        "\ud83d.csv": "is no path, because it holds half a character",
        "x" * 5000 + ".csv": r"'x{200}…' cannot be read \(File name too long\)",
        "~no-such-user/a.csv": "There is no file '~no-such-user/a.csv'",
        "pipe.txt/a.csv": "There is no file",
    }.items():
        assert is_local(name)
        with pytest.raises(DataError, match=sentence):
            next(local_rows(name))


def pack_zst(content: bytes, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)


@pytest.mark.parametrize("name", TEXTS)
def test_a_packed_file_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    content = TEXTS[name].encode()
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    pack_zst(content, tmp_path / f"{name}.ZST")
    for ending in (".gz", ".ZST"):
        assert load_rows(DataConfig(train=str(tmp_path / (name + ending)))) == ROWS


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
DOCUMENTS: dict[str, tuple[object, list[dict[str, object]]]] = {
    "columns": ({"prompt": ["a", "c"], "completion": ["b", "d"]}, [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]),
    "one column": ({"text": ["a", "b"]}, [{"text": "a"}, {"text": "b"}]),
    "columns of pandas": ({"a": {"0": 1, "1": 2}, "b": {"0": 3, "1": 4}}, [{"a": 1, "b": 3}, {"a": 2, "b": 4}]),
    "columns of turns": ({"messages": [TURNS, TURNS]}, [{"messages": TURNS}, {"messages": TURNS}]),
    "one conversation": ({"messages": TURNS}, [{"messages": TURNS}]),
    "one conversation with tools": (
        {"id": 7, "messages": TURNS, "tools": [{"name": "f"}, {"name": "g"}]},
        [{"id": 7, "messages": TURNS, "tools": [{"name": "f"}, {"name": "g"}]}],
    ),
    "one conversation under another name": (
        {"dialog": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        [{"dialog": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}],
    ),
    "turns alone": (TURNS, [{"messages": TURNS}]),
    "conversations alone": ([TURNS, TURNS], [{"messages": TURNS}, {"messages": TURNS}]),
    "one pair": ({"prompt": "a", "completion": "b"}, [{"prompt": "a", "completion": "b"}]),
    "one pair with sources": (
        {"question": "a", "answer": "b", "sources": [{"url": "c"}]},
        [{"question": "a", "answer": "b", "sources": [{"url": "c"}]}],
    ),
    "no rows": ({"data": []}, []),
    "a name that is half a character": ([{"\ud83d": 1, "😀": 2}], [{"\\ud83d": 1, "😀": 2}]),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_json_document_may_be(name: str, tmp_path: Path) -> None:
    document, rows = DOCUMENTS[name]
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    assert list(local_rows(str(tmp_path / "a.json"))) == rows


def test_cells_that_python_cannot_read_are_kept_as_their_reason(tmp_path: Path) -> None:
    invalid = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xfe")]
    )
    table = pa.table({"prompt": invalid, "when": pa.array([0, 2**53], pa.timestamp("ms"))})
    parquet.write_table(table, tmp_path / "a.parquet")
    first, second = local_rows(str(tmp_path / "a.parquet"))
    assert first["prompt"] == "a" and first["when"].isoformat() == "1970-01-01T00:00:00"
    assert second["prompt"] == UnreadableCell("text that is not UTF-8")
    assert second["when"].reason.startswith("a timestamp") and second["when"].reason.endswith("that cannot be read")


def test_a_table_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="names the column 'text' twice: give each column its own name"):
        list(local_rows(str(tmp_path / "a.parquet")))


def test_a_column_without_a_name_is_called_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",prompt,completion\n0,a,b\n", encoding="utf-8")
    assert list(local_rows(str(tmp_path / "a.csv"))) == [{"column 1": "0", "prompt": "a", "completion": "b"}]
