"""Revises the plan of the first epoch on its way: what look-alikes tell to be known is left out of its next part.

It is revised when a sixteenth, an eighth, a quarter and a half of it are done, each time for the part up to the next of
these, so that each part is told by the freshest samples. What is left out so and never met stays left out in the epochs
after it, until its test fails. Only what the model knew before the training is found so: what it has just learnt goes on
being trained on until its own visits show that it is mastered. Knows the trainer's parts, not its loop.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.epoch_plan import SMALLEST_STEP, Plan, even_bounds, share_out
from geko_engine.selection.mastery import MASTERIES
from geko_engine.selection.prompt_similarity import probabilities
from geko_engine.selection.sample_records import Told

if TYPE_CHECKING:
    from geko_engine.training.state import Progress
    from geko_engine.training.trainer import GEKOTrainer

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of a pass; at each but the last the part up to the next one is revised
FEWEST_TESTED, LEAST_RIGHT = 30, 0.8  # of the predicted samples that were met all the same so many must be right


def revise_if_due(trainer: GEKOTrainer) -> bool:
    """Put a revised plan in the place of the trainer's where one is due; False when none is."""
    progress, plan, states = trainer.progress, trainer.plan, trainer.states
    if plan is None or not is_due(plan, trainer.config, progress):
        return False
    progress.revision += 1
    until = SHARES[progress.revision]
    asked = part_of(plan, progress.step_in_plan, until)
    asked = asked[(states.bucket[asked] == Bucket.UNSEEN) & ~states.never_freeze[asked]]
    met = states.met_since(progress.epoch_start_step)
    right = states.correct[met].astype(bool)
    likely = probabilities(trainer.samples, met, right, asked) > trainer.config.prediction_confidence
    # The first process decides for all: the last bit of a sum may differ from machine to machine.
    states.predicted[asked] = trainer.machine.gather(likely)[0]
    trainer.plan = revise(
        plan,
        progress.step_in_plan,
        until,
        states.predicted == Told.KNOWN,
        trainer.samples.lengths,
        np.random.default_rng((trainer.args.seed, progress.epoch, 2, progress.revision)),
        config=trainer.config,
        step_size=trainer.machine.step_size,
    )
    progress.step_in_plan = 0
    return True


def is_due(plan: Plan, config: GEKOConfig, progress: Progress) -> bool:
    """Whether a part of the first epoch begins that may be revised.

    Not where predictions are off, nor where what they rest on is missing: the criterion that they foretell, or their
    own test. Not after a first look at every sample either.
    """
    if not config.enabled or config.prediction_confidence >= 1 or config.mastery != "exact" or config.initial_scan:
        return False
    if progress.epoch or progress.revision >= len(SHARES) - 1 or not are_trusted(progress):
        return False
    return plan.share_done(progress.step_in_plan) >= SHARES[progress.revision]


def are_trusted(progress: Progress) -> bool:
    """Whether enough of the predicted samples that were met all the same in this epoch were answered right."""
    tested = progress.epoch_predicted_met
    return tested < FEWEST_TESTED or progress.epoch_predicted_right >= LEAST_RIGHT * tested


def settle(trainer: GEKOTrainer) -> None:
    """At the end of an epoch: note how the predictions fared; what they left out comes up again where they failed."""
    progress, left_out = trainer.progress, trainer.plan.predicted if trainer.plan else 0
    met, right = progress.epoch_predicted_met, progress.epoch_predicted_right
    progress.predicted.append({"left_out": left_out, "met": met, "right": right})
    if not are_trusted(progress):
        trainer.states.forget(Told.KNOWN)


def part_of(plan: Plan, done: int, share: float) -> NDArray:
    """Ids in the steps of `plan` from `done` on, up to the share `share` of the pass."""
    return np.concatenate([plan.order[:0], *(plan.ids(step) for step in range(done, _until(plan, done, share)))])


def _until(plan: Plan, done: int, share: float) -> int:
    """The step of `plan` at which the share `share` of the pass is done."""
    begun = 1.0 - plan.share
    return max(done, min(plan.steps, round(plan.steps * (share - begun) / plan.share)))


def revise(
    plan: Plan,
    done: int,
    share: float,
    predicted: NDArray,
    lengths: NDArray,
    rng: np.random.Generator,
    *,
    config: GEKOConfig,
    step_size: int,
) -> Plan:
    """What is left of `plan` after `done` steps, less the predicted samples of its part up to `share` of the pass.

    Those are replayed at the share frozen_replay like frozen ones, with the same weight. The part keeps its number of
    steps while none falls below SMALLEST_STEP; the steps after it stay as they are.

    Args:
        predicted: mask [count]. lengths: tokens [count]. step_size: samples per step of plain training.
    """
    until = _until(plan, done, share)
    part = _positions(plan, done, until)
    part.sort()  # neighbours in the plan are of similar length
    known = predicted[plan.order[part]]
    again = known & (rng.random(len(part)) < config.frozen_replay)
    kept = part[~known | again]
    weights = plan.loss_weights.copy()
    weights[part[again]] *= (config.frozen_replay or 1.0) ** -MASTERIES[config.mastery].replay_power
    bounds = even_bounds(len(kept), min(until - done, max(1, len(kept) // min(SMALLEST_STEP, step_size))))
    steps = rng.permutation(len(bounds) - 1)
    starts, sizes = bounds[:-1][steps], np.diff(bounds)[steps]
    positions, later = np.concatenate([kept, _positions(plan, until, plan.steps)]), plan.sizes[until:]
    order = plan.order[positions]
    due = share_out(order[: len(kept)], starts, lengths, float(plan.due[done:until].sum()))
    return replace(
        plan,
        order=order,
        loss_weights=weights[positions],
        starts=np.concatenate([starts, len(kept) + np.cumsum(later) - later]),
        sizes=np.concatenate([sizes, later]),
        due=np.concatenate([due, plan.due[until:]]),
        share=plan.share * (1 - done / plan.steps),
        predicted=plan.predicted + len(part) - len(kept),
    )


def _positions(plan: Plan, first: int, last: int) -> NDArray:
    """Positions in `plan.order` that the steps from `first` up to `last` hold, step by step."""
    spans = zip(plan.starts[first:last], plan.sizes[first:last], strict=True)
    return np.concatenate([np.arange(0), *(np.arange(start, start + size) for start, size in spans)])
