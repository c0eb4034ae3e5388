"""The data of a run, ready to train on: rows, columns, tokens, held-out share; and what was found in them.

Shared by the run itself and by the look at it before the start. Knows no model.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from geko_engine.config.run_config import RunConfig
from geko_engine.data import token_cache
from geko_engine.data.batches import TokenizedData, hold_out, overlap
from geko_engine.data.excluded_rows import EXCLUDE, flagged_rows
from geko_engine.data.excluded_rows import FIELD as ROW_FLAGS
from geko_engine.data.formats import PLAIN_TEMPLATE, Columns, Row, recognise_columns
from geko_engine.data.sources import load_rows
from geko_engine.data.tokenization import tokenise
from geko_engine.exceptions import DataError, Stopped
from geko_engine.reporting.events import Event, Message, PhaseChanged

FIRST_ROWS = 1000  # are looked at before a model is loaded
ROWS_NAMED = 10  # row numbers in a sentence
Emit = Callable[[Event], None]


@dataclass(frozen=True)
class Finding:
    """Something that the user should know about some rows.

    Attributes:
        kind: truncated, empty, masked, duplicate, unusable, flagged or overlap. rows: their numbers, from 1.
        sentence: what it is and what follows from it, with the first row numbers.
    """

    kind: str
    rows: list[int]
    sentence: str


@dataclass(frozen=True)
class Prepared:
    """One dataset: its tokens, the columns it was read by, and what was found in it."""

    name: str  # training or evaluation
    source: str
    columns: Columns
    data: TokenizedData
    row_count: int
    findings: list[Finding]


def gather(config: RunConfig, emit: Emit, should_stop: Callable[[], bool]) -> dict[str, list[Row]]:
    """The rows of the training data and, where it is named, of the evaluation data, by those names.

    Raises:
        DataError: at the field where the way out is. Stopped: when should_stop says so.
    """
    found = {}
    for name, source in (("training", config.data.train), ("evaluation", config.data.eval)):
        if should_stop():
            raise Stopped
        if source:
            emit(PhaseChanged("downloading", f"{name} data {source}"))
            arrived = functools.partial(told, emit, f"{name} data {source}, rows", 1)
            found[name] = load_rows(
                config.data, evaluation=name == "evaluation", should_stop=should_stop, on_progress=arrived
            )
    return found


def told(emit: Emit, what: str, unit: int, done: int, total: int) -> None:
    """Say how much of a download has come, in units of `unit`."""
    if done >= unit:
        emit(PhaseChanged("downloading", what, done // unit, total // unit))


def prepare(
    config: RunConfig,
    rows: dict[str, list[Row]],
    tokenizer: Any,
    longest: int,
    emit: Emit,
    should_stop: Callable[[], bool],
) -> list[Prepared]:
    """Training data and, where there is any, evaluation data as tokens; at most `longest` of them a sample.

    A tokenizer without a chat template gets GEKO's plain one when conversations need it; it is saved with the model.

    Args:
        rows: what `gather` found; emptied, so that rows and tokens are not both held for long.

    Raises:
        DataError: at the field where the way out is. Stopped: when should_stop says so.
    """
    limit, whose = min(config.data.max_length, longest), limit_of(config, longest)
    parts = []
    for name, source in (("training", config.data.train), ("evaluation", config.data.eval or "")):
        if name in rows:
            mine = rows.pop(name)
            columns = recognise_columns(mine, config.data)
            use_template(columns, tokenizer, emit)
            left, flagged = without_flagged(mine, config) if name == "training" else (mine, [])
            progress = functools.partial(_tokenised, emit, name)
            with _limit_explained(config, longest):
                data = _tokens(left, columns, tokenizer, limit, progress, should_stop)
            parts.append(Prepared(name, source, columns, data, len(mine), flagged + findings(data, limit, whose)))
    if len(parts) == 2:
        common = overlap(parts[0].data, parts[1].data)
        said = "in the training data too, so the evaluation flatters"
        parts[1].findings.extend([_finding("overlap", common, said)] if common else [])
    elif config.data.eval_ratio:
        return _held_out(parts[0], config)
    return parts


def refuse_unlearnable(config: RunConfig, rows: Sequence[Row], tokenizer: Any, longest: int) -> None:
    """Raise DataError when none of the first training rows has anything to learn: seconds after the start, not hours."""
    left_out = flagged_rows(config.data, EXCLUDE)
    first = [row for number, row in enumerate(rows[:FIRST_ROWS]) if number not in left_out]
    if not first:
        return
    columns = recognise_columns(rows, config.data)
    use_template(columns, tokenizer, lambda event: None)  # the whole work says it
    what = "first rows" if len(rows) > len(first) else "rows"
    with _limit_explained(config, longest):
        tokenise(first, columns, tokenizer, min(config.data.max_length, longest), what=what)


def limit_of(config: RunConfig, longest: int) -> str:
    """What the length of a sample is limited by: the setting, or a model that takes less."""
    return "max_length" if config.data.max_length <= longest else "all that the model can take"


@contextlib.contextmanager
def _limit_explained(config: RunConfig, longest: int) -> Iterator[None]:
    """Where the model is the limit, a larger max_length would not help: the way out is another one."""
    try:
        yield
    except DataError as error:
        if error.field != "data.max_length" or config.data.max_length <= longest:
            raise
        raise DataError(
            f"{str(error).split(':')[0]}: the completions lie beyond the {longest:,} tokens that this model can take. "
            "Shorten the prompts, or choose a model that takes more.",
            "data.train",
        ) from error


def without_flagged(rows: Sequence[Row], config: RunConfig) -> tuple[Sequence[Row | None], list[Finding]]:
    """`rows` with None for each that is left out as flagged, so that the others keep their numbers; and what to say of it.

    Raises:
        DataError: at data.row_flags, when the flags cannot be read or no row is left.
    """
    left_out = sorted(row for row in flagged_rows(config.data, EXCLUDE) if row < len(rows))
    if not left_out:
        return rows, []
    if len(left_out) == len(rows):
        raise DataError(f"All {len(rows):,} rows are flagged, so nothing is left to train on: unflag some.", ROW_FLAGS)
    kept: list[Row | None] = list(rows)
    for row in left_out:
        kept[row] = None
    return kept, [_finding("flagged", left_out, "left out, because they are flagged")]


def _held_out(train: Prepared, config: RunConfig) -> list[Prepared]:
    kept, held = hold_out(train.data, config.data.eval_ratio, config.training.seed)
    name = f"{100 * config.data.eval_ratio:g} % of the training data"
    return [replace(train, data=kept), Prepared("evaluation", name, train.columns, held, len(held), [])]


def use_template(columns: Columns, tokenizer: Any, emit: Emit) -> None:
    """Give a tokenizer that has no chat template GEKO's plain one where conversations are to be rendered."""
    if columns.is_chat and not getattr(tokenizer, "chat_template", None):
        tokenizer.chat_template = PLAIN_TEMPLATE
        emit(
            Message(
                "The tokenizer has no chat template: a plain one (User: …, Assistant: …) is used and saved with it."
            )
        )


