"""What every dataset format has in common: rows, turns, rendered rows. Knows no tokenizer and no column name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

Row = dict[str, Any]
Turn = dict[str, Any]  # role, content, and what else a template may read (tool calls, reasoning)
Segment = tuple[str, bool]  # a piece of the rendered row, and whether it is learned


class UnusableRow(Exception):
    """A row that cannot be rendered, with the reason in one sentence; it is left out and listed."""


@dataclass(frozen=True)
class UnreadableCell:
    """In place of a cell whose file holds what Python cannot read.

    Attributes:
        reason: what it holds; completes "the column 'text' holds ...".
    """

    reason: str


@dataclass(frozen=True)
class Rendering:
    """One sample as the model reads it; a row gives one, or one for each answer where its template asks for it.

    Attributes:
        segments: the pieces of text in their order, each learnt or not.
        turns: the conversation that they were made of, for formats that have one.
        notes: what of the row is not learned as it stands there; each completes "N rows ...".
        tools: descriptions of the tools that the assistant may call, for formats that have them.
        remarks: what was done to the row that changes nothing of what its answers say; in the same form.
    """

    segments: list[Segment]
    turns: list[Turn] | None = None
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    tools: list[Any] | None = None

    @property
    def text(self) -> str:
        """All pieces, joined."""
        return "".join(text for text, _ in self.segments)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First character and the one after the last of each learnt piece in `text`."""
        found, end = [], 0
        for text, learnt in self.segments:
            begin, end = end, end + len(text)
            if learnt and text:
                found.append((begin, end))
        return found


class Format(Protocol):
    """How the rows of a dataset become text. One frozen dataclass per format: its fields are the columns it reads.

    Attributes:
        layout: text, pair or conversation: how the samples are shown, and the name under which a run keeps them.
        uses_chat_template: whether rows are rendered by the tokenizer's chat template, which brings its own special
            tokens; rows of the other formats end with the tokenizer's end of sequence.
        has_answers: whether a sample has an answer that can be right or wrong.
    """

    layout: ClassVar[str]
    uses_chat_template: ClassVar[bool]
    has_answers: ClassVar[bool]

    @property
    def sentence(self) -> str:
        """Which columns are read as what, in one sentence for the user."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""

    @property
    def answer_column(self) -> str | None:
        """The column that the learnt text comes from, where it is a column of its own."""

    def render(self, row: Row, tokenizer: Any) -> list[Rendering]:
        """`row` as the model reads it: one sample, or one for each answer.

        Raises:
            UnusableRow: when it cannot be rendered, with the reason.
        """

    def render_pair(self, prompt: str, answer: str, tokenizer: Any) -> list[Segment]:
        """A prompt and its answer in the layout that this format gives its rows. Raises UnusableRow."""

    def opening(self, prompt: str, tokenizer: Any) -> str:
        """What a model reads before it answers `prompt`, rendered as `render` renders a row. Raises UnusableRow."""

    def corrected(self, row: Row, prompt: str | None, answer: str | None) -> Row:
        """A copy of `row` with another last question or last answer; None leaves it. Raises UnusableRow."""

    def question(self, row: Row) -> tuple[str, int]:
        """(the last question of `row`, number of turns before it). Raises UnusableRow."""
