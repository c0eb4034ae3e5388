"""Formats of turns, rendered by the tokenizer's chat template; what the assistant says is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from geko_engine.data.formats.answers import fit, render_dialogue
from geko_engine.data.formats.base import Rendering, Row, Segment, UnusableRow
from geko_engine.data.formats.cells import Cells
from geko_engine.data.formats.chat_template import ChatTemplate
from geko_engine.data.formats.columns import Beside, pair_sentence, with_context
from geko_engine.data.formats.turns import Dialogue, answers_of, corrected_turns, tools_in, turns_in

EMPTY = "its completion is empty"
PROMPT_ANSWER = "with answers of the assistant in the prompt, which are not learned"


class _Turns:
    """What formats of turns share."""

    layout: ClassVar[str] = "conversation"
    uses_chat_template: ClassVar[bool] = True
    has_answers: ClassVar[bool] = True
    beside: Beside

    def dialogue(self, row: Row) -> Dialogue:
        """The turns of a row, whatever they are called there. Raises UnusableRow."""
        cells = Cells(row)
        self.beside.refuse_unwanted(cells)
        dialogue = Dialogue(notes=cells.notes)
        system = cells.text(self.beside.system)
        if system:
            dialogue.say("system", system)
        for role, text in self.beside.earlier(cells):
            dialogue.say(role, text)
        self._say(cells, dialogue)
        if self.beside.tools:
            dialogue.tools = tools_in(cells.value(self.beside.tools), self.beside.tools)
        if not dialogue.turns:
            raise UnusableRow("it holds no turn")
        if system and len(dialogue.turns) > 1 and dialogue.turns[1]["role"] == "system":
            own = dialogue.turns.pop(1)["content"]
            dialogue.learnt.pop(1)
            dialogue.turns[0]["content"] = system if own.strip() == system.strip() else f"{system}\n\n{own}"
        return dialogue

    def _say(self, cells: Cells, dialogue: Dialogue) -> None:
        raise NotImplementedError

    def render(self, row: Row, tokenizer: Any) -> list[Rendering]:
        return render_dialogue(self.dialogue(row), tokenizer)

    def render_pair(self, prompt: str, answer: str, tokenizer: Any) -> list[Segment]:
        dialogue = Dialogue()
        dialogue.say("user", prompt)
        dialogue.say("assistant", answer)
        return render_dialogue(dialogue, tokenizer)[0].segments

    def opening(self, prompt: str, tokenizer: Any) -> str:
        dialogue = Dialogue()
        dialogue.say("user", prompt)
        template = ChatTemplate.of(tokenizer)
        fit(dialogue, template)
        return template.render(dialogue.turns, begin=True)

    def corrected(self, row: Row, prompt: str | None, answer: str | None) -> Row:
        raise NotImplementedError

    def question(self, row: Row) -> tuple[str, int]:
        turns = self.dialogue(row).turns
        answers = answers_of(turns)
        asked = turns[: answers[-1]] if answers else turns
        return (str(asked[-1]["content"]), len(asked) - 1) if asked else ("", 0)


@dataclass(frozen=True)
class Conversation(_Turns):
    """A list of turns (role and content, or from and value), as a list or as JSON text.

    Args:
        messages: the column.
        beside: further columns that are read.
    """

    messages: str
    beside: Beside = Beside()

    answer_column: ClassVar[None] = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.messages, *self.beside.names)

    @property
    def sentence(self) -> str:
        return (
            f"Conversations in {self.messages!r}{self.beside.phrase}, through the chat template; "
            "the assistant's turns are learned."
        )

    def corrected(self, row: Row, prompt: str | None, answer: str | None) -> Row:
        return {
            **row,
            self.messages: corrected_turns(turns_in(Cells(row).value(self.messages), self.messages), prompt, answer),
        }

    def _say(self, cells: Cells, dialogue: Dialogue) -> None:
        dialogue.read(turns_in(cells.value(self.messages), self.messages))


@dataclass(frozen=True)
class PromptCompletionChat(_Turns):
    """A prompt and its completion as turns of a conversation; each may be a text or a list of turns.

    Args:
        prompt: the column of the prompt.
        completion: the column of the completion.
        context: the column of further input, which stands in the prompt.
        beside: further columns that are read.
        labels: whether the completion is the label of a class.
    """

    prompt: str
    completion: str
    context: str | None = None
    beside: Beside = Beside()
    labels: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name in (self.prompt, self.completion, self.context) if name) + self.beside.names

    @property
    def answer_column(self) -> str:
        return self.completion

    @property
    def sentence(self) -> str:
        return pair_sentence(self.prompt, self.completion, self.context, self.beside, labels=self.labels, chat=True)

    def corrected(self, row: Row, prompt: str | None, answer: str | None) -> Row:
        """A new prompt takes the place of the last question with its context."""
        changed, cells = dict(row), Cells(row)
        asked, said = cells.value(self.prompt), cells.value(self.completion)
        if prompt is not None:
            changed[self.prompt] = (
                corrected_turns(asked, prompt, None, is_prompt=True) if isinstance(asked, list) else prompt
            )
            changed |= {self.context: None} if self.context else {}
        if answer is not None:
            changed[self.completion] = corrected_turns(said, None, answer) if isinstance(said, list) else answer
        return changed

    def render(self, row: Row, tokenizer: Any) -> list[Rendering]:
        answer = Cells(row).value(self.completion)
        if answer in (None, []) or (isinstance(answer, str) and not answer.strip()):
            raise UnusableRow(f"{EMPTY} (column {self.completion!r})")
        return render_dialogue(self.dialogue(row), tokenizer)

    def _say(self, cells: Cells, dialogue: Dialogue) -> None:
        asked, answer = cells.value(self.prompt), cells.value(self.completion)
        context = cells.text(self.context)
        if isinstance(asked, list):
            before = len(dialogue.turns)
            dialogue.read(asked, learnt=False)
            dialogue.notes += [PROMPT_ANSWER] if answers_of(dialogue.turns[before:]) else []
            if context:
                dialogue.say("user", context)
        else:
            dialogue.say("user", with_context(self.prompt, cells.text(self.prompt), context))
        if isinstance(answer, list):
            dialogue.read(answer)
        else:
            dialogue.say("assistant", cells.text(self.completion))
