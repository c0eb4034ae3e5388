"""One list of all issues: each row with its kinds, the most severe first, and what was not looked at."""

from __future__ import annotations

import pytest

from geko_engine.exceptions import Stopped
from geko_engine.quality import issues as kinds
from geko_engine.quality.issues import DataIssues, find_data_issues, without_frame
from geko_engine.quality.label_issues import LIKELY
from tests.engine.quality.test_label_issues import questions

QUESTION = "Where is the branch of the bank that is open on Sundays, and may I bring my dog there?"


def found(issues: DataIssues) -> set[tuple[int, str, int]]:
    return {(issue.row, issue.kind, issue.other) for issue in issues}


def test_the_same_prompt_with_other_answers_is_a_conflict_of_all_its_rows() -> None:
    prompts = [QUESTION, "Something else", QUESTION.lower(), QUESTION, QUESTION]
    issues = find_data_issues(prompts, ["A", "B", "A", "C", "A"])
    assert found(issues) == {(row, kinds.CONFLICT, other) for row, other in ((0, 3), (2, 3), (3, 0), (4, 3))}


def test_the_same_prompt_with_the_same_answer_is_a_duplicate_and_a_changed_word_nearly_one() -> None:
    changed = QUESTION.replace("Sundays", "Mondays")
    issues = find_data_issues([QUESTION, QUESTION, changed, "Other words"], ["A long answer."] * 4)
    assert issues.counts() == {kinds.NEAR_DUPLICATE: 1, kinds.DUPLICATE: 1}


def test_answers_to_nearly_the_same_prompt_may_differ() -> None:
    changed = QUESTION.replace("Sundays", "Mondays")
    issues = find_data_issues(
        [QUESTION, changed, "Other words", "3 + 4", "3 - 4"], ["By the river.", "By the church.", "No.", "7", "-1"]
    )
    assert issues.counts() == {}


def test_training_rows_in_the_evaluation_data_are_leaks() -> None:
    issues = find_data_issues(["other words here", QUESTION], ["A", "B"], ([QUESTION.upper(), "x"], ["B", "C"]))
    assert found(issues) == {(1, kinds.LEAK, 0)}


def test_texts_without_a_prompt_are_compared_themselves() -> None:
    issues = find_data_issues(["", "", ""], [QUESTION, QUESTION, "Write to jane.miller@gmx.de"])
    assert found(issues) == {(1, kinds.DUPLICATE, 0), (2, kinds.PERSONAL, -1)}
    assert issues.labels.reason


def test_the_most_severe_comes_first_and_labels_bring_their_suggestion() -> None:
    prompts, answers = questions(200)
    answers[7] = next(topic for topic in ("card", "loan") if topic != answers[7])
    prompts[9], answers[9] = "a placeholder stands here as the answer", "N/A"
    issues = find_data_issues(prompts, answers)
    severities = [issue.severity for issue in issues]
    assert severities == sorted(severities, reverse=True)
    assert any(issue.row == 7 and issue.kind == LIKELY and issue.note for issue in issues)
    assert (9, kinds.PLACEHOLDER, -1) in found(issues)


def test_a_template_around_all_texts_is_left_out() -> None:
    texts = ["<s>User: what is a card</s>", "<s>User: where is the bank</s>", "<s>User: who am I</s>"]
    assert without_frame(texts) == ["what is a card</s>"[:-4], "where is the bank", "who am I"]
    assert without_frame(["same", "same"]) == ["same", "same"] and without_frame([]) == []


def test_above_the_limit_it_says_what_was_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "MOST_ROWS", 2)
    issues = find_data_issues(["a", "b", "b"], ["x", "y", "y"])
    assert len(issues) == 0 and issues.notes == ["Only the first 2 of 3 rows were checked for issues."]


def test_it_stops_when_asked_to() -> None:
    with pytest.raises(Stopped):
        find_data_issues([QUESTION], ["A"], should_stop=lambda: True)
