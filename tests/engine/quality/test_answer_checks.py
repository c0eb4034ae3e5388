"""Broken answers are found, and the same words in a good answer are not."""

from __future__ import annotations

import numpy as np
import pytest

from geko_engine.quality.answer_checks import cut_off, placeholders, refusals, unusual_lengths

LONG = "This is a whole sentence of some length, which says something and then comes to its end"


def test_placeholders() -> None:
    assert placeholders(["", " ", "N/A", "none", "-", "0", "no", "none of them"]).tolist() == [True] * 5 + [False] * 3


def test_an_answer_that_ends_in_the_middle_is_cut_off_where_others_end() -> None:
    answers = [f"{LONG}."] * 18 + [f"{LONG} and", "short"]
    assert cut_off(answers).tolist() == [False] * 18 + [True, False]
    assert not cut_off([LONG] * 20).any()  # nobody ends a sentence here: a list of titles, say
    assert cut_off([f"{LONG}:\n```python\nprint(1)", f"{LONG}:\n```python\nprint(1)\n```"]).tolist() == [True, False]


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I am sorry, but as an AI language model I am not able to do this.",
        "Sorry, I cannot assist with that request.",
        "As a large language model, I have no opinions.",
        "I cannot provide medical advice.",
    ],
)
def test_refusals(answer: str) -> None:
    assert refusals([answer]).all()


@pytest.mark.parametrize(
    "answer", ["I'm sorry for the delay, your card is on its way.", "You cannot pay by cheque.", "Sorry to hear that!"]
)
def test_polite_answers_are_no_refusals(answer: str) -> None:
    assert not refusals([answer]).any()


def test_a_length_is_unusual_beside_the_others_only() -> None:
    texts = ["x" * (90 + i % 20) for i in range(99)]
    assert unusual_lengths([*texts, "x" * 5000])[-1] > 5 and unusual_lengths([*texts, "x"])[-1] < -5
    assert not unusual_lengths([*texts, "x" * 150]).any() and not unusual_lengths(["x", "x" * 900]).any()


@pytest.mark.parametrize("label", ["none", "null", "-", "?"])
def test_the_label_of_a_class_is_no_placeholder(label: str) -> None:
    answers = ["positive", "negative", label] * 10
    assert not placeholders(answers).any()
    assert np.flatnonzero(placeholders([*answers, "", "", "", "", "todo"])).tolist() == [30, 31, 32, 33, 34]


def test_a_repeated_placeholder_among_different_answers_is_one() -> None:
    answers = [f"Answer {i}." for i in range(10)]
    assert placeholders([*answers, *["n/a"] * 20]).sum() == 20
