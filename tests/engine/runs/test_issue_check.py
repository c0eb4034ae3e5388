"""The issues of a run are kept beside it, and a damaged or foreign file counts as none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from geko_app.runs.store import RunStore
from geko_engine.quality.issues import DUPLICATE, Issue
from geko_engine.quality.label_issues import LIKELY, LOOK
from geko_engine.runs.issue_check import check_run, issues_path, listed_ids, read_issues
from geko_engine.runs.sample_pairs import prompt_and_answer, read_pairs
from tests.app.sample_runs import new_run, write_issues, write_texts

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_what_a_check_finds_is_read_again(tmp_path: Path) -> None:
    folder = new_run(RunStore(tmp_path), count=4)
    write_texts(
        folder, [("where is the bank", "here"), ("who are you", "me"), ("where is the bank", "here"), ("x", "y")]
    )
    check_run(folder)
    found = read_issues(folder, 4)
    assert found is not None and [(i.row, i.kind, i.other) for i in found.issues] == [(2, DUPLICATE, 0)]
    assert "repeat" in found.labels["reason"] and found.notes == []
    assert read_issues(folder, 5) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 2, "samples": 8}',
        '{"format": 1, "samples": 8, "labels": 1, "notes": [], "issues": []}',
    ],
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: str) -> None:
    folder = new_run(RunStore(tmp_path))
    issues_path(folder).write_text(content, encoding="utf-8")
    assert read_issues(folder, 8) is None


def test_an_issue_of_a_sample_that_is_not_there_is_damage(tmp_path: Path) -> None:
    folder = new_run(RunStore(tmp_path))
    check_run(folder)
    values = json.loads(issues_path(folder).read_text(encoding="utf-8"))
    for strange in ([99, DUPLICATE, 1.0, 0, ""], [1, DUPLICATE, 1.0, 99, ""], [1, "no such kind", 1.0, 0, ""]):
        issues_path(folder).write_text(json.dumps({**values, "issues": [strange]}), encoding="utf-8")
        assert read_issues(folder, 8) is None


def test_a_run_knows_which_samples_are_listed_for_their_answers(tmp_path: Path) -> None:
    folder = new_run(RunStore(tmp_path), count=8)
    assert listed_ids(folder, 8).tolist() == []
    write_issues(folder, 8, [Issue(5, LIKELY, 0.9), Issue(2, LOOK, 0.3), Issue(1, DUPLICATE, other=0)])
    assert sorted(listed_ids(folder, 8).tolist()) == [2, 5] and listed_ids(folder, 9).tolist() == []


def test_prompt_and_answer_of_each_layout(tmp_path: Path) -> None:
    assert list(read_pairs(new_run(RunStore(tmp_path)).texts_path))[1] == ("question 1", "answer 1")
    text = {"text": "all of it", "learnt": [0, 9], "messages": None}
    assert prompt_and_answer(text, "text") == ("", "all of it")
    turns = json.dumps([*CHAT, {"role": "assistant", "content": "Hello"}])
    chat = {"text": "<user>Hi<bot>Hello<end>", "learnt": [13, 23], "messages": turns}
    assert prompt_and_answer(chat, "conversation") == ("Hi", "Hello")
