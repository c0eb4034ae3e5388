"""What a user reads when a folder of deliberately mixed files is checked."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from geko_engine.config.run_config import RunConfig
from geko_engine.preflight.preview import inspect
from geko_engine.reporting.console import Console
from geko_engine.reporting.events import Event

TALK = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello there"}]
ROWS = [
    {"prompt": "two plus two", "completion": "four", "id": 1},
    {"prompt": "half a character", "completion": "\ud83d", "id": 2},
    {"prompt": "is it so?", "completion": True, "id": 3},
    {"prompt": "two plus two", "completion": "four", "id": 4},
    {"prompt": "no number", "completion": float("nan"), "id": 5},
    {"prompt": "too much", "completion": float("inf"), "id": 6},
]
NUMBERS = pa.table({"prompt": ["1 + 0", "1 + 1", "1 + 2"], "completion": [1.0, None, 3.0]})
DATES = pa.table({"prompt": ["the day", "the day after"], "completion": [dt.date(2024, 2, 1), dt.date(2024, 2, 2)]})
PICTURES = pa.table({"prompt": ["what is it?"], "completion": [b"\x89PNG"], "image": [{"bytes": b"\x89PNG"}]})


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    folder = tmp_path / "mixed"
    (folder / "talks").mkdir(parents=True)
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    columns = json.dumps({"prompt": ["a", "b"], "completion": ["c", "d"]})
    (folder / "columns.json.gz").write_bytes(gzip.compress(columns.encode()))
    (folder / "table.csv").write_text("prompt,completion\nthree,3\nfour,\n", encoding="utf-8")
    for name, table in {"numbers": NUMBERS, "dates": DATES, "pictures": PICTURES}.items():
        parquet.write_table(table, folder / f"{name}.parquet")
    for number in (1, 2):
        (folder / f"talks/{number}.json").write_text(json.dumps({"messages": TALK}), encoding="utf-8")
    with pa.OSFile(str(folder / "lines.txt.zst"), "wb") as sink, pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(b"a text\n")
    (folder / "test.jsonl").write_text('{"prompt": "held", "completion": "out"}\n', encoding="utf-8")
    for name in ("empty.jsonl", "README.md", "cat.png"):
        (folder / name).touch()
    return folder


def checked(train: Path) -> tuple[str, list[str]]:
    """(how the check ended, the lines that it printed)."""
    printed = io.StringIO()
    config = RunConfig.from_dict({"data": {"train": str(train)}})
    return inspect(config, Console(stream=printed), lambda: False), printed.getvalue().splitlines()


def test_each_finding_is_one_line_that_names_file_and_row(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEKO_CACHE", str(tmp_path / "cache"))
    end, lines = checked(mixed)
    assert end == "complete"
    begin = next(i for i, line in enumerate(lines) if line.startswith("Training data"))
    assert "10 samples from 19 rows" in lines[begin]
    assert [line.strip() for line in lines[begin + 1 :] if line.startswith("  ")][:14] == [
        "Rows come from 9 files: columns.json.gz 2, dates.parquet 2, lines.txt.zst 1, numbers.parquet 3, "
        "pairs.jsonl 6, pictures.parquet 1, table.csv 2, talks/1.json 1, talks/2.json 1",
        "1 file without rows: empty.jsonl",
        "2 files not read, no data files: README.md, cat.png",
        "1 file not read, named for another split than 'train': test.jsonl",
        "3 rows without anything to learn, left out: numbers.parquet 2; pairs.jsonl 5; table.csv 2",
        "1 row equal to an earlier one: pairs.jsonl 4",
        "1 row whose 'completion' is true or false, which is learned as the word: pairs.jsonl 3",
        "1 row left out, because the columns (text) are not those that are read; such rows need a dataset of their "
        "own: lines.txt.zst 1",
        "1 row left out, because the column 'completion' holds half a character (a lone surrogate): pairs.jsonl 2",
        "1 row left out, because the column 'completion' holds an infinite number, not text: pairs.jsonl 6",
        "1 row left out, because the column 'completion' holds bytes, not text: pictures.parquet 1",
        "2 rows left out, because the columns (messages) are not those that are read; such rows need a dataset of "
        "their own: talks/1.json 1; talks/2.json 1",
        "2 rows whose 'completion' is learned as the whole number that it was before the column had gaps: "
        "numbers.parquet 1, 3",
        "Columns that are not read: id, image, filled in 7 rows: pairs.jsonl 1, 2, 3, 4, 5, 6; pictures.parquet 1",
    ]


def test_files_that_cannot_be_read_end_the_check_with_one_line_each(mixed: Path) -> None:
    (mixed / "pairs.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n', encoding="utf-8")
    parquet_file = mixed / "numbers.parquet"
    parquet_file.write_bytes(parquet_file.read_bytes()[:-20])
    end, lines = checked(mixed)
    assert end == "failed"
    first, *others = (line.replace(str(mixed), "mixed") for line in lines[-2:])
    assert first.startswith("data.train: 'mixed/numbers.parquet' is no whole Parquet file, copy it again: ")
    assert others == [
        "Line 2 of 'mixed/pairs.jsonl' is not valid JSON: Expecting value (column 12).",
    ]


def test_data_that_the_memory_does_not_hold_ends_in_a_sentence(mixed: Path) -> None:
    def full() -> bool:
        raise MemoryError

    events: list[Event] = []
    assert inspect(RunConfig.from_dict({"data": {"train": str(mixed)}}), events.append, full) == "failed"
    end = events[-1].to_dict()
    assert end["field"] == "data.train" and end["reason"].startswith("The data needs more memory than is free here")
