"""Rows and templates that people really have, and what must become of them: what a row says is learned, or a sentence names it.

Every line gives the family of the tokenizer, the rows, and what the model is to learn of each sample, decoded. Where
something is not learned as the row has it, `said` holds the words that name it and `rows` the numbers of the rows.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from geko_engine.config.sections import DataConfig
from geko_engine.data.batches import IGNORE_INDEX
from geko_engine.data.findings import Finding, column_findings, findings
from geko_engine.data.formats import recognise, restore_integers
from geko_engine.data.formats.base import UnreadableCell
from geko_engine.data.preparation import learnt_end, use_template
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.tokenization import tokenise_rendered
from geko_engine.exceptions import DataError
from geko_engine.reporting.events import Message
from tests.engine.data.template_families import FAMILIES, tokenizer_of

SUMS = {"prompt": "two plus two", "completion": "four"}
TALK = [
    {"role": "user", "content": "two plus two"},
    {"role": "assistant", "content": "four"},
    {"role": "user", "content": "one plus one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "the capital"},
    {"role": "assistant", "content": "Paris"},
]
RULED = [{"role": "system", "content": "Be brief."}, *TALK[:2]]
WEATHER = [
    {"from": "human", "value": "the weather?"},
    {"from": "function_call", "value": '{"name": "get_weather", "arguments": {"city": "Paris"}}'},
    {"from": "observation", "value": "sunny"},
    {"from": "gpt", "value": "It is sunny."},
]
TOOLS = '[{"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]'
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def marked(key: str, value: Any) -> list[dict[str, Any]]:
    """A conversation whose first answer is not to be learned."""
    return [TALK[0], {"role": "assistant", "content": "BAD", key: value}, *TALK[2:4]]


def calling(arguments: Any, **more: Any) -> list[dict[str, Any]]:
    call = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": arguments, **more}}
    return [{"role": "user", "content": "the weather?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]


@dataclass
class Case:
    """One line of the catalogue."""

    family: str
    rows: list[dict[str, Any]]
    learnt: list[str]  # decoded targets of each sample
    prompt: str = ""  # must stand in the text of every sample
    said: list[str] = field(default_factory=list)  # each in a finding or a message
    numbers: list[int] = field(default_factory=list)  # rows of the finding that `said` begins with
    settings: dict[str, Any] = field(default_factory=dict)
    limit: int = 500


A_COLUMNS_AND_KEYS = {
    "context": Case(
        "gpt2",
        [{"context": "the fox is brown", "question": "what is brown?", "answer": "the fox"}],
        ["the fox<|endoftext|>"],
        "the fox is brown\nwhat is brown?\n",
    ),
    "system prompt beside a pair": Case(
        "qwen2",
        [{"system_prompt": "Be brief.", "question": "two plus two", "response": "four"}],
        ["four<|im_end|>"],
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\ntwo plus two<|im_end|>",
    ),
    "system prompt on a base model": Case(
        "gpt2",
        [{"system_prompt": "Be brief.", "question": "two plus two", "response": "four"}],
        [" four<|endoftext|>"],
        "System: Be brief.\nUser: two plus two\n",
    ),
    "system and history of Alpaca": Case(
        "qwen2",
        [
            {
                "instruction": "two plus two",
                "input": "",
                "output": "four",
                "system": "Be brief.",
                "history": [["hello", "hello there"]],
            }
        ],
        ["hello there<|im_end|>four<|im_end|>"],
        "system\nBe brief.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nhello there<|im_end|>",
    ),
    "weight 0": Case(
        "qwen2", [{"messages": marked("weight", 0)}], ["two<|im_end|>"], "BAD", ["answers that are not learned"], [1]
    ),
    "loss false": Case(
        "qwen2", [{"messages": marked("loss", False)}], ["two<|im_end|>"], "BAD", ["answers that are not learned"], [1]
    ),
    "train false, as text": Case(
        "qwen2",
        [{"messages": marked("train", "false")}],
        ["two<|im_end|>"],
        "BAD",
        ["answers that are not learned"],
        [1],
    ),
    "a weight between": Case(
        "qwen2",
        [{"messages": marked("weight", 0.5)}],
        ["BAD<|im_end|>two<|im_end|>"],
        said=["a weight other than 0 and 1"],
        numbers=[1],
    ),
    "nothing to learn in a row": Case(
        "qwen2",
        [{"messages": TALK[:2]}, {"messages": [TALK[0], {**TALK[1], "weight": 0}]}],
        ["four<|im_end|>"],
        said=["none of its answers is to be learned"],
        numbers=[2],
    ),
    "function call of ShareGPT, template with tools": Case(
        "qwen3",
        [{"conversations": WEATHER, "tools": TOOLS, "system": "Be brief."}],
        [f"\n{CALL}<|im_end|><think>\n\n</think>\n\nIt is sunny.<|im_end|>"],
        '"name": "get_weather", "parameters"',
        ["'<think>\\n\\n</think>', which the chat template adds"],
        [1],
    ),
    "function call of ShareGPT, template without tools": Case(
        "qwen2",
        [{"conversations": WEATHER, "tools": TOOLS}],
        ['{"name": "get_weather", "arguments": {"city": "Paris"}}<|im_end|>It is sunny.<|im_end|>'],
        "sunny",
        ["tool calls that are learned as JSON text", "descriptions of tools, which the chat template does not show"],
        [1],
    ),
    "tools as a list": Case(
        "qwen3",
        [{"messages": TALK[:2], "tools": [{"name": "get_weather"}]}],
        ["<think>\n\n</think>\n\nfour<|im_end|>"],
        "get_weather",
    ),
    "system beside messages": Case(
        "qwen2", [{"messages": TALK[:2], "system": "Be brief."}], ["four<|im_end|>"], "system\nBe brief.<|im_end|>"
    ),
    "good and bad answers, the good ones asked for": Case(
        "gpt2",
        [{**SUMS, "label": True}, {"prompt": "two plus two", "completion": "five", "label": False}],
        ["four<|endoftext|>"],
        said=["left out, because its label is false"],
        numbers=[2],
        settings={"label_column": "label"},
    ),
    "classification": Case(
        "gpt2",
        [{"text": "a good film", "label": "positive"}, {"text": "a bad film", "label": "negative"}],
        ["positive<|endoftext|>", "negative<|endoftext|>"],
        "film\n",
    ),
    "row weights": Case(
        "gpt2",
        [{**SUMS, "w": 1}, {**SUMS, "w": 0}],
        ["four<|endoftext|>"],
        said=["left out, because its weight is 0"],
        numbers=[2],
        settings={"weight_column": "w"},
    ),
    "other columns": Case(
        "gpt2",
        [{**SUMS, "id": 3, "source": "x"}],
        ["four<|endoftext|>"],
        said=["Columns that are not read: id, source"],
        numbers=[1],
    ),
    "other columns in some rows": Case(
        "gpt2",
        [SUMS, {**SUMS, "prompt": "2 + 2", "rating": 3}],
        ["four<|endoftext|>"] * 2,
        said=["Columns that are not read: rating, filled in 1 row: 2"],
        numbers=[2],
    ),
    "a key of a turn that nothing reads": Case(
        "qwen2",
        [{"messages": [{**TALK[0], "mood": "glad"}, TALK[1]]}],
        ["four<|im_end|>"],
        said=["turn key 'mood', which is not read"],
        numbers=[1],
    ),
    "parts": Case(
        "qwen2",
        [
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "two"}, {"type": "text", "text": " plus two"}],
                    },
                    TALK[1],
                ]
            }
        ],
        ["four<|im_end|>"],
        "two plus two",
    ),
    "an image among the parts": Case(
        "qwen2",
        [
            {"messages": TALK[:2]},
            {"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}, TALK[1]]},
        ],
        ["four<|im_end|>"],
        said=["turn 1 holds a part of the type 'image'"],
        numbers=[2],
    ),
}
B_WHAT_A_TURN_HOLDS = {
    "arguments as JSON text": Case(
        "qwen3", [{"messages": calling('{"city": "Paris"}')}], [f"<think>\n\n</think>\n\n\n{CALL}<|im_end|>"]
    ),
    "arguments as an object": Case(
        "qwen3", [{"messages": calling({"city": "Paris"})}], [f"<think>\n\n</think>\n\n\n{CALL}<|im_end|>"]
    ),
    "nulls at any depth": Case(
        "qwen3",
        [{"messages": calling({"city": "Paris", "x": None}, z=None)}],
        [f"<think>\n\n</think>\n\n\n{CALL}<|im_end|>"],
    ),
    "reasoning that the template shows": Case(
        "qwen3",
        [{"messages": [TALK[0], {**TALK[1], "reasoning_content": "add them"}]}],
        ["<think>\nadd them\n</think>\n\nfour<|im_end|>"],
    ),
    "reasoning that the template drops from earlier answers": Case(
        "qwen3",
        [{"messages": [TALK[0], {**TALK[1], "reasoning": "add"}, TALK[2], {**TALK[3], "thinking": "sum"}]}],
        ["<think>\nadd\n</think>\n\nfour<|im_end|>", "<think>\nsum\n</think>\n\ntwo<|im_end|>"],
        said=["every answer is a sample of its own"],
        numbers=[1],
    ),
    "reasoning that the template does not know": Case(
        "qwen2",
        [{"messages": [TALK[0], {**TALK[1], "reasoning_content": "add them"}]}],
        ["four<|im_end|>"],
        said=["reasoning that is not learned"],
        numbers=[1],
    ),
}
C_WHERE_THE_ANSWERS_ARE = {
    "end of text after the last turn only": Case("phi3", [{"messages": TALK}], ["four<|end|>two<|end|>Paris<|end|>"]),
    "a thought is opened when the model is asked": Case(
        "r1",
        [{"messages": TALK}],
        ["</think>\n\nfour<eos>", "</think>\n\ntwo<eos>", "</think>\n\nParis<eos>"],
        "<A><think>\n",
        ["the chat template opens a thought and the row has none", "every answer is a sample of its own"],
        [1],
    ),
    "thoughts where they are opened": Case(
        "r1",
        [{"messages": [TALK[0], {"role": "assistant", "content": "<think>\nadd\n</think>\n\nfour"}, *TALK[2:4]]}],
        ["add\n</think>\n\nfour<eos>", "</think>\n\ntwo<eos>"],
        "<A><think>\n",
    ),
    "the template's own mask": Case("masked", [{"messages": TALK}], ["four<|im_end|>two<|im_end|>Paris<|im_end|>"]),
    "a long last question": Case(
        "qwen2",
        [{"messages": [*TALK[:4], {"role": "user", "content": "the capital " * 200}, TALK[5]]}],
        ["four<|im_end|>two<|im_end|>"],
        said=["cut at 100 tokens", "answers that are not learned, because they lie beyond the cut"],
        numbers=[1],
        limit=100,
    ),
    "a long first question, cut at the left": Case(
        "llama3",
        [{"messages": [{"role": "user", "content": "the capital " * 200}, *TALK[1:]]}],
        ["four<|eot_id|>two<|eot_id|>Paris<|eot_id|>"],
        "<|begin_of_text|>",
        said=["cut at 100 tokens"],
        numbers=[1],
        settings={"truncation_side": "left"},
        limit=100,
    ),
    "no system turn in the template": Case(
        "gemma",
        [{"messages": RULED}],
        ["four<end_of_turn>"],
        "<start_of_turn>user\nBe brief.\n\ntwo plus two<end_of_turn>",
        ["system turn stands before the first question"],
        [1],
    ),
    "no system turn between brackets": Case(
        "llama2", [{"messages": RULED}], ["four</s>"], "Be brief.\n\ntwo plus two", ["system turn stands before"], [1]
    ),
    "two questions in a row": Case(
        "gemma",
        [{"messages": [{"role": "user", "content": "hello"}, *TALK[:2]]}],
        ["four<end_of_turn>"],
        "hello\n\ntwo plus two",
        ["several turns of the user in a row"],
        [1],
    ),
    "nothing begins an answer": Case(
        "no beginning",
        [{"messages": TALK[:2]}],
        ["<|assistant|>\nfour<|endoftext|>"],
        said=["'<|assistant|>', which the chat template adds"],
        numbers=[1],
    ),
}
D_BEGINNING_AND_END = {
    "the template's end is not the tokenizer's": Case("qwen2 base", [{"messages": TALK[:2]}], ["four<|im_end|>"]),
    "nothing marks an end": Case(
        "no end",
        [{"messages": TALK[:4]}],
        [" four<|endoftext|>", " two<|endoftext|>"],
        said=["the chat template marks no end of an answer"],
        numbers=[1],
    ),
    "no end of sequence": Case("no eos", [SUMS], ["four"], said=["nothing teaches the model where an answer ends"]),
    "a base model that begins texts with BOS": Case("llama3 base", [{"messages": TALK[:2]}], [" four<|end_of_text|>"]),
    "the end is in the completion already": Case(
        "gpt2", [{"prompt": "two plus two", "completion": "four<|endoftext|>"}], ["four<|endoftext|>"]
    ),
    "the end of a turn is in the answer already": Case(
        "qwen2", [{"prompt": "two plus two", "completion": "four<|im_end|>"}], ["four<|im_end|>"]
    ),
    "BOS is in the prompt already": Case(
        "llama3 base", [{"prompt": "<|begin_of_text|>two plus two", "completion": "four"}], ["four<|end_of_text|>"]
    ),
}
F_MANY_ROWS_DECIDE = {
    "turns in the completion": Case(
        "qwen2",
        [{"prompt": "two plus two", "completion": [{"role": "assistant", "content": "four"}]}],
        ["four<|im_end|>"],
        "<|im_start|>user\ntwo plus two<|im_end|>",
    ),
    "turns in the second row only": Case(
        "qwen2",
        [SUMS, {"prompt": [{"role": "user", "content": "one plus one"}], "completion": "two"}],
        ["four<|im_end|>", "two<|im_end|>"],
        "<|im_start|>user\n",
    ),
    "answers in the prompt": Case(
        "qwen2",
        [{"prompt": TALK[:3], "completion": "two"}],
        ["two<|im_end|>"],
        said=["answers of the assistant in the prompt, which are not learned"],
        numbers=[1],
    ),
    "empty columns of another format": Case(
        "gpt2",
        [{"prompt": None, "completion": None, "question": "two plus two", "answer": "four"}],
        ["four<|endoftext|>"],
    ),
}
G_VALUES = {
    "a lone surrogate": Case(
        "gpt2",
        [SUMS, {"prompt": "a", "completion": "\ud83d"}],
        ["four<|endoftext|>"],
        said=["the column 'completion' holds half a character"],
        numbers=[2],
    ),
    "a lone surrogate in a turn": Case(
        "qwen2",
        [{"messages": TALK[:2]}, {"messages": [{"role": "user", "content": "\ud83d"}, TALK[1]]}],
        ["four<|im_end|>"],
        said=["turn 1 holds half a character"],
        numbers=[2],
    ),
    "a lone surrogate in the arguments of a tool": Case(
        "qwen2",
        [{"messages": TALK[:2]}, {"messages": calling({"\ud83d": 1})}],
        ["four<|im_end|>"],
        said=["it holds half a character"],
        numbers=[2],
    ),
    "numbers of thousands of digits in JSON texts, and a history that is none": Case(
        "qwen2",
        [
            {"messages": json.dumps(TALK[:2])},
            {"messages": f'[{{"role": "user", "content": {"1" * 5000}}}]'},
            {"messages": json.dumps(TALK[:2]), "history": 7},
            {"messages": json.dumps(TALK[:2]), "history": "[" * 5000},
        ],
        ["four<|im_end|>"],
        said=[
            "the column 'messages' holds a text, not a list of turns",
            "the column 'history' holds no list of earlier",
        ],
        numbers=[2],
    ),
    "bytes": Case(
        "gpt2",
        [SUMS, {"prompt": "a", "completion": b"four"}, {"prompt": "a", "completion": {"bytes": b"\x89PNG"}}],
        ["four<|endoftext|>"],
        said=["the column 'completion' holds bytes, not text"],
        numbers=[2, 3],
    ),
    "NaN": Case(
        "gpt2",
        [SUMS, {"prompt": "a", "completion": float("nan")}],
        ["four<|endoftext|>"],
        said=["without anything to learn, left out"],
        numbers=[2],
    ),
    "whole numbers in a column with gaps": Case(
        "gpt2",
        [{"prompt": "1 + 0", "completion": 1.0}, {"prompt": "1 + 1", "completion": None}],
        ["1<|endoftext|>"],
        said=["'completion' is learned as the whole number"],
        numbers=[1],
    ),
    "true": Case(
        "gpt2", [{"prompt": "a", "completion": True}], ["True<|endoftext|>"], said=["learned as the word"], numbers=[1]
    ),
    "a word for no value": Case(
        "gpt2",
        [SUMS, {"prompt": "a", "completion": "nan"}],
        ["four<|endoftext|>", "nan<|endoftext|>"],
        said=["whose 'completion' is the word 'nan', which is learned"],
        numbers=[2],
    ),
    "an infinite number": Case(
        "gpt2",
        [SUMS, {"prompt": "a", "completion": float("-inf")}],
        ["four<|endoftext|>"],
        said=["the column 'completion' holds an infinite number, not text"],
        numbers=[2],
    ),
    "a cell that cannot be read": Case(
        "gpt2",
        [SUMS, {"prompt": "a", "completion": UnreadableCell("text that is not UTF-8")}],
        ["four<|endoftext|>"],
        said=["the column 'completion' holds text that is not UTF-8"],
        numbers=[2],
    ),
    "a date": Case("gpt2", [{"prompt": "a", "completion": dt.date(2024, 2, 1)}], ["2024-02-01<|endoftext|>"]),
}
H_ROLES = {
    "ai and a space": Case(
        "qwen2",
        [{"messages": [{"role": "Human", "content": "two plus two"}, {"role": " AI", "content": "four"}]}],
        ["four<|im_end|>"],
        "<|im_start|>user\ntwo plus two<|im_end|>\n<|im_start|>assistant\n",
    ),
    "roles that are no one's": Case(
        "qwen2",
        [{"messages": TALK[:2]}, {"messages": [{"role": "alice", "content": "a"}, {"role": "bob", "content": "b"}]}],
        ["four<|im_end|>"],
        said=["no answer of the assistant; its roles are: alice, bob"],
        numbers=[2],
    ),
}
CATALOGUE = {
    **A_COLUMNS_AND_KEYS,
    **B_WHAT_A_TURN_HOLDS,
    **C_WHERE_THE_ANSWERS_ARE,
    **D_BEGINNING_AND_END,
    **F_MANY_ROWS_DECIDE,
    **G_VALUES,
    **H_ROLES,
}


def prepared(case: Case) -> tuple[RenderedRows, Any, list[Finding], list[str]]:
    """(rendered rows, data, findings, messages) of a case."""
    tokenizer, config = tokenizer_of(case.family), DataConfig(**case.settings)
    rows, restored = restore_integers(case.rows)
    format = recognise(rows, config, tokenizer)
    messages: list[str] = []
    use_template(format, tokenizer, lambda event: messages.append(event.text) if isinstance(event, Message) else None)
    rendered = RenderedRows(rows, format, tokenizer, restored)
    data = tokenise_rendered(rendered, case.limit, keep_end=config.truncation_side == "left")
    return rendered, data, findings(data, case.limit) + column_findings(rendered), messages


def targets(data: Any, index: int, tokenizer: Any) -> str:
    return str(tokenizer.decode([label for label in data[index]["labels"].tolist() if label != IGNORE_INDEX]))


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_a_row_says_is_learnt_or_a_sentence_names_it(name: str) -> None:
    case = CATALOGUE[name]
    rendered, data, found, messages = prepared(case)
    learnt = [targets(data, index, rendered.tokenizer) for index in range(len(data))]
    # Pieces that begin with the sign of a space lose the first one when they are decoded alone.
    assert [text.lstrip(" ") for text in learnt] == [text.lstrip(" ") for text in case.learnt]
    for index in range(len(data)):
        text = rendered.tokenizer.decode(data[index]["input_ids"])
        assert case.prompt in text
        bos = FAMILIES[case.family][1]
        assert not bos or (text.startswith(bos) and text.count(bos) == 1), "exactly one BOS"
    sentences = [*(finding.sentence for finding in found), *messages]
    for words in case.said:
        assert any(words in sentence for sentence in sentences), sentences
    if case.numbers:
        (rows,) = [finding.rows for finding in found if case.said[0] in finding.sentence]
        assert rows == case.numbers
    if not case.said:
        assert [finding.sentence for finding in found if finding.kind in ("changed", "unusable", "unread")] == []


REFUSED = {
    "KTO": ([{**SUMS, "label": False}], "data.label_column", "preference data, as for KTO"),
    "DPO": ([{"prompt": "a", "chosen": "b", "rejected": "c"}], "data.train", "preference data, as for DPO"),
    "turns as rows": ([*RULED[:1], *TALK], "data.train", "one turn of a conversation (role, content)"),
    "turns of ShareGPT as rows": (
        [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
        "data.train",
        "one turn of a conversation (from, value)",
    ),
    "only images": ([{"prompt": "a", "completion": {"bytes": b"\x89"}}], "data.train", "'completion' holds bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learnt_is_refused_with_what_it_is(name: str) -> None:
    rows, field_name, words = REFUSED[name]
    with pytest.raises(DataError) as caught:
        prepared(Case("gpt2", rows, []))
    assert caught.value.field == field_name and words in str(caught.value)


def test_a_text_is_tokenised_whole() -> None:
    """Pieces tokenised apart would each begin with a sign of a space, which no answer begins with at inference."""
    rendered, data, _, _ = prepared(Case("llama2 base", [SUMS], []))
    whole = rendered.tokenizer("two plus two\nfour")["input_ids"]
    assert data[0]["input_ids"].tolist() == [*whole, rendered.tokenizer.eos_token_id]


@pytest.mark.parametrize(
    ("family", "rows", "end"),
    [
        ("qwen2 base", [{"messages": TALK}], "<|im_end|>"),
        ("phi3", [{"messages": TALK}], "<|end|>"),
        ("gemma", [{"messages": TALK}], "<end_of_turn>"),
        ("llama2", [{"messages": TALK}], "</s>"),
        ("no end", [{"messages": TALK}], "<|endoftext|>"),
        ("gpt2", [SUMS], "<|endoftext|>"),
        ("no eos", [SUMS], ""),
    ],
)
def test_the_end_that_is_learnt_is_known(family: str, rows: list[dict[str, Any]], end: str) -> None:
    rendered, _, _, _ = prepared(Case(family, rows, []))
    assert learnt_end(rendered.format, rendered.tokenizer) == end
