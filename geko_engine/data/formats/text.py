"""Formats without turns: plain text, and a prompt with its completion. They need no chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from geko_engine.data.formats.base import Rendering, Row, Segment
from geko_engine.data.formats.cells import Cells, something
from geko_engine.data.formats.columns import Beside, join_lines, pair_sentence, with_context


@dataclass(frozen=True)
class PlainText:
    """One column of text, all of it learnt.

    Args:
        text: the column.
        beside: further columns that are read.
    """

    text: str
    beside: Beside = Beside()

    layout: ClassVar[str] = "text"
    uses_chat_template: ClassVar[bool] = False
    has_answers: ClassVar[bool] = False
    answer_column: ClassVar[None] = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.text, *self.beside.names)

    @property
    def sentence(self) -> str:
        return f"Plain text in {self.text!r}{self.beside.phrase}; all of it is learned."

    def render(self, row: Row, tokenizer: Any) -> list[Rendering]:
        cells = Cells(row)
        self.beside.refuse_unwanted(cells)
        return [Rendering([(something(cells.text(self.text)), True)], notes=tuple(cells.notes))]

    def render_pair(self, prompt: str, answer: str, tokenizer: Any) -> list[Segment]:
        return [(prompt, False), (answer, True)]

    def opening(self, prompt: str, tokenizer: Any) -> str:
        return prompt

    def corrected(self, row: Row, prompt: str | None, answer: str | None) -> Row:
        return row if answer is None else {**row, self.text: answer}

    def question(self, row: Row) -> tuple[str, int]:
        return "", 0


@dataclass(frozen=True)
class PromptCompletion:
    """A prompt, a line break, and the completion, which is learned.

    Args:
        prompt: the column of the prompt.
        completion: the column of the completion.
        context: the column of further input, which is part of the prompt.
        beside: further columns that are read; rules and earlier turns stand above the prompt.
        labels: whether the completion is the label of a class.
    """

    prompt: str
    completion: str
    context: str | None = None
    beside: Beside = Beside()
    labels: bool = False

    layout: ClassVar[str] = "pair"
    uses_chat_template: ClassVar[bool] = False
    has_answers: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name in (self.prompt, self.completion, self.context) if name) + self.beside.names

    @property
    def answer_column(self) -> str:
        return self.completion

    @property
    def sentence(self) -> str:
        return pair_sentence(self.prompt, self.completion, self.context, self.beside, labels=self.labels, chat=False)

    def render(self, row: Row, tokenizer: Any) -> list[Rendering]:
        cells = Cells(row)
        self.beside.refuse_unwanted(cells)
        pair = self.render_pair(self._prompt(cells), something(cells.text(self.completion)), tokenizer)
        return [Rendering(pair, notes=tuple(cells.notes))]

    def render_pair(self, prompt: str, answer: str, tokenizer: Any) -> list[Segment]:
        return [(self.opening(prompt, tokenizer), False), (answer, True)]

    def opening(self, prompt: str, tokenizer: Any) -> str:
        return prompt + "\n"

    def corrected(self, row: Row, prompt: str | None, answer: str | None) -> Row:
        """The new prompt is all that stands above the answer, so the other columns of the prompt are emptied."""
        changed = dict(row)
        if prompt is not None:
            beside = (self.context, self.beside.system, self.beside.history, self.beside.tools)
            changed |= {self.prompt: prompt} | {name: None for name in beside if name}
        return changed if answer is None else changed | {self.completion: answer}

    def question(self, row: Row) -> tuple[str, int]:
        return self._prompt(Cells(row)), 0

    def _prompt(self, cells: Cells) -> str:
        asked = with_context(self.prompt, cells.text(self.prompt), cells.text(self.context))
        earlier = [text for _, text in self.beside.earlier(cells)]
        return join_lines([cells.text(self.beside.system), *earlier, cells.text(self.beside.tools), asked])
