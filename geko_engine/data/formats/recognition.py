"""Which format the rows of a dataset have: by the columns that the user names, else by the usual names."""

from __future__ import annotations

from collections.abc import Sequence

from geko_engine.config.sections import DataConfig
from geko_engine.data.formats.base import Format, Row
from geko_engine.data.formats.conversation import Conversation, PromptCompletionChat
from geko_engine.data.formats.text import PlainText, PromptCompletion
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
CONTEXTS = {"instruction": ("input", "context")}  # what stands below the prompt, where the data has it
MESSAGE_COLUMNS = ("messages", "conversations", "conversation")
TEXT_COLUMNS = ("text", "content")


def column_names(rows: Sequence[Row]) -> list[str]:
    """All columns of `rows`, in the order in which they first appear."""
    return list(dict.fromkeys(str(name) for row in rows for name in row))


def recognise(rows: Sequence[Row], config: DataConfig) -> Format:
    """The format of the columns named in `config`, else the first usual one whose columns are there.

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
    if named["messages"]:
        return Conversation(named["messages"])
    if named["text"]:
        return PlainText(named["text"])
    if pair:
        return _pair(rows, config, *_both(named["prompt"], named["completion"]))
    return _usual_format(rows, present, config)


def format_as_configured(config: DataConfig) -> Format:
    """The format that the settings alone point to, for when the rows cannot be read."""
    if config.text_column:
        return PlainText(config.text_column)
    if config.messages_column:
        return Conversation(config.messages_column)
    names = config.prompt_column or "prompt", config.completion_column or "completion"
    return PromptCompletionChat(*names) if config.chat_template else PromptCompletion(*names)


def _both(prompt: str | None, completion: str | None) -> tuple[str, str]:
    if prompt and completion:
        return prompt, completion
    missing = "completion" if prompt else "prompt"
    raise DataError("Name both the prompt column and the completion column.", f"data.{missing}_column")


def _usual_format(rows: Sequence[Row], present: list[str], config: DataConfig) -> Format:
    for messages in MESSAGE_COLUMNS:
        if messages in present:
            return Conversation(messages)
    for prompt, completion in COLUMN_PAIRS:
        if prompt in present and completion in present:
            context = next((name for name in CONTEXTS.get(prompt, ()) if name in present), None)
            return _pair(rows, config, prompt, completion, context)
    for text in TEXT_COLUMNS:
        if text in present:
            return PlainText(text)
    if len(present) == 1:
        return PlainText(present[0])
    raise DataError(
        f"None of the columns {', '.join(present)} is known. Name the prompt and completion columns, the text column, "
        "or the conversation column.",
        "data.prompt_column",
    )


def _pair(
    rows: Sequence[Row], config: DataConfig, prompt: str, completion: str, context: str | None = None
) -> PromptCompletion | PromptCompletionChat:
    """Prompt and completion may be lists of turns themselves: those need the chat template too."""
    chat = config.chat_template or isinstance(rows[0].get(prompt), list)
    return (PromptCompletionChat if chat else PromptCompletion)(prompt, completion, context)
