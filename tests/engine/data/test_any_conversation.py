"""Any conversation, with any template and any tokenizer: its answers and their ends are learned, or a finding names the row."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geko_engine.data.batches import IGNORE_INDEX
from geko_engine.data.findings import findings
from geko_engine.data.formats import Conversation
from geko_engine.data.preparation import learnt_end, use_template
from geko_engine.data.tokenization import tokenise
from geko_engine.exceptions import DataError
from tests.engine.data.template_families import FAMILIES, tokenizer_of

TEXTS = st.text(st.sampled_from("ab é√\n.,<>|:{}'\"中"), min_size=1, max_size=12).map(lambda text: text + "x")
TURNS = st.fixed_dictionaries(
    {"content": TEXTS},
    optional={"weight": st.sampled_from([0, 1]), "reasoning_content": TEXTS, "mood": st.just("glad")},
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rules at times, then questions and answers, the last of which may have none."""
    turns = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns.append({"role": "user", "content": draw(TEXTS)})
        turns.append({"role": "assistant", **draw(TURNS)})
    return [*turns, {"role": "user", "content": draw(TEXTS)}] if draw(st.booleans()) else turns


@functools.cache
def ready(family: str) -> Any:
    tokenizer = tokenizer_of(family)
    use_template(Conversation("messages"), tokenizer, lambda event: None)
    return tokenizer


def plain(text: str) -> str:
    """A text without spaces: templates trim answers, and pieces may begin with the sign of a space."""
    return "".join(text.split())


@pytest.mark.parametrize("family", FAMILIES)
@given(turns=conversations())
def test_the_answers_and_their_ends_are_learnt_or_the_row_is_named(family: str, turns: list[dict[str, Any]]) -> None:
    tokenizer = ready(family)
    end = learnt_end(Conversation("messages"), tokenizer)
    answers = [turn for turn in turns if turn["role"] == "assistant" and turn.get("weight", 1)]
    try:
        data = tokenise([{"messages": turns}], Conversation("messages"), tokenizer, 10_000)
    except DataError as error:
        assert not answers and "none of its answers is to be learned" in str(error)
        return
    learnt = "".join(
        tokenizer.decode([label for label in data[index]["labels"].tolist() if label != IGNORE_INDEX])
        for index in range(len(data))
    )
    found = findings(data, 10_000)
    for turn in answers:  # whatever else is said, no answer is lost without its own sentence
        assert plain(turn["content"]) in plain(learnt), found
    assert end == "" or learnt.count(end) == len(answers), "each answer has exactly one end"
    if not found and not any("reasoning_content" in turn for turn in answers):
        assert plain(learnt) == plain("".join(turn["content"] + end for turn in answers))
    for turn in turns:
        if turn.get("weight") == 0:
            assert any("not learned, as the row asks" in finding.sentence for finding in found)
        if turn["role"] == "assistant" and turn.get("weight", 1) and "reasoning_content" in turn:
            hidden = any("reasoning that is not learned" in finding.sentence for finding in found)
            assert hidden or plain(turn["reasoning_content"]) in plain(learnt)
