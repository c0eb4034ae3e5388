"""Columns without usual names: guessed where names or values say it, asked for where several could be meant."""

from __future__ import annotations

from typing import Any

import pytest

from geko_engine.config.sections import DataConfig
from geko_engine.data.formats import guess_note, recognise
from geko_engine.exceptions import DataError

QUESTION, ANSWER = "Where is my parcel {}?", "It is on its way, number {}."


def rows(count: int = 24, **columns: str) -> list[dict[str, Any]]:
    """Rows of these columns; "{}" in a value is the number of the row."""
    return [{name: value.format(number) for name, value in columns.items()} for number in range(count)]


GUESSED: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "words": (rows(customer_question=QUESTION, agent_reply=ANSWER), "customer_question", "agent_reply"),
    "speakers": (rows(customer_text=QUESTION, agent_text=ANSWER), "customer_text", "agent_text"),
    "camel case": (rows(userMessage=QUESTION, assistantMessage=ANSWER), "userMessage", "assistantMessage"),
    "other columns": (
        rows(
            id="{}", ticket_date="2024-01-{}", customer_email="a{}@b.org", customer_question=QUESTION, my_reply=ANSWER
        ),
        "customer_question",
        "my_reply",
    ),
    "the exact word": (rows(question=QUESTION, question_kind="kind of {}", my_reply=ANSWER), "question", "my_reply"),
    "the only other text": (rows(number="{}", ticket=QUESTION, reply=ANSWER), "ticket", "reply"),
    "the only answer": (rows(query="find {}", found="row {}"), "query", "found"),
    "German": (rows(Frage=QUESTION, Antwort=ANSWER), "Frage", "Antwort"),
    "questions": (rows(left=ANSWER, right=QUESTION), "right", "left"),
    "numbers": ([{"my_question": "2+2", "my_answer": 4}], "my_question", "my_answer"),
    "translation": (rows(source="good day {}", target="bonjour {}"), "source", "target"),
}


@pytest.mark.parametrize("name", GUESSED)
def test_a_clear_pair_is_guessed_and_said(name: str) -> None:
    data, prompt, completion = GUESSED[name]
    format = recognise(data, DataConfig())
    assert (format.prompt, format.completion) == (prompt, completion)  # type: ignore[attr-defined]
    note = guess_note(format, DataConfig())
    assert note == f"Columns guessed: {prompt!r} is the prompt, {completion!r} is learned."


@pytest.mark.parametrize(
    ("data", "completion"),
    [
        (rows(ticket="I cannot log in, case {}", team="billing"), "team"),
        (rows(body="I cannot log in, case {}", my_category="billing"), "my_category"),
    ],
    ids=["values", "names"],
)
def test_labels_are_guessed(data: list[dict[str, Any]], completion: str) -> None:
    format = recognise(data, DataConfig())
    assert format.completion == completion and format.labels and "Classification" in format.sentence  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("data", "field", "named"),
    [
        (
            rows(question_en=QUESTION, question_de=QUESTION, reply=ANSWER),
            "data.prompt_column",
            "question_en, question_de",
        ),
        (rows(query=QUESTION, reply_a=ANSWER, reply_b=ANSWER), "data.completion_column", "reply_a, reply_b"),
        (rows(subject="a b {}", body="c d {}", reply=ANSWER), "data.prompt_column", "subject, body"),
        (rows(customer="Jane Doe {}", ticket=QUESTION, reply=ANSWER), "data.prompt_column", "customer, ticket"),
    ],
)
def test_where_several_could_be_meant_it_asks(data: list[dict[str, Any]], field: str, named: str) -> None:
    with pytest.raises(DataError, match=f"Several columns could be the .*: {named}") as caught:
        recognise(data, DataConfig())
    assert caught.value.field == field


@pytest.mark.parametrize(
    "data", [rows(a="one {}", b="two {}"), rows(a="one {}", b="two {}", c="three {}"), rows(n="{}", m="{}")]
)
def test_where_nothing_says_anything_it_asks(data: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError, match="None of the columns") as caught:
        recognise(data, DataConfig())
    assert caught.value.field == "data.prompt_column"


def test_nothing_is_said_of_usual_and_of_named_columns() -> None:
    usual = recognise(rows(question=QUESTION, answer=ANSWER), DataConfig())
    assert guess_note(usual, DataConfig()) == ""
    config = DataConfig(prompt_column="left", completion_column="right")
    assert guess_note(recognise(rows(left=ANSWER, right=QUESTION), config), config) == ""
    only = recognise(rows(verse="to be {}"), DataConfig())
    assert "'verse' is learned as text" in guess_note(only, DataConfig())


def test_preference_data_are_refused_and_not_guessed() -> None:
    with pytest.raises(DataError, match="preference data"):
        recognise(rows(my_prompt=QUESTION, chosen=ANSWER, rejected="no {}"), DataConfig())


@pytest.mark.parametrize(
    ("named", "value"), [(None, "third call"), ("context", "third call"), ("ticket_history", "third call, {}")]
)
def test_a_context_is_read_beside_guessed_labels_too(named: str | None, value: str) -> None:
    column = named or "context"
    data = rows(body="I cannot log in, case {}", my_category="billing", **{column: value})
    format = recognise(data, DataConfig(context_column=named))
    assert format.labels and format.context == column  # type: ignore[attr-defined]


def test_a_named_context_is_read_beside_usual_labels_too() -> None:
    data = rows(text="I cannot log in, case {}", label="billing", history_note="third call, {}")
    format = recognise(data, DataConfig(context_column="history_note"))
    assert format.labels and format.context == "history_note"  # type: ignore[attr-defined]


def test_a_named_label_leaves_the_prompt_guessed_and_that_is_said() -> None:
    data = rows(customer_question=QUESTION, agent_reply=ANSWER, mark="good")
    config = DataConfig(label_column="mark")
    assert "'customer_question' is the prompt" in guess_note(recognise(data, config), config)
    usual = rows(text="I cannot log in, case {}", team="billing")
    config = DataConfig(label_column="team")
    assert guess_note(recognise(usual, config), config) == ""
