"""What the samples of a run are grouped by: files, answers and columns of few values."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as parquet

from geko_engine.config.run_config import RunConfig
from geko_engine.data.preparation import load_raw_rows, prepare, render_rows
from geko_engine.runs import sample_record_writer, sample_slices
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.sample_slices import write_slices

Rows = list[dict[str, Any]]


def sliced(tmp_path: Path, tokenizer: Any, monkeypatch: Any, **files: Rows) -> dict[str, list[str]]:
    """Slicing -> value of each sample, of rows in files of a folder, after a way over the disk."""
    monkeypatch.setenv("GEKO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    config = RunConfig.from_dict({"data": {"train": str(folder)}})
    rendered = render_rows(config, load_raw_rows(config, print, lambda: False), tokenizer, lambda event: None)
    data = prepare(config, rendered, 1000, lambda event: None, lambda: False)[0].data
    write_slices(tmp_path / "slices.parquet", rendered["training"], data)
    table = parquet.read_table(tmp_path / "slices.parquet")
    assert json.loads(table.schema.metadata[b"slices"]) == table.column_names
    return {name: table.column(name).to_pylist() for name in table.column_names}


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"question {number}", "completion": "yes" if number % 2 else "no", **more}


def test_files_answers_and_columns_of_few_values(tmp_path: Path, tokenizer: Any, monkeypatch: Any) -> None:
    first = [row(n, topic="cards", id=n, level=1) for n in range(4)]
    second = [row(n, topic=None, id=n, level=2) for n in range(4, 8)]
    found = sliced(tmp_path, tokenizer, monkeypatch, a=first, b=second)
    assert set(found) == {"file", "answer", "topic", "level"}  # each id occurs once
    assert found["file"] == ["a.jsonl"] * 4 + ["b.jsonl"] * 4
    assert found["answer"] == ["no", "yes"] * 4
    assert found["topic"] == ["cards"] * 4 + [sample_slices.NOTHING] * 4
    assert found["level"] == ["1"] * 4 + ["2"] * 4


def test_rows_that_are_left_out_have_no_sample(tmp_path: Path, tokenizer: Any, monkeypatch: Any) -> None:
    rows = [row(0, topic="a"), {"prompt": "x", "completion": "", "topic": "a"}, *(row(n, topic="b") for n in (1, 2, 3))]
    assert sliced(tmp_path, tokenizer, monkeypatch, a=rows)["topic"] == ["a", "b", "b", "b"]


def test_free_text_and_long_values_are_no_groups(tmp_path: Path, tokenizer: Any, monkeypatch: Any) -> None:
    rows = [{"prompt": "q", "completion": f"answer {n}", "note": "x" * (101 * (n % 2)), "same": 1} for n in range(6)]
    assert sliced(tmp_path, tokenizer, monkeypatch, a=rows) == {}


def test_a_column_with_the_name_of_a_slicing_keeps_its_own(tmp_path: Path, tokenizer: Any, monkeypatch: Any) -> None:
    found = sliced(tmp_path, tokenizer, monkeypatch, a=[row(n, answer=str(n // 2)) for n in range(4)])
    assert found["answer"] == ["no", "yes"] * 2 or found["column answer"] == ["0", "0", "1", "1"]


def test_half_a_character_in_a_column_ends_no_run(tmp_path: Path, tokenizer: Any, monkeypatch: Any) -> None:
    rows = [row(n, mood="\ud83d" if n < 2 else "calm", **{"\ud83d": n // 2}) for n in range(4)]
    assert sliced(tmp_path, tokenizer, monkeypatch, a=rows)["mood"] == ["?", "?", "calm", "calm"]


def test_the_file_of_rows_is_written_last(tmp_path: Path, monkeypatch: Any) -> None:
    """A run that is resumed takes it as the sign that all of them were written."""
    written: list[str] = []
    monkeypatch.setattr(sample_record_writer, "write_slices", lambda path, *given: written.append(path.name))
    monkeypatch.setattr(sample_record_writer, "write_sample_texts", lambda *given, **more: written.append("rows"))
    part = SimpleNamespace(rendered=None, data=None)
    sample_record_writer.write_sample_texts_once(RunFolder(tmp_path), part, print, lambda: False)
    assert written == ["slices.parquet", "rows"]
