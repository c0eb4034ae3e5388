"""Columns beside the prompt, the completion, the text or the turns, and how the parts of a prompt are joined."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from geko_engine.data.formats.base import UnusableRow
from geko_engine.data.formats.cells import Cells, as_text
from geko_engine.data.formats.turns import ODD_WEIGHT, Dialogue

BELOW = ("instruction",)  # prompts that further input stands below; it stands above the others, as a passage does


@dataclass(frozen=True)
class Beside:
    """Further columns that a format reads, None for each that there is not.

    Args:
        system: rules for the assistant, which stand before everything else.
        history: earlier questions and answers, as pairs or as turns.
        tools: descriptions of the tools that the assistant may call.
        weight: rows whose weight is 0 are left out.
        label: rows whose label is false are left out (of data for KTO).
    """

    system: str | None = None
    history: str | None = None
    tools: str | None = None
    weight: str | None = None
    label: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that there are."""
        return tuple(name for name in (self.system, self.history, self.tools, self.weight, self.label) if name)

    @property
    def phrase(self) -> str:
        """What is read beside the rest, for a sentence."""
        shown = {
            "system turn": self.system,
            "earlier turns": self.history,
            "tools": self.tools,
            "weight": self.weight,
            "label": self.label,
        }
        return "".join(f", {what} in {name!r}" for what, name in shown.items() if name)

    def refuse_unwanted(self, cells: Cells) -> None:
        """Raise UnusableRow for a row that is not to be learned as its weight or its label says."""
        for column, what in ((self.weight, "weight is 0"), (self.label, "label is false")):
            if cells.is_off(column):
                raise UnusableRow(f"its {what} (column {column!r})")
        weight = cells.value(self.weight)
        if isinstance(weight, int | float) and weight != 1:
            cells.notes.append(ODD_WEIGHT)

    def earlier(self, cells: Cells) -> list[tuple[str, str]]:
        """(role, text) of the turns before the prompt. Raises UnusableRow."""
        found = cells.value(self.history)
        if isinstance(found, str):
            try:
                found = json.loads(found) if found.strip() else None
            except (ValueError, RecursionError):
                found = False
        if found is not None and not isinstance(found, list):
            raise UnusableRow(f"the column {self.history!r} holds no list of earlier turns")
        turns: list[tuple[str, str]] = []
        for item in found or []:
            if isinstance(item, list) and len(item) == 2:
                turns += [("user", as_text(item[0])), ("assistant", as_text(item[1]))]
            elif isinstance(item, dict):
                dialogue = Dialogue()
                dialogue.read([item])
                turns.append((dialogue.turns[0]["role"], dialogue.turns[0]["content"]))
            else:
                raise UnusableRow(f"the column {self.history!r} holds no pairs of question and answer")
        return turns


def pair_sentence(
    prompt: str, completion: str, context: str | None, beside: Beside, *, labels: bool, chat: bool
) -> str:
    """What is read as what, for formats of a prompt and a completion."""
    where = "below" if prompt in BELOW else "above"
    asked = f"{prompt!r} with {context!r} {where} it" if context else f"{prompt!r}"
    form = " through the chat template" if chat else ""
    if labels:
        return f"Classification: the prompt is {asked}{beside.phrase}, the label in {completion!r} is its answer{form} and is learned."
    return f"Prompt in {asked}{beside.phrase}, completion in {completion!r}{form}; the completion is learned."


def with_context(prompt: str, text: str, context: str) -> str:
    """The prompt and its further input, one below the other.

    Args:
        prompt: the column of the prompt: its name decides which of them is first.
        text: the prompt.
        context: the further input.
    """
    return join_lines([text, context] if prompt in BELOW else [context, text])


def join_lines(parts: Iterable[str]) -> str:
    """The parts that are not empty, one below the other."""
    return "\n".join(part for part in parts if part)
