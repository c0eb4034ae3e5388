"""Rows of an earlier run: not trained on again, but for a share that is replayed, so that the model does not forget them.

A row counts as one of the earlier run when each text that it is rendered to is among those that the run was trained on; so an
edited row is a new one. Replayed rows are drawn from those that the run had right in the end: only what is known can be
forgotten, and an answer that is likely wrong is better not learned again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from geko_engine.config.run_config import RunConfig
from geko_engine.data.corrected_rows import digests_of_row
from geko_engine.data.earlier_run import FIELD, EarlierRun
from geko_engine.data.formats import Row, restore_integers
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.sources import load_rows
from geko_engine.exceptions import DataError
from geko_engine.reporting.events import Event, Message, PhaseChanged
from geko_engine.storage.user_paths import expand

OTHER_BASE = (
    "data.replay names the run {name}, but the model is not its result: rows that it was trained on are left out, although "
    "this model may not know them. Set model.name to {path!r} to continue that run."
)
UNREADABLE = "Rows of the run {name} cannot be read any more, so fewer may be replayed: {error}"
MISSING = "The run {name} continued another one, {missing}, that is not there any more: rows of that one count as new."
Emit = Callable[[Event], None]


def only_new_rows(config: RunConfig, rendered: RenderedRows, emit: Emit) -> RenderedRows:
    """The training rows of a run that continues an earlier one: the new ones, and replayed old ones.

    Args:
        config: names the earlier run (data.replay), and the share of its rows (data.replay_share).
        rendered: all rows of the training data.
        emit: gets a message that says how many rows of which kind there are.

    Raises:
        DataError: at data.replay, when the run cannot be read or no row is new.
    """
    emit(PhaseChanged("tokenising", "comparing the rows with those of the earlier run"))
    run = EarlierRun.read(config.data.replay or "")
    numbers = (n for n in range(len(rendered)) if n not in rendered.held_out)
    texts = {n: digests for n in numbers if (digests := digests_of_row(rendered, n))}
    verdicts = {n: run.may_replay(digests) for n, digests in texts.items()}
    known = {number: verdict for number, verdict in verdicts.items() if verdict is not None}
    new = len(verdicts) - len(known)
    if new == 0:
        raise DataError(
            f"The run {run.name} was trained on all rows of the training data, so none is new: give data with other rows, or "
            "leave data.replay empty.",
            FIELD,
        )
    share, rng = config.data.replay_share, np.random.default_rng((config.training.seed, 5))
    wanted = round(share / (1 - share) * new)
    inside = [number for number, may in known.items() if may]
    chosen = set(rng.permutation(inside)[:wanted].tolist())
    outside = _from_its_source(
        run,
        rendered,
        {d for row in texts.values() for d in row} | rendered.texts_before,
        wanted - len(chosen),
        rng,
        emit,
    )
    for sentence in _sentences(config, run, len(known), new, len(chosen) + len(outside), wanted):
        emit(sentence)
    return _joined(config, rendered, set(known) - chosen, outside, run)


def _from_its_source(
    run: EarlierRun, rendered: RenderedRows, here: set[bytes], wanted: int, rng: np.random.Generator, emit: Emit
) -> list[Row]:
    """Up to `wanted` rows of the earlier run from where that run had them; none with a text that is `here` already."""
    found: list[Row] = []
    for data in run.data:
        if len(found) >= wanted:
            break
        try:
            loaded = load_rows(data)
        except DataError as error:
            emit(Message(UNREADABLE.format(name=run.name, error=error), "warning"))
            continue
        rows, _ = restore_integers(loaded, loaded.origin.names.starts)
        old = RenderedRows(rows, rendered.format, rendered.tokenizer)
        for number in rng.permutation(len(rows)).tolist():
            digests = digests_of_row(old, number)
            if len(found) < wanted and run.may_replay(digests) and here.isdisjoint(digests):
                found.append(rows[number])
                here.update(digests)
    return found


def _sentences(config: RunConfig, run: EarlierRun, known: int, new: int, replayed: int, wanted: int) -> Iterable[Event]:
    share = 100 * replayed / (replayed + new)
    yield Message(
        f"{new:,} {'row is' if new == 1 else 'rows are'} new; {known:,} were trained on by the run {run.name} and are not trained on again. {replayed:,} of "
        f"that run's rows are replayed ({share:.3g} % of the training rows), drawn from those that it had right."
    )
    for missing in run.missing:
        yield Message(MISSING.format(name=run.name, missing=missing), "warning")
    if replayed < wanted:
        yield Message(
            f"data.replay_share asks for {wanted:,} replayed rows, but only {replayed:,} of that run can be used.",
            "warning",
        )
    model = expand(config.model.name)
    if not model.exists() or not model.resolve().is_relative_to(run.path):
        yield Message(OTHER_BASE.format(name=run.name, path=str(run.path / "model")), "warning")


def _joined(
    config: RunConfig, rendered: RenderedRows, left_out: set[int], outside: list[Row], run: EarlierRun
) -> RenderedRows:
    rows = [None if number in left_out else row for number, row in enumerate(rendered.rows)]
    origin = rendered.origin
    if outside:
        files = origin.files if len(origin.files) > 1 else [(Path(config.data.train).name, len(rows))]
        origin = replace(origin, files=[*files, (f"{run.name} (replayed)", len(outside))])
    joined = RenderedRows([*rows, *outside], rendered.format, rendered.tokenizer, rendered.restored, origin)
    joined.keep(rendered.known(number for number, row in enumerate(rows) if row is not None))
    joined.trained_before = frozenset(left_out)
    joined.held_out = rendered.held_out
    joined.corrected, joined.deleted, joined.outdated = rendered.corrected, rendered.deleted, rendered.outdated
    return joined
