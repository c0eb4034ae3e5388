"""Turns of conversations in the keys and role names of chat templates, whatever their dataset calls them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from geko_engine.data.corrections import correct_turns
from geko_engine.data.formats.base import Turn, UnusableRow
from geko_engine.data.formats.cells import as_text, is_off, is_unicode, without_nulls
from geko_engine.data.formats.chat_template import REASONING

ASSISTANT = "assistant"
ROLES = {  # ShareGPT's names, and those of its relatives
    "human": "user",
    "prompter": "user",
    "ai": ASSISTANT,
    "bot": ASSISTANT,
    "chatgpt": ASSISTANT,
    "gpt": ASSISTANT,
    "model": ASSISTANT,
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
}
CALL_ROLES = ("function_call", "tool_call", "tool_calls")  # what such a turn says is a call of a tool
ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value", "text")
SWITCHES = ("weight", "train", "loss")  # false or 0: the turn is read, and not learned
NOT_LEARNT = "with answers that are not learned, as the row asks (weight, train or loss)"
ODD_WEIGHT = "with a weight other than 0 and 1, which counts as 1"
OPEN, CLOSE = "<think>", "</think>"


@dataclass
class Dialogue:
    """A conversation, ready for a chat template.

    Attributes:
        turns: role and content, and tool_calls, reasoning_content or other keys where a turn has them.
        learnt: for each turn, whether the row lets it be learned.
        tools: descriptions of the tools that the assistant may call.
        calls: number of a turn -> its tool calls as its dataset writes them.
        notes: what of the row is not learned as it stands there.
        remarks: what was done to it that changes nothing of what its answers say.
    """

    turns: list[Turn] = field(default_factory=list)
    learnt: list[bool] = field(default_factory=list)
    tools: list[Any] | None = None
    calls: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def say(self, role: str, content: str, *, learnt: bool = True) -> None:
        """Add a turn."""
        self.turns.append({"role": role, "content": content})
        self.learnt.append(learnt)

    def read(self, found: Any, *, learnt: bool = True) -> None:
        """Add the turns of a cell.

        Args:
            found: a list of turns, without nulls.
            learnt: False when none of them is to be learned.

        Raises:
            UnusableRow: when a turn has no role, or holds what a text model cannot read.
        """
        for number, turn in enumerate(found, 1):
            try:
                self._add(turn, learnt)
            except UnusableRow as reason:
                raise UnusableRow(f"turn {number} {reason}") from None

    def _add(self, turn: Any, learnt: bool) -> None:
        left = dict(turn) if isinstance(turn, dict) else {}
        role = _first(left, ROLE_KEYS)
        if not isinstance(role, str):
            raise UnusableRow("has no role: it needs role and content, or from and value")
        role = role.strip().lower()
        content, parts = _content(_first(left, CONTENT_KEYS))
        switched = [left.pop(name) for name in SWITCHES if name in left]
        self.notes += [ODD_WEIGHT] if any(_is_odd(value) for value in switched) else []
        calls = [*parts.pop("tool_calls", []), *_calls_of(left)]
        if role in CALL_ROLES:
            calls, role = [*calls, *parsed_calls(content)], ASSISTANT
            if calls:
                self.calls[len(self.turns)], content = content, ""
        known: Turn = {"role": ROLES.get(role, role), "content": content}
        reasoning = next((text for name in REASONING if (text := left.get(name))), parts.pop("reasoning", ""))
        if reasoning and isinstance(reasoning, str):
            known["reasoning_content"] = reasoning
        left = {name: value for name, value in left.items() if name not in REASONING}
        if calls:
            known["tool_calls"] = [as_call(call) for call in calls]
        for text in (content, reasoning):
            if isinstance(text, str) and not is_unicode(text):
                raise UnusableRow("holds half a character (a lone surrogate)")
        self.turns.append({**left, **known})
        self.learnt.append(learnt and not any(is_off(value) for value in switched))

    def answers(self) -> list[int]:
        """Numbers of the turns in which the assistant says something that is to be learned."""
        return [i for i in answers_of(self.turns) if self.learnt[i]]


def corrected_turns(found: list[Any], prompt: str | None, answer: str | None, *, is_prompt: bool = False) -> list[Turn]:
    """The turns of a cell, whatever their keys are called, with another last answer or another question; see correct_turns.

    Raises:
        UnusableRow: there is no such answer or question.
    """
    dialogue = Dialogue()
    dialogue.read(found)
    turns = [
        turn if learnt else {**turn, SWITCHES[0]: 0}
        for turn, learnt in zip(dialogue.turns, dialogue.learnt, strict=True)
    ]
    try:
        return correct_turns(turns, prompt, answer, is_prompt=is_prompt)
    except ValueError as reason:
        raise UnusableRow(str(reason)) from None


def answers_of(turns: Sequence[Turn]) -> list[int]:
    """Numbers of the turns in which the assistant says something."""
    spoken = (i for i, turn in enumerate(turns) if turn["role"] == ASSISTANT)
    return [i for i in spoken if str(turns[i]["content"]).strip() or turns[i].get("tool_calls")]


def reasoning_and_answer(turn: Turn) -> tuple[str, str]:
    """(what the assistant thinks, what it says) of a turn, both without space around them."""
    content = str(turn["content"])
    inside, closed, after = content.rpartition(CLOSE)
    if not closed:
        return str(turn.get("reasoning_content", "")).strip(), content.strip()
    return inside.rpartition(OPEN)[2].strip(), after.strip()


def turns_in(value: Any, column: str) -> list[Any]:
    """The list of turns in a cell, also where it is written as JSON text. Raises UnusableRow."""
    if isinstance(value, str):
        try:
            value = without_nulls(json.loads(value))
        except (ValueError, RecursionError) as error:
            raise UnusableRow(f"the column {column!r} holds a text, not a list of turns") from error
    if isinstance(value, dict) and len(value) == 1:  # {"messages": [...]} inside the cell
        value = next(iter(value.values()))
    if not isinstance(value, list):
        raise UnusableRow(f"the column {column!r} holds no list of turns")
    return value


def tools_in(value: Any, column: str) -> list[Any] | None:
    """Descriptions of tools as chat templates expect them: a list, also where it or its items are JSON text."""
    if isinstance(value, str):
        value = _json(value) if value.strip() else None
        if value is None:
            return None
    if value is None or value == []:
        return None
    found = [_json(item) if isinstance(item, str) else item for item in (value if isinstance(value, list) else [value])]
    if not all(isinstance(item, dict) for item in found):
        raise UnusableRow(f"the column {column!r} holds no descriptions of tools")
    return [item if "function" in item or "name" not in item else _function(item) for item in found]


def parsed_calls(text: str) -> list[Any]:
    """The calls that are written as JSON in a text; none where it is something else."""
    found = _json(text)
    found = found if isinstance(found, list) else [found]
    return found if all(isinstance(call, dict) and call.get("name") for call in found) else []


def as_call(call: Any) -> dict[str, Any]:
    """A call as templates read it, {"type": "function", "function": {"name", "arguments"}}, arguments decoded once."""
    call = _json(call) if isinstance(call, str) else call
    if not isinstance(call, dict):
        raise UnusableRow("holds a tool call that is no object")
    inner = dict(call["function"]) if isinstance(call.get("function"), dict) else None
    outer = {k: v for k, v in call.items() if k in ("id", "type")} if inner is None else dict(call)
    inner = inner if inner is not None else {k: v for k, v in call.items() if k not in ("id", "type")}
    if not isinstance(inner.get("name"), str):
        raise UnusableRow("holds a tool call without a name")
    if isinstance(inner.get("arguments"), str):
        decoded = _json(inner["arguments"]) if inner["arguments"].strip() else {}
        inner["arguments"] = decoded if isinstance(decoded, dict) else inner["arguments"]
    return {**outer, "type": "function", "function": {"arguments": {}, **inner}}


def written_calls(turn: Turn) -> str:
    """The tool calls of a turn as JSON text, one a line."""
    return "\n".join(json.dumps(call["function"], ensure_ascii=False, default=as_text) for call in turn["tool_calls"])


def _function(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": item}


def _first(left: dict[str, Any], names: Sequence[str]) -> Any:
    """Take the first of `names` that is there out of `left`."""
    return next((left.pop(name) for name in names if name in left), None)


def _calls_of(left: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for name in ("tool_calls", "function_call"):
        value = left.pop(name, None)
        value = _json(value) if isinstance(value, str) and value.strip() else value
        found += value if isinstance(value, list) else [value] if value else []
    return found


def _is_odd(value: Any) -> bool:
    return isinstance(value, int | float) and value not in (0, 1)


def _json(text: str) -> Any:
    try:
        return without_nulls(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _content(content: Any) -> tuple[str, dict[str, Any]]:
    """(text, other keys of the turn) of a turn's content, which may be a list of parts. Raises UnusableRow."""
    if not isinstance(content, list):
        return as_text(content), {}
    texts: list[str] = []
    others: dict[str, Any] = {}
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if not isinstance(part, dict):
            texts.append(as_text(part))
        elif kind in ("thinking", "reasoning"):
            others["reasoning"] = others.get("reasoning", "") + as_text(part.get(kind, part.get("text")))
        elif kind == "tool_use":
            call = {"name": part.get("name"), "arguments": part.get("input", {})}
            others.setdefault("tool_calls", []).append(call)
        elif kind == "tool_result":
            texts.append(_content(part.get("content"))[0])
        elif "text" in part or kind == "text":
            texts.append(as_text(part.get("text")))
        else:
            raise UnusableRow(f"holds a part of the type {kind!r}, which a text model cannot read")
    return "".join(texts), others
