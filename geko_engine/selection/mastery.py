"""What counts as mastered: one entry of MASTERY_CRITERIA for each criterion. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig


@dataclass(frozen=True)
class RecordSignals:
    """What the record knows of n samples; all arrays are [n].

    mean_loss: mean of the last losses of all visited samples at the last partition; nan before the first one.
    """

    loss: NDArray
    correct: NDArray
    confidence: NDArray
    q_value: NDArray
    quality: NDArray
    mean_loss: float


@dataclass(frozen=True)
class Mastery:
    """One criterion.

    Attributes:
        mastered: signals and thresholds in, mask [n] out.
        reason: what counts as mastered, in one sentence for the user. reason_phrase: the same after "mastered:".
        replay_weight_exponent: a frozen sample that is replayed at share s has the loss weight s ** -exponent.
        full_epoch_ratio: share of the epochs, at the end of the run, that train on everything.
    """

    mastered: Callable[[RecordSignals, GEKOConfig], NDArray]
    reason: str
    reason_phrase: str
    replay_weight_exponent: float
    full_epoch_ratio: float = 0.0


def mastered_exactly(signals: RecordSignals, config: GEKOConfig) -> NDArray:
    """Answered exactly, surely, with a good history."""
    mask: NDArray = (
        signals.correct
        & (signals.confidence > config.freeze_confidence)
        & (signals.q_value >= config.min_q_for_freeze)
        & (signals.quality > config.freeze_quality)
    )
    return mask


def mastered_relatively(signals: RecordSignals, config: GEKOConfig) -> NDArray:
    """Better than the mean of the data: the rule of InfoBatch (Qin and others, 2024), ranked by the last loss."""
    return np.less(signals.loss, signals.mean_loss)  # False while the mean is nan


MASTERY_CRITERIA: dict[str, Mastery] = {
    "exact_match": Mastery(
        mastered_exactly,
        "Mastered is what the model answers exactly, and surely; where hardly any answer ever is, what training hardly changes any more.",
        "answered exactly, and surely",
        # Tempered: the unbiased weight 1/share has more variance, and measured worse.
        replay_weight_exponent=0.5,
    ),
    "below_mean_loss": Mastery(
        mastered_relatively,
        "Mastered is what has a loss below the mean of the data: for long answers, of which none is ever exactly right.",
        "their loss is below the mean of the data",
        replay_weight_exponent=1.0,  # unbiased, as published
        full_epoch_ratio=0.125,
    ),
}
