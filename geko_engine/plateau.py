"""Leaves out what the model no longer gets better at: samples whose look-alikes' loss has stopped falling.

For data of which hardly any answer is ever exactly right (long free text), where nothing counts as mastered otherwise. It is
decided once, at the end of the first epoch that tells, and only where samples that were not asked confirm it: the loss of
those told to be level must really have stopped falling, while that of the others is still falling. What is left out is
replayed like all that is frozen, and when the replayed ones get worse all of it comes up again. Knows the trainer's parts,
not its loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geko_engine.config import GEKOConfig
from geko_engine.lookalikes import falls
from geko_engine.progress import Progress
from geko_engine.sample_states import Told

if TYPE_CHECKING:
    from geko_engine.trainer import GEKOTrainer

MOST_RIGHT = 0.05  # where more of the answers are exactly right, those tell what is mastered
SMALL_FALL = 0.5  # of the mean: below, a loss counts as level
FEWEST_OF_EACH = 50  # samples that are level, and that are not
SURE = 3.0  # standard errors
WORSE = 0.10  # rise of the replayed samples' mean loss, as a share of what it was at first


@dataclass(frozen=True)
class Fall:
    """How far a loss falls from the beginning of an epoch to its end, and the standard error of that."""

    value: float
    error: float


def measured_fall(loss: NDArray, when: NDArray) -> Fall:
    """By least squares, over the visits of an epoch: loss [n] at the times `when` [n] in [0, 1]."""
    away = when - when.mean()
    spread = float((away**2).sum())
    slope = float((loss * away).sum()) / spread
    left = loss - loss.mean() - slope * away
    return Fall(-slope, float(left.std()) / math.sqrt(spread))


def is_confirmed(level: Fall, others: Fall) -> bool:
    """Whether the others' loss surely falls, and that of the level ones surely by less than half as much."""
    return others.value > SURE * others.error and level.value + SURE * level.error < others.value / 2


def heed_plateau(trainer: GEKOTrainer) -> None:
    """At the end of an epoch: look for a plateau where none was found yet, and check on one that was."""
    if trainer.progress.plateau:
        _check(trainer)
    elif is_wanted(trainer.config, trainer.progress, trainer.args.num_epochs):
        _find(trainer)


def is_wanted(config: GEKOConfig, progress: Progress, epochs: int) -> bool:
    """Whether what look-alikes tell may leave something out, and an epoch follows in which it would be."""
    by_look_alikes = config.prediction_confidence < 1 and config.mastery == "exact"
    return config.enabled and by_look_alikes and progress.epoch + 1 < epochs


def _find(trainer: GEKOTrainer) -> None:
    states, progress = trainer.states, trainer.progress
    met = states.met_since(progress.epoch_start_step)
    if len(met) < 2 * FEWEST_OF_EACH or states.correct[met].mean() > MOST_RIGHT:
        return
    loss, when = states.loss[met].astype(float), np.linspace(0, 1, len(met))
    told = falls(trainer.samples, met, loss)
    # The first process decides for all: the last bit of a sum may differ from machine to machine.
    level = trainer.machine.gather(told < SMALL_FALL * told.mean())[0]
    if min(level.sum(), (~level).sum()) < FEWEST_OF_EACH:
        return
    of_level, of_others = (measured_fall(loss[part], when[part]) for part in (level, ~level))
    if is_confirmed(of_level, of_others):
        ids = met[level & ~states.suspects()[met] & ~states.never_freeze[met]]
        states.arrays["predicted"][ids] = Told.LEVEL
        states.partition(trainer.config)
        progress.plateau = {"epoch": progress.epoch + 1, "level": of_level.value, "others": of_others.value}


def _check(trainer: GEKOTrainer) -> None:
    """What was left out comes up again when the replayed part of it has got worse."""
    states, progress = trainer.states, trainer.progress
    met = states.met_since(progress.epoch_start_step)
    met = met[states.predicted[met] == Told.LEVEL]
    if len(met) >= FEWEST_OF_EACH and states.loss[met].mean() > (1 + WORSE) * states.first_loss[met].mean():
        states.forget(Told.LEVEL)
        states.partition(trainer.config)
        progress.plateau["lifted"] = progress.epoch + 1
