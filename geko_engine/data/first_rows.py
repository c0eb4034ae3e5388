"""The first rows of a dataset as a table: what each column is read as, and what is wrong with the rows.

Needs no model and no tokenizer, so the page shows it as soon as the data is named. Torch-free.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from geko_engine.config.sections import DEMO, DataConfig
from geko_engine.data.formats import (
    Beside,
    Conversation,
    Format,
    PlainText,
    PromptCompletion,
    PromptCompletionChat,
    Row,
    UnusableRow,
    column_names,
    guess_note,
    recognise,
)
from geko_engine.data.formats.cells import as_text
from geko_engine.data.formats.recognition import AUTO, RAW
from geko_engine.data.formats.turns import answers_of
from geko_engine.data.local_files import is_local, local_rows
from geko_engine.data.row_names import LoadedRows, RowNames
from geko_engine.data.sources import load_rows
from geko_engine.exceptions import DataError, GekoError

ROWS_SHOWN = 3
ROWS_COUNTED = 20_000  # of a local file
HUB_ROWS = 100  # are streamed
CELL = 200  # characters of a cell
MOST_COLUMNS = 40
ROLES = ("prompt", "completion", "text", "messages", "context", "system", "label", "weight")  # with a setting


@dataclass
class FirstRows:
    """The first rows of a dataset.

    Attributes:
        columns: name and role of each column; the role is that of a setting (prompt for data.prompt_column), "history"
            or "tools" for what is read because of its name alone, "" for a column that is not read.
        rows: the cells of the first rows as text, cut where they are long.
        count: rows that were read.
        is_cut: whether there may be more.
        reading: which columns are read as what, in one sentence; "" where that is not known.
        is_guess: whether that was guessed.
        error: why the rows or their columns cannot be read, "" if they can.
        field: the setting to change.
        findings: what to know of the rows, one sentence each.
    """

    columns: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    rows: list[list[str]] = dataclasses.field(default_factory=list)
    count: int = 0
    is_cut: bool = False
    reading: str = ""
    is_guess: bool = False
    error: str = ""
    field: str = ""
    findings: list[str] = dataclasses.field(default_factory=list)


def first_rows(config: DataConfig) -> FirstRows:
    """The first rows of the training data, with the roles of its columns.

    Args:
        config: names the data, and columns where they are not to be guessed.

    Returns:
        What could be read; problems stand in it and are not raised.
    """
    most = ROWS_COUNTED if config.train == DEMO or is_local(config.train) else HUB_ROWS
    count = min(config.sample_count or most, most)
    try:
        loaded = load_rows(replace(config, sample_count=count))
    except GekoError as error:
        return _unread(config, error)
    found = FirstRows(count=len(loaded), is_cut=len(loaded) == count)
    # The template needs a tokenizer. Without it, a pair of texts is read as such; the columns are the same.
    config = replace(config, chat_template=RAW if config.chat_template == AUTO else config.chat_template)
    try:
        format = recognise(loaded, config)
    except DataError as error:
        found.error, found.field = str(error), error.field
        _fill(found, loaded, _named_roles(config))
        return found
    note = guess_note(format, config)
    found.reading, found.is_guess = note or format.sentence, bool(note)
    found.findings = [*loaded.origin.sentences, *_problems(loaded, format)]
    _fill(found, loaded, roles_of(format))
    return found


def roles_of(format: Format) -> dict[str, str]:
    """The role of each column that a format reads, as FirstRows names it."""
    beside = getattr(format, "beside", Beside())
    roles = {"system": beside.system, "history": beside.history, "tools": beside.tools}
    roles |= {"weight": beside.weight, "label": beside.label}
    if isinstance(format, PlainText):
        roles["text"] = format.text
    elif isinstance(format, Conversation):
        roles["messages"] = format.messages
    elif isinstance(format, PromptCompletion | PromptCompletionChat):
        roles |= {"prompt": format.prompt, "context": format.context}
        roles["label" if format.labels else "completion"] = format.completion
    return {column: role for role, column in roles.items() if column}


def _named_roles(config: DataConfig) -> dict[str, str]:
    """The roles of the columns that the settings name."""
    named = {role: getattr(config, f"{role}_column") for role in ROLES}
    return {column: role for role, column in named.items() if column}


def _unread(config: DataConfig, error: GekoError) -> FirstRows:
    """What of a local file could be read before the row that cannot be."""
    found = FirstRows(error=str(error), field=error.field)
    if config.train != DEMO and is_local(config.train):
        _fill(found, list(_until_error(config)), {})
    return found


def _until_error(config: DataConfig) -> Iterator[Row]:
    try:
        for number, row in enumerate(local_rows(config.train, config.train_split)):
            if number == ROWS_SHOWN:
                return
            yield row
    except DataError:
        return  # it is reported already


def _fill(found: FirstRows, rows: list[Row], roles: Mapping[str, str]) -> None:
    names = column_names(rows[:ROWS_COUNTED])[:MOST_COLUMNS]
    found.columns = [(name, roles.get(name, "")) for name in names]
    found.rows = [[_cell(row.get(name)) for name in names] for row in rows[:ROWS_SHOWN]]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else as_text(value) if _is_plain(value) else f"({type(value).__name__})"
    text = text.encode(errors="replace").decode()
    return text if len(text) <= CELL else text[:CELL] + "…"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | list | dict)


def _problems(rows: LoadedRows, format: Format) -> list[str]:
    """Rows that cannot be read, rows without an answer, and rows equal to an earlier one; one sentence for each kind."""
    unusable: dict[str, list[int]] = {}
    empty, double, seen = [], [], set()
    for number, row in enumerate(rows):
        try:
            read, is_learned = _read(row, format)
        except UnusableRow as reason:
            unusable.setdefault(str(reason), []).append(number)
            continue
        if not is_learned:
            empty.append(number)
        elif read in seen:
            double.append(number)
        seen.add(read)
    listed = [(rows_, f"cannot be read: {reason}") for reason, rows_ in unusable.items()]
    listed += [
        (empty, "without an answer" if format.has_answers else "without text"),
        (double, "equal to an earlier row"),
    ]
    return [_sentence(numbers, what, rows.origin.names) for numbers, what in listed if numbers]


def _read(row: Row, format: Format) -> tuple[int, bool]:
    """What is read of a row, as a number that equal rows have in common; and whether something of it is learned."""
    if isinstance(format, Conversation | PromptCompletionChat):
        turns = format.dialogue(row).turns
        return hash(json.dumps(turns, default=str)), bool(answers_of(turns))
    pieces = [piece for sample in format.render(row, None) for piece in sample.segments]
    return hash(tuple(pieces)), any(text.strip() for text, is_learned in pieces if is_learned)


def _sentence(numbers: list[int], what: str, names: RowNames) -> str:
    return f"{len(numbers):,} {'row' if len(numbers) == 1 else 'rows'} {what}: {names.list(numbers)}"
