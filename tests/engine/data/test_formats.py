"""Every shape of data, its labels checked token by token against the text that is meant to be learned."""

from __future__ import annotations

from typing import Any

import pytest

from geko_engine.config.sections import DataConfig
from geko_engine.data.batches import IGNORE_INDEX
from geko_engine.data.formats import PLAIN_TEMPLATE, Conversation, recognise
from geko_engine.data.tokenization import tokenise
from geko_engine.exceptions import DataError

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "Thanks"},
]
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
# Marks its turns with the end of sequence, as instruct models do; a line break stands behind it.
CHATML = (
    "{% for m in messages %}{{ m['role'] }}=\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant=\n{% endif %}"
)
# Drops the reasoning of every answer but the last one, as reasoning models do.
FORGETFUL = (
    "{% for m in messages %}{{ m['role'] }}: {% if m.reasoning and loop.last %}{{ m.reasoning }}+{% endif %}"
    "{{ m['content'] }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)

# shape: (row, settings, the whole text, the learnt text); "|" stands for the end of sequence
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "text": ({"text": "to be"}, {}, "to be|", "to be|"),
    "only one column": ({"verse": "to be"}, {}, "to be|", "to be|"),
    "named text": ({"id": 1, "body": "to be"}, {"text_column": "body"}, "to be|", "to be|"),
    "prompt and completion": ({"prompt": "a", "completion": "b"}, {}, "a\nb|", "b|"),
    "question and answer": ({"question": "a", "answer": "b", "id": 7}, {}, "a\nb|", "b|"),
    "problem and solution": ({"problem": "a", "solution": "b"}, {}, "a\nb|", "b|"),
    "numbers": ({"question": "2+2", "answer": 4}, {}, "2+2\n4|", "4|"),
    "instruction": ({"instruction": "add", "input": "1 2", "output": "3"}, {}, "add\n1 2\n3|", "3|"),
    "instruction without input": ({"instruction": "go", "input": "", "output": "ok"}, {}, "go\nok|", "ok|"),
    "named pair": ({"ask": "a", "reply": "b"}, {"prompt_column": "ask", "completion_column": "reply"}, "a\nb|", "b|"),
    "messages": (
        {"messages": TURNS},
        {},
        "system=\nBe brief.|\nuser=\nHi|\nassistant=\nHello.|\nuser=\n2+2?|\nassistant=\n4|\n",
        "Hello.|4|",
    ),
    "ShareGPT": ({"conversations": SHAREGPT}, {}, "user=\nHi|\nassistant=\nHello.|\n", "Hello.|"),
    "named conversation": (
        {"log": SHAREGPT, "text": "x"},
        {"messages_column": "log"},
        "user=\nHi|\nassistant=\nHello.|\n",
        "Hello.|",
    ),
    "conversation as JSON text": (
        {"messages": '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'},
        {},
        "user=\na|\nassistant=\nb|\n",
        "b|",
    ),
    "parts of a turn": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "model", "content": "b"}]},
        {},
        "user=\na|\nassistant=\nb|\n",
        "b|",
    ),
    "prompt of turns": (
        {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
        {},
        "user=\na|\nassistant=\nb|\n",
        "b|",
    ),
    "pair in the chat template": (
        {"instruction": "add", "input": "1 2", "output": "3"},
        {"chat_template": "chat"},
        "user=\nadd\n1 2|\nassistant=\n3|\n",
        "3|",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_recognised_and_learns_what_it_should(name: str, tokenizer: Any) -> None:
    row, named, whole, learnt = SHAPES[name]
    tokenizer.chat_template = CHATML
    format = recognise([row], DataConfig(**named))
    sample = tokenise([row], format, tokenizer, 500)[0]
    assert tokenizer.decode(sample["input_ids"]).replace("<eos>", "|") == whole
    kept = [int(label) for label in sample["labels"] if label != IGNORE_INDEX]
    assert tokenizer.decode(kept).replace("<eos>", "|") == learnt
    assert format.sentence.endswith("learned.")


def test_the_plain_template_reads_as_people_write(tokenizer: Any) -> None:
    tokenizer.chat_template = PLAIN_TEMPLATE
    sample = tokenise([{"messages": TURNS}], Conversation("messages"), tokenizer, 500)[0]
    text = "System: Be brief.\nUser: Hi\nAssistant: Hello.<eos>\nUser: 2+2?\nAssistant: 4<eos>\n"
    assert tokenizer.decode(sample["input_ids"]) == text
    assert tokenizer.decode([i for i in sample["labels"] if i != IGNORE_INDEX]) == " Hello.<eos> 4<eos>"
    prompt = tokenizer.apply_chat_template(TURNS[:2], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt), "at inference the model sees what it has seen in training"


def test_a_template_that_forgets_learns_every_answer_as_inference_sees_it(tokenizer: Any) -> None:
    tokenizer.chat_template = FORGETFUL
    turns = [dict(turn, reasoning="hm") if turn["role"] == "assistant" else turn for turn in TURNS]
    first, last = Conversation("messages").render({"messages": turns}, tokenizer)
    assert [text for text, learnt in first.segments if learnt] == ["hm+Hello.<eos>"]
    assert [text for text, learnt in last.segments if learnt] == ["hm+4<eos>"]
    assert last.text.count("hm") == 1 and len(last.remarks) == 1


UNUSABLE: dict[str, tuple[Any, str]] = {
    "no answer": ([{"role": "user", "content": "Hi"}], "the conversation has no answer of the assistant"),
    "an empty answer": ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}], "has no answer"),
    "an answer of spaces": (
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " \n\t "}],
        "has no answer",
    ),
    "no list": (3, "'messages' holds no list of turns"),
    "a text": ("Hi", "'messages' holds a text, not a list of turns"),
    "missing": (None, "holds no list of turns"),
    "no role": (
        [{"speaker": "me", "content": "Hi"}],
        "turn 1 has no role: it needs role and content, or from and value",
    ),
    "a turn that is text": (["Hi"], "turn 1 has no role"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_conversation_that_cannot_be_used_is_left_out_with_its_reason(name: str, tokenizer: Any) -> None:
    value, reason = UNUSABLE[name]
    tokenizer.chat_template = CHATML
    data = tokenise([{"messages": TURNS}, {"messages": value}], Conversation("messages"), tokenizer, 500)
    assert data.rows.tolist() == [0] and list(data.unusable) == [1] and reason in data.unusable[1]
    with pytest.raises(DataError, match=r"The only row cannot be used. Row 1: "):
        tokenise([{"messages": value}], Conversation("messages"), tokenizer, 500)


def test_what_the_template_refuses_is_said_in_its_own_words(tokenizer: Any) -> None:
    refusal = "{{ raise_exception('No system turn, please') }}"
    tokenizer.chat_template = "{% if messages[0]['role'] == 'system' %}" + refusal + "{% endif %}"
    with pytest.raises(DataError, match="the chat template refuses it: No system turn, please"):
        tokenise([{"messages": TURNS}], Conversation("messages"), tokenizer, 500)


def test_columns_can_be_named_and_wrong_names_are_answered_with_the_right_ones() -> None:
    rows = [{"left": "x", "right": "y"}]
    with pytest.raises(DataError, match="None of the columns left, right is known") as caught:
        recognise(rows, DataConfig())
    assert caught.value.field == "data.prompt_column"
    with pytest.raises(DataError, match="no column 'asks'; there are: left, right"):
        recognise(rows, DataConfig(prompt_column="asks", completion_column="right"))
    with pytest.raises(DataError, match="Name both") as caught:
        recognise(rows, DataConfig(prompt_column="left"))
    assert caught.value.field == "data.completion_column"
    with pytest.raises(DataError, match="Name one of them"):
        recognise(rows, DataConfig(prompt_column="left", completion_column="right", text_column="left"))
