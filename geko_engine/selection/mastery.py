"""What counts as mastered: one entry of MASTERY_CRITERIA for each criterion. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig


@dataclass(frozen=True)
class RecordSignals:
    """What the record knows of n samples; all arrays are [n].

    mean_loss: mean of the last losses of all visited samples at the last partition; nan before the first one.
    """

    loss: NDArray[Any]
    correct: NDArray[Any]
    confidence: NDArray[Any]
    q_value: NDArray[Any]
    quality: NDArray[Any]
    mean_loss: float


RELATIONS: dict[str, Callable[[NDArray[Any], float], NDArray[Any]]] = {
    "above": np.greater,
    "at least": np.greater_equal,
    "below": np.less,
}


@dataclass(frozen=True)
class Condition:
    """What a sample must fulfil to be mastered: its value stands in `relation` to a threshold.

    Attributes:
        name: of the value, for the user. value: [n]. relation: a key of RELATIONS; False where either side is nan.
        threshold_name: before the threshold, where the number alone says too little.
    """

    name: str
    value: NDArray[Any]
    relation: str
    threshold: float
    threshold_name: str = ""

    @property
    def met(self) -> NDArray[Any]:
        """Mask [n]."""
        return RELATIONS[self.relation](self.value, self.threshold)


@dataclass(frozen=True)
class Mastery:
    """One criterion.

    Attributes:
        conditions: signals and thresholds in, all that a mastered sample fulfils out.
        reason: what counts as mastered, in one sentence for the user. reason_phrase: the same after "mastered:".
        needs_correct: whether the answer must be exactly right too.
        replay_weight_exponent: a frozen sample that is replayed at share s has the loss weight s ** -exponent.
        full_epoch_ratio: share of the epochs, at the end of the run, that train on everything.
    """

    conditions: Callable[[RecordSignals, GEKOConfig], tuple[Condition, ...]]
    reason: str
    reason_phrase: str
    needs_correct: bool
    replay_weight_exponent: float
    full_epoch_ratio: float = 0.0

    def mastered(self, signals: RecordSignals, config: GEKOConfig) -> NDArray[Any]:
        """Mask [n] of mastered samples."""
        mask = signals.correct.astype(bool) if self.needs_correct else np.ones(len(signals.loss), bool)
        for condition in self.conditions(signals, config):
            mask = mask & condition.met
        return mask


def answered_surely(signals: RecordSignals, config: GEKOConfig) -> tuple[Condition, ...]:
    """A sure answer, with a good history."""
    return (
        Condition("confidence", signals.confidence, "above", config.freeze_confidence),
        Condition("Q-value", signals.q_value, "at least", config.min_q_for_freeze),
        Condition("quality", signals.quality, "above", config.freeze_quality),
    )


def below_mean_loss(signals: RecordSignals, config: GEKOConfig) -> tuple[Condition, ...]:
    """Better than the mean of the data: the rule of InfoBatch (Qin and others, 2024), ranked by the last loss."""
    return (Condition("loss", signals.loss, "below", signals.mean_loss, "the mean of the data, "),)


MASTERY_CRITERIA: dict[str, Mastery] = {
    "exact_match": Mastery(
        answered_surely,
        "Mastered is what the model answers exactly, and surely; where hardly any answer ever is, what training hardly changes any more.",
        "answered exactly, and surely",
        needs_correct=True,
        # Tempered: the unbiased weight 1/share has more variance, and measured worse.
        replay_weight_exponent=0.5,
    ),
    "below_mean_loss": Mastery(
        below_mean_loss,
        "Mastered is what has a loss below the mean of the data: for long answers, of which none is ever exactly right.",
        "their loss is below the mean of the data",
        needs_correct=False,
        replay_weight_exponent=1.0,  # unbiased, as published
        full_epoch_ratio=0.125,
    ),
}
