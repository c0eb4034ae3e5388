"""Which format the rows of a dataset have: by the columns that the user names, else by the usual names.

Many rows decide, not one: the first usual format that fits at least half of them, else the one that fits most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from geko_engine.config.sections import DataConfig
from geko_engine.data.formats.base import Format, Row
from geko_engine.data.formats.columns import Beside
from geko_engine.data.formats.conversation import Conversation, PromptCompletionChat
from geko_engine.data.formats.guessing import guess_pair, is_label
from geko_engine.data.formats.own_templates import brings_template
from geko_engine.data.formats.text import PlainText, PromptCompletion
from geko_engine.data.formats.turns import ROLES
from geko_engine.exceptions import DataError

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
CONTEXTS = {"instruction": ("input", "context")}  # further input, where the data has it
OTHER_CONTEXTS = ("context",)
MESSAGE_COLUMNS = ("messages", "conversations", "conversation")
TEXT_COLUMNS = ("text", "content")
CLASSIFIED_COLUMNS = ("text", "sentence", "content", "utterance", "review")
LABEL_COLUMNS = ("label_text", "label", "labels", "category", "intent", "class", "sentiment")
SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
HISTORY_COLUMNS = ("history",)
TOOL_COLUMNS = ("tools", "functions")
TURN_COLUMNS = (("role", "content"), ("from", "value"), ("role", "text"))
ROWS_ASKED = 2000  # spread over the data
RAW, AUTO = "raw", "auto"


Fits = Callable[[Row], bool]
Candidate = tuple[Fits, Callable[[], Format]]  # whether a usual format fits a row, and what makes it


def column_names(rows: Sequence[Row]) -> list[str]:
    """All columns of `rows`, in the order in which they first appear."""
    return list(dict.fromkeys(str(name) for row in rows for name in row))


def recognise(rows: Sequence[Row], config: DataConfig, tokenizer: Any = None) -> Format:
    """The format of the columns named in `config`, else a usual one.

    Args:
        rows: all rows of a dataset, at least one.
        config: names columns, and says whether prompts go through the chat template.
        tokenizer: whether it brings a chat template decides where the settings leave it open.

    Raises:
        DataError: when a named column does not exist, when only half of a pair is named, when the rows are preference
            data, or when nothing is known.
    """
    return _Recognition(rows, config, tokenizer).found()


def recognise_evaluation(rows: Sequence[Row], training: Format | None, config: DataConfig, tokenizer: Any) -> Format:
    """The format of evaluation rows: that of the training rows where its columns are there, else their own.

    A few rows may not show what many do, so the same columns could be recognised differently.

    Args:
        rows: all evaluation rows, at least one.
        training: the format of the training rows; None where it is not known.
        config: as for `recognise`.
        tokenizer: as for `recognise`.

    Raises:
        DataError: as `recognise` does.
    """
    if training is not None and set(training.columns) <= set(column_names(rows)):
        return training
    return recognise(rows, config, tokenizer)


def format_as_configured(config: DataConfig) -> Format:
    """The format that the settings alone point to, for when the rows cannot be read."""
    if config.text_column:
        return PlainText(config.text_column)
    if config.messages_column:
        return Conversation(config.messages_column)
    names = config.prompt_column or "prompt", config.completion_column or "completion"
    return PromptCompletion(*names) if config.chat_template in (AUTO, RAW) else PromptCompletionChat(*names)


def guess_note(format: Format, config: DataConfig) -> str:
    """What to say of columns that were guessed: no setting names them and their names are no usual ones; else ""."""
    if any(getattr(config, f"{name}_column") for name in ("prompt", "completion", "text", "messages")):
        return ""
    if isinstance(format, PlainText) and format.text not in TEXT_COLUMNS:
        return f"Column guessed: {format.text!r} is learned as text."
    if isinstance(format, PromptCompletion | PromptCompletionChat) and not _is_usual(format, config):
        return f"Columns guessed: {format.prompt!r} is the prompt, {format.completion!r} is learned."
    return ""


def _is_usual(format: PromptCompletion | PromptCompletionChat, config: DataConfig) -> bool:
    labelled = format.prompt in CLASSIFIED_COLUMNS and format.completion in (*LABEL_COLUMNS, config.label_column)
    return labelled or (format.prompt, format.completion) in COLUMN_PAIRS


class _Recognition:
    def __init__(self, rows: Sequence[Row], config: DataConfig, tokenizer: Any) -> None:
        self._present = column_names(rows)
        self._rows = [rows[i] for i in range(0, len(rows), max(1, len(rows) // ROWS_ASKED))]
        self._config, self._tokenizer = config, tokenizer
        self._beside = Beside(
            self._named("system") or self._first(SYSTEM_COLUMNS),
            self._first(HISTORY_COLUMNS),
            self._first(TOOL_COLUMNS),
            self._named("weight"),
        )

    def found(self) -> Format:
        prompt, completion, text = (self._named(name) for name in ("prompt", "completion", "text"))
        messages, label = self._named("messages"), self._named("label")
        chosen = [name for name, value in (("messages", messages), ("text", text)) if value]
        if len(chosen) + bool(prompt or completion) > 1:
            raise DataError(
                "Name one of them: a conversation column, a text column, or prompt and completion.",
                f"data.{chosen[-1]}_column",
            )
        if messages:
            return Conversation(messages, self._with(label))
        if label and not completion:
            asked = prompt or text or self._first(CLASSIFIED_COLUMNS)
            if asked:
                return self._pair(asked, label, self._named("context"), labels=True)
        if text:
            return PlainText(text, Beside(weight=self._beside.weight))
        if prompt or completion:
            return self._pair(*self._both(prompt, completion), self._named("context"), label=label)
        return self._usual(label)

    def _named(self, name: str) -> str | None:
        column: str | None = getattr(self._config, f"{name}_column")
        if column and column not in self._present:
            raise DataError(
                f"There is no column {column!r}; there are: {', '.join(self._present)}.", f"data.{name}_column"
            )
        return column or None

    def _first(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if name in self._present), None)

    def _with(self, label: str | None) -> Beside:
        beside = self._beside
        return Beside(beside.system, beside.history, beside.tools, beside.weight, label)

    def _both(self, prompt: str | None, completion: str | None) -> tuple[str, str]:
        if prompt and completion:
            return prompt, completion
        missing = "completion" if prompt else "prompt"
        raise DataError("Name both the prompt column and the completion column.", f"data.{missing}_column")

    def _usual(self, label: str | None) -> Format:
        candidates = [*self._conversations(label), *self._pairs(label), *self._labelled(), *self._texts()]
        self._refuse_preferences()
        self._refuse_turns()
        candidates = candidates or self._guessed_pairs(label)
        fitting = [sum(map(fits, self._rows)) for fits, _ in candidates]
        if not candidates:
            raise DataError(
                f"None of the columns {', '.join(self._present)} is known. Name the prompt and completion columns, "
                "the text column, or the conversation column.",
                "data.prompt_column",
            )
        enough = (i for i, count in enumerate(fitting) if 2 * count >= len(self._rows))
        return candidates[next(enough, fitting.index(max(fitting)))][1]()

    def _conversations(self, label: str | None) -> list[Candidate]:
        names = [name for name in MESSAGE_COLUMNS if name in self._present]
        for _ in names[:1]:
            self._refuse_marked(label, "messages")
        return [(_holds(_is_turns, name), partial(Conversation, name, self._with(label))) for name in names]

    def _pairs(self, label: str | None) -> list[Candidate]:
        pairs = [(a, b) for a, b in COLUMN_PAIRS if a in self._present and b in self._present]
        if pairs:
            self._refuse_marked(label, " and ".join(pairs[0]))
        return [
            (_holds(_is_filled, *pair), partial(self._pair, *pair, self._context_of(*pair), label=label))
            for pair in pairs
        ]

    def _guessed_pairs(self, label: str | None) -> list[Candidate]:
        """The pair that words in the names or the values suggest. Raises DataError where several could be meant."""
        context = self._named("context")  # what has a role already is neither prompt nor completion
        found = guess_pair(self._rows, [name for name in self._present if name != context])
        if found is None:
            return []
        pair = found.prompt, found.completion
        self._refuse_marked(label, " and ".join(pair))
        make = partial(self._pair, *pair, self._context_of(*pair), label=label, labels=found.labels)
        return [(_holds(_is_filled, *pair), make)]

    def _labelled(self) -> list[Candidate]:
        text, label = self._first(CLASSIFIED_COLUMNS), self._first(LABEL_COLUMNS)
        if not text or not label or text == label:
            return []
        if not is_label(self._rows, label):
            return []
        return [(_holds(_is_filled, text), partial(self._pair, text, label, self._named("context"), labels=True))]

    def _texts(self) -> list[Candidate]:
        names = [name for name in TEXT_COLUMNS if name in self._present]
        names += self._present if len(self._present) == 1 else []
        beside = Beside(weight=self._beside.weight)
        return [(_holds(_is_filled, name), partial(PlainText, name, beside)) for name in dict.fromkeys(names)]

    def _context_of(self, prompt: str, completion: str) -> str | None:
        names = CONTEXTS.get(prompt, OTHER_CONTEXTS)
        return self._named("context") or self._first([name for name in names if name not in (prompt, completion)])

    def _pair(
        self,
        prompt: str,
        completion: str,
        context: str | None,
        *,
        label: str | None = None,
        labels: bool = False,
    ) -> PromptCompletion | PromptCompletionChat:
        kind = PromptCompletionChat if self._is_chat(prompt, completion) else PromptCompletion
        return kind(prompt, completion, context, self._with(label), labels)

    def _is_chat(self, prompt: str, completion: str) -> bool:
        """Whether the pair becomes turns: it holds turns, the settings ask for it, or it will be asked in turns."""
        if any(isinstance(row.get(name), list) for row in self._rows for name in (prompt, completion)):
            return True
        if self._config.chat_template != AUTO:
            return self._config.chat_template != RAW
        turns = (self._beside.system, self._beside.history, self._beside.tools)
        filled = any(_is_filled(row.get(name)) for name in turns if name for row in self._rows)
        return filled or (self._tokenizer is not None and brings_template(self._tokenizer))

    def _refuse_preferences(self) -> None:
        if {"chosen", "rejected"} <= set(self._present) and not any(n in self._present for n in MESSAGE_COLUMNS):
            raise DataError(
                "These are preference data, as for DPO: the columns chosen and rejected. GEKO learns answers, not "
                "preferences. To learn the chosen ones, name 'chosen' as the completion column and the prompt's column, "
                "or as the conversation column where it holds whole conversations.",
                "data.train",
            )

    def _refuse_turns(self) -> None:
        """Rows that are turns: which of them belong together is not said, and the user's words would be learned."""
        if any(name in self._present for name in MESSAGE_COLUMNS):
            return
        spoken = ("system", "developer", "user", "assistant", "tool", *ROLES)
        for role, text in TURN_COLUMNS:
            if {role, text} <= set(self._present) and all(row.get(role) in spoken for row in self._rows):
                raise DataError(
                    f"Each row is one turn of a conversation ({role}, {text}). Write one conversation a row, with its "
                    f"turns as a list in a column 'messages'; or name {text!r} as the text column to learn every turn.",
                    "data.train",
                )

    def _refuse_marked(self, label: str | None, what: str) -> None:
        marks = [row["label"] for row in self._rows if row.get("label") is not None]
        if label is None and marks and all(isinstance(mark, bool) for mark in marks):
            raise DataError(
                f"These are preference data, as for KTO: {what}, and a label that says whether an answer is good. "
                "GEKO learns answers, not preferences. To learn the good ones alone, name 'label' as the label column.",
                "data.label_column",
            )


def _holds(test: Callable[[Any], bool], *columns: str) -> Fits:
    return lambda row: all(test(row.get(column)) for column in columns)


def _is_filled(value: Any) -> bool:
    return not (value is None or value in ("", []) or value != value)  # NaN differs from itself


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))
