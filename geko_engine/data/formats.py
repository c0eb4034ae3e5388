"""The shape of a dataset: which columns are read, and how one row becomes text with the learnt parts marked.

Knows tokenizers only by their chat template. Layouts:

    text            the text, all of it learnt
    pair            prompt + newline, then the completion, which is learnt; an instruction's input stands below it
    conversation    the tokenizer's chat template, the assistant's turns learnt
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from geko_engine.config.sections import DataConfig
from geko_engine.exceptions import DataError

Row = dict[str, Any]
Turn = dict[str, Any]  # role, content, and what else a template may read (tool calls, reasoning)
Segment = tuple[str, bool]  # a piece of the rendered row, and whether it is learnt
COLUMN_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("problem", "solution"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("input", "output"),
)
CONTEXTS = {"instruction": ("input", "context")}  # what stands below the prompt, where the data has it
MESSAGE_COLUMNS = ("messages", "conversations", "conversation")
TEXT_COLUMNS = ("text", "content")
ROLES = {  # ShareGPT's names, and those of its relatives
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "function": "tool",
    "observation": "tool",
}
# For tokenizers that bring none; needs no special token but the end of sequence, and is saved with the model.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Assistant: {{ message['content'] }}{{ eos_token }}\n"
    "{% else %}{{ message['role'].capitalize() }}: {{ message['content'] }}\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


class UnusableRow(Exception):
    """A row that cannot be rendered, with the reason in one sentence; it is left out and listed."""


@dataclass(frozen=True)
class Columns:
    """Which columns are read: a prompt and a completion, one text, or one conversation.

    `chat` puts prompt and completion into the chat template too.
    """

    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    context: str | None = None  # extra input below an instruction
    messages: str | None = None
    chat: bool = False

    @property
    def is_chat(self) -> bool:
        """Whether rows go through the chat template."""
        return self.messages is not None or self.chat

    @property
    def sentence(self) -> str:
        """What is read as what, for the user."""
        if self.messages:
            return f"Conversations in {self.messages!r}, through the chat template; the assistant's turns are learnt."
        if self.text:
            return f"Plain text in {self.text!r}; all of it is learnt."
        prompt = f"{self.prompt!r} with {self.context!r} below it" if self.context else f"{self.prompt!r}"
        form = " through the chat template" if self.chat else ""
        return f"Prompt in {prompt}, completion in {self.completion!r}{form}; the completion is learnt."


def column_names(rows: Sequence[Row]) -> list[str]:
    """All columns of `rows`, in the order in which they first appear."""
    return list(dict.fromkeys(str(name) for row in rows for name in row))


def recognise_columns(rows: Sequence[Row], config: DataConfig) -> Columns:
    """The columns named in `config`, else those of the first usual shape whose names are there.

    Raises:
        DataError: when a named column does not exist, when only half of a pair is named, or when nothing is known.
    """
    present = column_names(rows[:100])
    named = {
        "prompt": config.prompt_column,
        "completion": config.completion_column,
        "text": config.text_column,
        "messages": config.messages_column,
    }
    for name, column in named.items():
        if column and column not in present:
            raise DataError(f"There is no column {column!r}; there are: {', '.join(present)}.", f"data.{name}_column")
    chosen = [name for name in ("messages", "text") if named[name]]
    pair = bool(named["prompt"] or named["completion"])
    if len(chosen) + pair > 1:
        raise DataError(
            "Name one of them: a conversation column, a text column, or prompt and completion.",
            f"data.{chosen[-1]}_column",
        )
    if chosen:
        return Columns(text=named["text"], messages=named["messages"])
    found = _named_pair(named["prompt"], named["completion"], config) if pair else _usual_shape(present, config)
    # Prompt and completion may be lists of turns themselves.
    return replace(found, chat=True) if isinstance(rows[0].get(found.prompt or ""), list) else found


def _named_pair(prompt: str | None, completion: str | None, config: DataConfig) -> Columns:
    if prompt and completion:
        return Columns(prompt, completion, chat=config.chat_template)
    missing = "completion" if prompt else "prompt"
    raise DataError("Name both the prompt column and the completion column.", f"data.{missing}_column")


def _usual_shape(present: list[str], config: DataConfig) -> Columns:
    for messages in MESSAGE_COLUMNS:
        if messages in present:
            return Columns(messages=messages)
    for prompt, completion in COLUMN_PAIRS:
        if prompt in present and completion in present:
            context = next((name for name in CONTEXTS.get(prompt, ()) if name in present), None)
            return Columns(prompt, completion, context=context, chat=config.chat_template)
    for text in TEXT_COLUMNS:
        if text in present:
            return Columns(text=text)
    if len(present) == 1:
        return Columns(text=present[0])
    raise DataError(
        f"None of the columns {', '.join(present)} is known. Name the prompt and completion columns, the text column, "
        "or the conversation column.",
        "data.prompt_column",
    )


def segments(row: Row, columns: Columns, tokenizer: Any) -> list[Segment]:
    """One row as pieces of text in their order, each learnt or not.

    Raises:
        UnusableRow: when a conversation has no assistant's turn, is no list of turns, or the template refuses it.
    """
    if columns.text:
        return [(_value(row, columns.text), True)]
    if columns.is_chat:
        return _chat_segments(messages_of(row, columns), tokenizer)
    return [(question(row, columns)[0] + "\n", False), (_value(row, columns.completion), True)]


def opening(prompt: str, columns: Columns, tokenizer: Any) -> str:
    """What a model reads before it answers `prompt`, rendered as `segments` renders a row.

    Raises:
        UnusableRow: when the chat template refuses it.
    """
    if columns.text:
        return prompt
    if columns.is_chat:
        return _rendered([{"role": "user", "content": prompt}], tokenizer, begin=True)
    return prompt + "\n"


def question(row: Row, columns: Columns) -> tuple[str, int]:
    """(what is asked last in a row, number of turns that stand before it): the prompt, or a turn of a conversation."""
    if columns.text:
        return "", 0
    if not columns.is_chat:
        return "\n".join(part for part in (_value(row, columns.prompt), _value(row, columns.context)) if part), 0
    turns = messages_of(row, columns)
    answers = _answers(turns)
    asked = turns[: answers[-1]] if answers else turns
    return (str(asked[-1]["content"]), len(asked) - 1) if asked else ("", 0)


def _value(row: Row, column: str | None) -> str:
    """A missing value is empty; what is no text stands as JSON."""
    found = row.get(column) if column else None
    if isinstance(found, dict | list):
        return json.dumps(found, ensure_ascii=False)
    return "" if found is None else str(found)


def messages_of(row: Row, columns: Columns) -> list[Turn]:
    """The turns of a row as role and content, whatever they are called there. Raises UnusableRow."""
    if columns.messages is None:
        turns: list[Turn] = []
        for name, role in ((columns.prompt, "user"), (columns.completion, "assistant")):
            found = row.get(name or "")
            context = _value(row, columns.context) if role == "user" else ""
            text = "\n".join(part for part in (_value(row, name), context) if part)
            turns += _turns(found) if isinstance(found, list) else [{"role": role, "content": text}]
        return turns
    found = row.get(columns.messages)
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except json.JSONDecodeError as error:
            raise UnusableRow(f"the column {columns.messages!r} holds a text, not a list of turns") from error
    if not isinstance(found, list):
        raise UnusableRow(f"the column {columns.messages!r} holds no list of turns")
    return _turns(found)


def _turns(found: list[Any]) -> list[Turn]:
    turns: list[Turn] = []
    for number, turn in enumerate(found, 1):
        role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
        if not isinstance(role, str):
            raise UnusableRow(f"turn {number} has no role: it needs role and content, or from and value")
        others = {k: v for k, v in turn.items() if k not in ("role", "from", "content", "value") and v is not None}
        content = _content(turn.get("content", turn.get("value")))
        turns.append({**others, "role": ROLES.get(role.lower(), role.lower()), "content": content})
    return turns


def _content(content: Any) -> str:
    """Text of a turn; a list of parts (as multimodal data has it) gives its texts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in content)
    return "" if content is None else str(content)


