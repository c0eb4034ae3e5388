"""Formats without turns: plain text, and a prompt with its completion. They need no chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from geko_engine.data.formats.base import Rendering, Row, Segment
from geko_engine.data.formats.values import text_of


@dataclass(frozen=True)
class PlainText:
    """One column of text, all of it learnt.

    Args:
        text: the column.
    """

    text: str

    layout: ClassVar[str] = "text"
    uses_chat_template: ClassVar[bool] = False
    has_answers: ClassVar[bool] = False
    answer_column: ClassVar[None] = None

    @property
    def sentence(self) -> str:
        return f"Plain text in {self.text!r}; all of it is learnt."

    def render(self, row: Row, tokenizer: Any) -> Rendering:
        return Rendering([(text_of(row, self.text), True)])

    def render_pair(self, prompt: str, answer: str, tokenizer: Any) -> list[Segment]:
        return [(prompt, False), (answer, True)]

    def opening(self, prompt: str, tokenizer: Any) -> str:
        return prompt

    def question(self, row: Row) -> tuple[str, int]:
        return "", 0


@dataclass(frozen=True)
class PromptCompletion:
    """A prompt, a line break, and the completion, which is learnt.

    Args:
        prompt: the column of the prompt.
        completion: the column of the completion.
        context: the column of further input, which stands below the prompt.
    """

    prompt: str
    completion: str
    context: str | None = None

    layout: ClassVar[str] = "pair"
    uses_chat_template: ClassVar[bool] = False
    has_answers: ClassVar[bool] = True

    @property
    def answer_column(self) -> str:
        return self.completion

    @property
    def sentence(self) -> str:
        return f"Prompt in {prompt_columns(self)}, completion in {self.completion!r}; the completion is learnt."

    def render(self, row: Row, tokenizer: Any) -> Rendering:
        return Rendering(self.render_pair(self.question(row)[0], text_of(row, self.completion), tokenizer))

    def render_pair(self, prompt: str, answer: str, tokenizer: Any) -> list[Segment]:
        return [(self.opening(prompt, tokenizer), False), (answer, True)]

    def opening(self, prompt: str, tokenizer: Any) -> str:
        return prompt + "\n"

    def question(self, row: Row) -> tuple[str, int]:
        return join_lines(text_of(row, self.prompt), text_of(row, self.context)), 0


def prompt_columns(read: Any) -> str:
    """The columns of the prompt, for a sentence."""
    return f"{read.prompt!r} with {read.context!r} below it" if read.context else f"{read.prompt!r}"


def join_lines(*parts: str) -> str:
    """The parts that are not empty, one below the other."""
    return "\n".join(part for part in parts if part)
