"""The data of a run, ready to train on: rows, format, tokens, held-out share.

    load_raw_rows -> render_rows -> refuse_unlearnable -> prepare

Shared by the run itself and by its preview. Knows no model.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig
from geko_engine.data import token_cache
from geko_engine.data.batches import TokenizedData, hold_out, overlap, samples_to_judge, split
from geko_engine.data.corrected_rows import correct_rows, digests_of_row
from geko_engine.data.excluded_rows import EXCLUDE, NEVER_FREEZE, among, flagged_rows
from geko_engine.data.excluded_rows import FIELD as ROW_FLAGS
from geko_engine.data.findings import Finding, column_findings, excluded_findings, finding, findings
from geko_engine.data.formats import (
    TEMPLATES,
    ChatTemplate,
    Format,
    Row,
    begin_with_bos,
    brings_template,
    give_template,
    guess_note,
    recognise,
    recognise_evaluation,
    restore_integers,
)
from geko_engine.data.formats.recognition import AUTO
from geko_engine.data.held_out import held_out_before
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.replay import only_new_rows
from geko_engine.data.row_names import LoadedRows
from geko_engine.data.sources import load_rows
from geko_engine.data.tokenization import tokenise_rendered
from geko_engine.exceptions import DataError, Stopped
from geko_engine.reporting.events import Event, Message, PhaseChanged

FIRST_ROWS = 1000  # are checked before a model is loaded
LARGEST_SHARE = 0.2  # of the training samples that are held out to find the length of a run
HOLDS_OUT = (
    "num_epochs = auto holds out {share:.3g} % of the training data, to see when more training no longer helps: give data.eval "
    "to train on all of it."
)
OTHER_COLUMNS = "To read others, set data.prompt_column and data.completion_column, or data.text_column."
AS_BEFORE = "the rows that the earlier run held out"
ONLY_HELD_OUT = "All rows that are left were held out by the earlier run, so nothing is left to train on: remove some flags or corrections."
PLAIN, LEFT = "plain", "left"
Emit = Callable[[Event], None]


@dataclass(frozen=True)
class PreparedDataset:
    """One dataset of a run.

    Attributes:
        name: training or evaluation.
        source: where its rows come from.
        rendered: its rows and their format.
        data: its tokens.
        row_count: rows of the source, those that are left out included.
        findings: what the user should know about them.
        never_freeze: mask [samples] of those whose rows are flagged to be trained on at full cost.
    """

    name: str
    source: str
    rendered: RenderedRows
    data: TokenizedData
    row_count: int
    findings: list[Finding]
    never_freeze: NDArray[Any]


def load_raw_rows(config: RunConfig, emit: Emit, should_stop: Callable[[], bool]) -> dict[str, LoadedRows]:
    """The rows of the training data and, where it is named, of the evaluation data, by the names of both.

    Raises:
        DataError: at the field where the way out is. Stopped: when should_stop says so.
    """
    found = {}
    for name, source in (("training", config.data.train), ("evaluation", config.data.eval)):
        if should_stop():
            raise Stopped
        if source:
            emit(PhaseChanged("downloading", f"{name} data {source}"))
            progress = functools.partial(report_download, emit, f"{name} data {source}, rows", 1)
            found[name] = load_rows(
                config.data, evaluation=name == "evaluation", should_stop=should_stop, on_progress=progress
            )
    return found


def report_download(emit: Emit, what: str, unit: int, done: int, total: int) -> None:
    """Report how much of a download has arrived.

    Args:
        what: what is downloaded.
        unit: how many of what is counted make one unit of the event.
        done: how many have arrived.
        total: how many are expected; 0 when that is unknown.
    """
    if done >= unit:
        emit(PhaseChanged("downloading", what, done // unit, total // unit))


def render_rows(config: RunConfig, rows: dict[str, LoadedRows], tokenizer: Any, emit: Emit) -> dict[str, RenderedRows]:
    """Recognise the format of each dataset; its rows are rendered when they are first needed.

    A tokenizer without a chat template gets one of GEKO's when conversations need it; it is saved with the model.

    Args:
        config: of the run.
        rows: what `load_raw_rows` found; emptied, so that the caller holds no second copy.
        tokenizer: may get a chat template.
        emit: gets a message for what is changed.

    Raises:
        DataError: at the field where the way out is.
    """
    formats = _formats(config.data, rows, tokenizer)
    read = {name: (*restore_integers(mine, mine.origin.names.starts), mine.origin) for name, mine in rows.items()}
    rows.clear()
    found = {}
    for name, (mine, restored, origin) in read.items():
        format = formats[name]
        if (note := guess_note(format, config.data)) and (name == "training" or format != formats.get("training")):
            whose = "" if name == "training" else "Evaluation data: "
            emit(Message(f"{whose}{note} {OTHER_COLUMNS}"))
        use_template(format, tokenizer, emit, config.data.chat_template)
        excluded = flagged_rows(config.data, EXCLUDE) if name == "training" else set()
        found[name] = RenderedRows(without_excluded(mine, excluded), format, tokenizer, restored, origin)
        if excluded and config.data.replay:  # what is left out does not come back from the earlier run's data
            whole = RenderedRows(mine, format, tokenizer, restored, origin)
            found[name].texts_before = frozenset(text for n in excluded for text in digests_of_row(whole, n))
    if "training" in found:
        found["training"] = correct_rows(config.data, found["training"])
        found["training"].held_out = held_out_before(config, found["training"])
    if config.data.replay:
        found["training"] = only_new_rows(config, found["training"], emit)
    return found


def _formats(config: DataConfig, rows: dict[str, LoadedRows], tokenizer: Any) -> dict[str, Format]:
    found: dict[str, Format] = {}
    if "training" in rows:
        found["training"] = recognise(rows["training"], config, tokenizer)
    if "evaluation" in rows:
        found["evaluation"] = recognise_evaluation(rows["evaluation"], found.get("training"), config, tokenizer)
    return found


def prepare(
    config: RunConfig,
    rendered: dict[str, RenderedRows],
    longest: int,
    emit: Emit,
    should_stop: Callable[[], bool],
) -> list[PreparedDataset]:
    """Training data and, where there is any, evaluation data as tokens.

    Args:
        rendered: by the names training and evaluation, as `render_rows` returns them.
        longest: tokens that the model can take in one sample.

    Raises:
        DataError: at the field where the way out is. Stopped: when should_stop says so.
    """
    limit, whose = min(config.data.max_length, longest), limit_of(config, longest)
    never_freeze = flagged_rows(config.data, NEVER_FREEZE)
    parts = []
    for name, source in (("training", config.data.train), ("evaluation", config.data.eval or "")):
        if name in rendered:
            mine = rendered[name]
            with _limit_explained(config, longest), _at_its_own_field(name):
                data = _tokens(mine, config.data, limit, functools.partial(_tokenised, emit, name), should_stop)
            files = [Finding("files", [], sentence) for sentence in mine.origin.sentences]
            found = [
                *files,
                *excluded_findings(mine),
                *findings(data, limit, whose, mine.names),
                *column_findings(mine),
            ]
            kept = among(data.rows, never_freeze if name == "training" else ())
            parts.append(PreparedDataset(name, source, mine, data, len(mine), found, kept))
    if len(parts) == 2:
        common = overlap(parts[0].data, parts[1].data)
        what = "in the training data too, so the evaluation flatters"
        names = parts[1].rendered.names
        parts[1].findings.extend([finding("overlap", common, what, names)] if common else [])
    elif (held := among(parts[0].data.rows, rendered["training"].held_out)).any():
        if held.all():
            raise DataError(ONLY_HELD_OUT, ROW_FLAGS if config.data.row_flags else "data.train")
        return _split(parts[0], *split(parts[0].data, held), AS_BEFORE)
    elif config.data.eval_ratio:
        return _held_out(parts[0], config.data.eval_ratio, config.training.seed)
    elif config.training.finds_length:
        ratio = held_out_ratio(len(parts[0].data))
        emit(Message(HOLDS_OUT.format(share=100 * ratio)))
        return _held_out(parts[0], ratio, config.training.seed)
    return parts


def held_out_ratio(count: int) -> float:
    """Share of `count` training samples to hold out where a run needs to find its length: enough to see its loss fall."""
    return min(samples_to_judge(count) / max(1, count), LARGEST_SHARE)


def refuse_unlearnable(config: RunConfig, rendered: RenderedRows, longest: int) -> None:
    """Raise DataError when none of the first training rows has anything to learn: seconds after the start, not hours."""
    if any(row is not None for row in rendered.rows[:FIRST_ROWS]):
        with _limit_explained(config, longest):
            limit, keep_end = min(config.data.max_length, longest), config.data.truncation_side == LEFT
            tokenise_rendered(rendered, limit, keep_end=keep_end, first=FIRST_ROWS)


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


@contextlib.contextmanager
def _at_its_own_field(name: str) -> Iterator[None]:
    """What is wrong with the evaluation data is shown at its own field."""
    try:
        yield
    except DataError as error:
        if name != "evaluation":
            raise
        field = "data.eval" if error.field == "data.train" else error.field
        raise DataError(f"The evaluation data cannot be used. {error}", field) from error


def without_excluded(rows: Sequence[Row], excluded: set[int]) -> Sequence[Row | None]:
    """`rows` with None in place of each excluded one, so that the others keep their numbers.

    Raises:
        DataError: at the row flags, when no row is left.
    """
    here = {row for row in excluded if row < len(rows)}
    if here and len(here) == len(rows):
        raise DataError(
            f"{'The only row is' if len(rows) == 1 else f'All {len(rows):,} rows are'} flagged, so nothing is left to train on: remove some flags.",
            ROW_FLAGS,
        )
    return [None if number in here else row for number, row in enumerate(rows)] if here else rows


def _held_out(train: PreparedDataset, ratio: float, seed: int) -> list[PreparedDataset]:
    return _split(train, *hold_out(train.data, ratio, seed), f"{100 * ratio:.3g} % of the training data")


def _split(train: PreparedDataset, data: TokenizedData, held: TokenizedData, name: str) -> list[PreparedDataset]:
    """Training and evaluation data, of a training set whose samples are divided into `data` and `held`."""
    never_freeze = among(data.rows, train.data.rows[train.never_freeze])
    return [
        replace(train, data=data, never_freeze=never_freeze),
        PreparedDataset("evaluation", name, train.rendered, held, len(held), [], np.zeros(len(held), bool)),
    ]


def use_template(format: Format, tokenizer: Any, emit: Emit, choice: str = AUTO) -> None:
    """Give the tokenizer the chat template that is wanted, or one where it has none and conversations are rendered.

    Args:
        format: of the rows.
        tokenizer: may be changed; it is saved with the model.
        emit: gets a message for what is changed, and a warning where nothing teaches the end of an answer.
        choice: the setting data.chat_template.
    """
    if format.uses_chat_template:
        if choice in TEMPLATES:
            give_template(tokenizer, choice)
        elif not getattr(tokenizer, "chat_template", None):
            give_template(tokenizer, PLAIN)
            emit(
                Message(
                    "The tokenizer has no chat template: a plain one (User: …, Assistant: …) is used and saved with it."
                )
            )
        if begin_with_bos(tokenizer) and brings_template(tokenizer):
            emit(Message("The chat template now begins with the tokenizer's BOS token, and is saved so.", "warning"))
    if not learnt_end(format, tokenizer):
        emit(
            Message("The tokenizer has no end of sequence: nothing teaches the model where an answer ends.", "warning")
        )


def learnt_end(format: Format, tokenizer: Any) -> str:
    """The token that the model learns to end an answer with, as text; empty where it learns none."""
    end = ChatTemplate.of(tokenizer).end if format.uses_chat_template else ""
    return str(end or tokenizer.eos_token or "")


def _tokenised(emit: Emit, name: str, done: int, total: int) -> None:
    emit(PhaseChanged("tokenising", f"{name} rows", done, total))


def _tokens(
    rendered: RenderedRows,
    config: DataConfig,
    limit: int,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> TokenizedData:
    keep_end = config.truncation_side == LEFT
    key = token_cache.key_of(rendered, limit, should_stop, keep_end=keep_end)
    data = token_cache.load(key)
    if data is None:
        data = tokenise_rendered(rendered, limit, keep_end=keep_end, should_stop=should_stop, on_progress=progress)
        token_cache.store(key, data)
    progress(len(rendered), len(rendered))
    return data