def _answers(turns: list[Turn]) -> list[int]:
    """Which turns the assistant says something in."""
    spoken = (i for i, turn in enumerate(turns) if turn["role"] == "assistant")
    return [i for i in spoken if turns[i]["content"] or turns[i].get("tool_calls")]


def _chat_segments(turns: list[Turn], tokenizer: Any) -> list[Segment]:
    """Cut the rendered conversation where the assistant begins and ends to speak, as at inference.

    A template may render earlier turns otherwise than the last one (some drop their reasoning): then only the last
    answer is learnt.
    """
    answers = _answers(turns)
    if not answers:
        raise UnusableRow("the conversation has no answer of the assistant")
    turns = turns[: answers[-1] + 1]  # what comes after the last answer teaches nothing
    whole = _rendered(turns, tokenizer)
    for chosen in (answers, answers[-1:]):
        cuts = _cuts(turns, chosen, whole, tokenizer)
        if cuts is not None:
            break
    else:
        raise UnusableRow("the chat template does not show where the assistant's answer begins")
    pieces: list[Segment] = []
    last = 0
    for begin, end in cuts:
        # What a template sets behind the end of the turn, a line break mostly, is not the answer any more.
        stop = tokenizer.eos_token
        ended = whole.rfind(stop, begin, end) + len(stop) if stop and stop in whole[begin:end] else end
        pieces += [(whole[last:begin], False), (whole[begin:ended], True)]
        last = ended
    return [piece for piece in [*pieces, (whole[last:], False)] if piece[0]]


def _cuts(turns: list[Turn], answers: list[int], whole: str, tokenizer: Any) -> list[tuple[int, int]] | None:
    """Where each answer begins and ends in `whole`, or None when its beginning renders otherwise alone."""
    found = []
    for index in answers:
        before = _rendered(turns[:index], tokenizer, begin=True) if index else ""
        until = whole if index == len(turns) - 1 else _rendered(turns[: index + 1], tokenizer)
        if not whole.startswith(before) or not whole.startswith(until) or len(before) > len(until):
            return None
        found.append((len(before), len(until)))
    return found


def _rendered(turns: list[Turn], tokenizer: Any, *, begin: bool = False) -> str:
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=begin))
    except Exception as error:  # templates raise jinja2's errors with their own sentences
        raise UnusableRow(f"the chat template refuses it: {error}") from error
