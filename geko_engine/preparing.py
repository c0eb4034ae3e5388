"""The data of a run, ready to train on: rows, columns, tokens, held-out share; and what was found in them.

Shared by the run itself and by the look at it before the start. Knows no model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from geko_engine import token_cache
from geko_engine.config import DataConfig, RunConfig
from geko_engine.data import Stopped, TokenizedData, hold_out, overlap, tokenise
from geko_engine.events import Event, Message, PhaseChanged
from geko_engine.shapes import PLAIN_TEMPLATE, Columns, Row, recognise_columns
from geko_engine.sources import load_rows

ROWS_NAMED = 10  # row numbers in a sentence
Emit = Callable[[Event], None]


@dataclass(frozen=True)
class Finding:
    """Something that the user should know about some rows.

    Attributes:
        kind: truncated, empty, masked, duplicate, unusable or overlap. rows: their numbers, from 1.
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


def prepare(
    config: RunConfig, tokenizer: Any, longest: int, emit: Emit, should_stop: Callable[[], bool]
) -> list[Prepared]:
    """Training data and, where there is any, evaluation data; at most `longest` tokens a sample.

    A tokenizer without a chat template gets GEKO's plain one when conversations need it; it is saved with the model.

    Raises:
        DataError: at the field where the way out is. Stopped: when should_stop says so.
    """
    limit = min(config.data.max_length, longest)
    train = _one(config.data, "training", config.data.train, tokenizer, limit, emit, should_stop)
    if config.data.eval:
        evaluation = _one(config.data, "evaluation", config.data.eval, tokenizer, limit, emit, should_stop)
        common = overlap(train.data, evaluation.data)
        if common:
            evaluation.findings.append(
                _finding(
                    "overlap", common, "of the evaluation rows are in the training data too, so their result flatters"
                )
            )
        return [train, evaluation]
    if config.data.eval_ratio:
        kept, held = hold_out(train.data, config.data.eval_ratio, config.training.seed)
        name = f"{100 * config.data.eval_ratio:g} % of the training data"
        return [
            Prepared("training", train.source, train.columns, kept, train.row_count, train.findings),
            Prepared("evaluation", name, train.columns, held, len(held), []),
        ]
    return [train]


def _one(
    config: DataConfig,
    name: str,
    source: str,
    tokenizer: Any,
    limit: int,
    emit: Emit,
    should_stop: Callable[[], bool],
) -> Prepared:
    if should_stop():
        raise Stopped
    emit(PhaseChanged("downloading", f"{name} data {source}"))
    rows = load_rows(config, evaluation=name == "evaluation")
    columns = recognise_columns(rows, config)
    use_template(columns, tokenizer, emit)
    data = _tokens(rows, columns, tokenizer, limit, functools.partial(_progress, emit, name), should_stop)
    return Prepared(name, source, columns, data, len(rows), findings(data, limit))


def use_template(columns: Columns, tokenizer: Any, emit: Emit) -> None:
    """Give a tokenizer that has no chat template GEKO's plain one where conversations are to be rendered."""
    if columns.is_chat and not getattr(tokenizer, "chat_template", None):
        tokenizer.chat_template = PLAIN_TEMPLATE
        emit(
            Message(
                "The tokenizer has no chat template: a plain one (User: …, Assistant: …) is used and saved with it."
            )
        )


def _progress(emit: Emit, name: str, done: int, total: int) -> None:
    emit(PhaseChanged("tokenising", f"{name} rows", done, total))


def _tokens(
    rows: list[Row],
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


def findings(data: TokenizedData, limit: int) -> list[Finding]:
    """What the user should know about the rows of one dataset."""
    found = [
        _finding("truncated", data.truncated, f"were cut at {limit} tokens (max_length)"),
        _finding("empty", data.empty, "hold nothing to learn and were left out"),
        _finding("masked", data.masked, f"have all they teach beyond {limit} tokens (max_length) and were left out"),
        _finding("duplicate", data.duplicates, "are the same as an earlier row"),
    ]
    for reason in dict.fromkeys(data.unusable.values()):
        rows = [row for row, why in data.unusable.items() if why == reason]
        found.append(_finding("unusable", rows, f"were left out, because {reason}"))
    return [finding for finding in found if finding.rows]


def _finding(kind: str, rows: list[int], what: str) -> Finding:
    numbers = [row + 1 for row in rows]
    shown = ", ".join(str(number) for number in numbers[:ROWS_NAMED]) + (", …" if len(numbers) > ROWS_NAMED else "")
    return Finding(kind, numbers, f"{len(numbers):,} rows {what}: {shown}" if rows else "")