def _tokenised(emit: Emit, name: str, done: int, total: int) -> None:
    emit(PhaseChanged("tokenising", f"{name} rows", done, total))


def _tokens(
    rows: Sequence[Row | None],
    columns: Columns,
    tokenizer: Any,
    limit: int,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> TokenizedData:
    key = token_cache.key_of(rows, columns, tokenizer, limit, should_stop)
    data = token_cache.load(key)
    if data is None:
        data = tokenise(rows, columns, tokenizer, limit, should_stop=should_stop, on_progress=progress)
        token_cache.store(key, data)
    progress(len(rows), len(rows))
    return data


def findings(data: TokenizedData, limit: int, whose: str = "max_length") -> list[Finding]:
    """What the user should know about the rows of one dataset."""
    found = [
        _finding("truncated", data.truncated, f"cut at {limit} tokens ({whose})"),
        _finding("empty", data.empty, "without anything to learn, left out"),
        _finding("masked", data.masked, f"with nothing to learn within {limit} tokens ({whose}), left out"),
        _finding("duplicate", data.duplicates, "equal to an earlier one"),
    ]
    for reason in dict.fromkeys(data.unusable.values()):
        rows = [row for row, why in data.unusable.items() if why == reason]
        found.append(_finding("unusable", rows, f"left out, because {reason}"))
    return [finding for finding in found if finding.rows]


def _finding(kind: str, rows: list[int], what: str) -> Finding:
    numbers = [row + 1 for row in rows]
    shown = ", ".join(str(number) for number in numbers[:ROWS_NAMED]) + (", …" if len(numbers) > ROWS_NAMED else "")
    return Finding(kind, numbers, f"{len(numbers):,} {'row' if len(numbers) == 1 else 'rows'} {what}: {shown}")
