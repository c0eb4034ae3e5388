"""The first rows of data as a table: roles of the columns, what is wrong with the rows, and errors instead of surprises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from geko_engine.config.sections import DataConfig
from geko_engine.data.first_rows import CELL, first_rows

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def table(path: Path, rows: list[Any], **settings: Any) -> Any:
    return first_rows(DataConfig(train=write(path / "rows.jsonl", rows), **settings))


@pytest.mark.parametrize(
    ("row", "settings", "roles"),
    [
        ({"prompt": "a", "completion": "b", "id": 7}, {}, {"prompt": "prompt", "completion": "completion", "id": ""}),
        (
            {"instruction": "add", "input": "1 2", "output": "3"},
            {},
            {"instruction": "prompt", "input": "context", "output": "completion"},
        ),
        ({"text": "to be"}, {}, {"text": "text"}),
        ({"messages": TURNS, "system": "Be brief."}, {}, {"messages": "messages", "system": "system"}),
        (
            {"prompt": "a", "response": "b", "tools": "[]"},
            {},
            {"prompt": "prompt", "response": "completion", "tools": "tools"},
        ),
        ({"text": "good film", "label": "positive"}, {}, {"text": "prompt", "label": "label"}),
        ({"left": "a", "right": "b"}, {"prompt_column": "right"}, {"left": "", "right": "prompt"}),
    ],
)
def test_each_column_has_its_role(tmp_path: Path, row: dict[str, Any], settings: Any, roles: dict[str, str]) -> None:
    found = table(tmp_path, [row], **settings)
    assert dict(found.columns) == roles
    assert bool(found.error) == ("prompt_column" in settings) and bool(found.reading) != bool(found.error)


def test_rows_that_are_wrong_are_counted_and_named(tmp_path: Path) -> None:
    good = [{"prompt": f"{i}", "completion": "x"} for i in range(5)]
    rows = [*good, good[0], {"prompt": "a", "completion": " "}, {"prompt": "b", "completion": None}]
    found = table(tmp_path, rows)
    assert (found.count, found.is_cut, found.error) == (8, False, "")
    assert found.findings == ["2 rows without an answer: 7, 8", "1 row equal to an earlier row: 6"]
    talks = table(tmp_path, [{"messages": TURNS}, {"messages": TURNS}, {"messages": TURNS[:1]}, {"messages": 3}])
    assert talks.findings == [
        "1 row cannot be read: the column 'messages' holds no list of turns: 4",
        "1 row without an answer: 3",
        "1 row equal to an earlier row: 2",
    ]


def test_columns_that_are_not_clear_are_asked_for_and_shown(tmp_path: Path) -> None:
    found = table(tmp_path, [{"left": "a b", "right": "c d"}])
    assert found.error.startswith("None of the columns left, right is known") and found.field == "data.prompt_column"
    assert found.columns == [("left", ""), ("right", "")] and found.rows == [["a b", "c d"]] and found.reading == ""


def test_what_is_guessed_is_said_with_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "März.csv"
    lines = [f"Wo ist mein Päckchen {n}?;Unterwegs für {n} €" for n in range(40)]
    path.write_bytes("\r\n".join(["customer_question;agent_reply", *lines]).encode("cp1252"))
    found = first_rows(DataConfig(train=str(path)))
    assert found.columns == [("customer_question", "prompt"), ("agent_reply", "completion")]
    assert found.rows[0] == ["Wo ist mein Päckchen 0?", "Unterwegs für 0 €"]
    assert "Columns guessed" in found.reading
    assert "Windows-1252" in found.findings[0] and "semicolons" in found.findings[1]


def test_the_rows_before_a_broken_one_are_shown_with_the_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", oops\n', encoding="utf-8")
    found = first_rows(DataConfig(train=str(path)))
    assert "Line 2" in found.error and found.field == "data.train"
    assert found.columns == [("prompt", ""), ("completion", "")] and found.rows == [["a", "b"]]
    nowhere = first_rows(DataConfig(train=str(tmp_path / "none.csv")))
    assert "There is no file" in nowhere.error and nowhere.rows == []


def test_only_as_many_rows_are_read_as_the_settings_ask_for(tmp_path: Path) -> None:
    found = table(tmp_path, [{"text": str(i) * 1000} for i in range(9)], sample_count=4)
    assert (found.count, found.is_cut, len(found.rows)) == (4, True, 3)
    assert all(len(cell) == CELL + 1 for row in found.rows for cell in row)


def test_the_demo_is_a_table_too() -> None:
    found = first_rows(DataConfig())
    assert (
        found.count == 10_000 and found.error == "" and {role for _, role in found.columns} >= {"prompt", "completion"}
    )
