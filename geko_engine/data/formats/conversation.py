"""Formats of turns, rendered by the tokenizer's chat template; what the assistant says is learnt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from geko_engine.data.formats.base import Rendering, Row, Segment, Turn, UnusableRow
from geko_engine.data.formats.chat_template import answers_of, apply_template, render_turns
from geko_engine.data.formats.text import join_lines, prompt_columns
from geko_engine.data.formats.values import text_of

ROLES = {  # ShareGPT's names, and those of its relatives
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "function": "tool",
    "observation": "tool",
}


class _Turns:
    """What formats of turns share."""

    layout: ClassVar[str] = "conversation"
    uses_chat_template: ClassVar[bool] = True
    has_answers: ClassVar[bool] = True

    def turns(self, row: Row) -> list[Turn]:
        """The turns of a row as role and content, whatever they are called there. Raises UnusableRow."""
        raise NotImplementedError

    def render(self, row: Row, tokenizer: Any) -> Rendering:
        turns = self.turns(row)
        return Rendering(render_turns(turns, tokenizer), turns)

    def render_pair(self, prompt: str, answer: str, tokenizer: Any) -> list[Segment]:
        return render_turns([_turn("user", prompt), _turn("assistant", answer)], tokenizer)

    def opening(self, prompt: str, tokenizer: Any) -> str:
        return apply_template([_turn("user", prompt)], tokenizer, begin=True)

    def question(self, row: Row) -> tuple[str, int]:
        turns = self.turns(row)
        answers = answers_of(turns)
        asked = turns[: answers[-1]] if answers else turns
        return (str(asked[-1]["content"]), len(asked) - 1) if asked else ("", 0)


@dataclass(frozen=True)
class Conversation(_Turns):
    """A list of turns (role and content, or from and value), as a list or as JSON text.

    Args:
        messages: the column.
    """

    messages: str

    answer_column: ClassVar[None] = None

    @property
    def sentence(self) -> str:
        return f"Conversations in {self.messages!r}, through the chat template; the assistant's turns are learnt."

    def turns(self, row: Row) -> list[Turn]:
        found = row.get(self.messages)
        if isinstance(found, str):
            try:
                found = json.loads(found)
            except json.JSONDecodeError as error:
                raise UnusableRow(f"the column {self.messages!r} holds a text, not a list of turns") from error
        if not isinstance(found, list):
            raise UnusableRow(f"the column {self.messages!r} holds no list of turns")
        return normalised_turns(found)


@dataclass(frozen=True)
class PromptCompletionChat(_Turns):
    """A prompt and its completion as turns of a conversation; each may be a text or a list of turns.

    Args:
        prompt: the column of the prompt.
        completion: the column of the completion.
        context: the column of further input, which stands below the prompt.
    """

    prompt: str
    completion: str
    context: str | None = None

    @property
    def answer_column(self) -> str:
        return self.completion

    @property
    def sentence(self) -> str:
        return (
            f"Prompt in {prompt_columns(self)}, completion in {self.completion!r} through the chat template; "
            "the completion is learnt."
        )

    def turns(self, row: Row) -> list[Turn]:
        asked, answer = row.get(self.prompt), row.get(self.completion)
        text = join_lines(text_of(row, self.prompt), text_of(row, self.context))
        return [
            *(normalised_turns(asked) if isinstance(asked, list) else [_turn("user", text)]),
            *(
                normalised_turns(answer)
                if isinstance(answer, list)
                else [_turn("assistant", text_of(row, self.completion))]
            ),
        ]


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def normalised_turns(found: list[Any]) -> list[Turn]:
    """Turns with the keys and role names of chat templates. Raises UnusableRow when a turn has no role."""
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
