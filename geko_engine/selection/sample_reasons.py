"""Why a sample is in its bucket, was never trained on, or is suspected, in one sentence each with the real numbers. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import Bucket, quality
from geko_engine.selection.label_noise import OUTLIER_Z, SUSPECT_PROBABILITY
from geko_engine.selection.mastery import MASTERY_CRITERIA, Condition, RecordSignals
from geko_engine.selection.sample_records import Prediction

NEVER_FREEZE = "it is flagged to never freeze"
OTHER_THRESHOLDS = "the thresholds have changed since it was put there"
OTHER_MEAN = "the mean loss has changed since it was put there"
NOT_MET = {"above": "not above", "at least": "below", "below": "not below"}
NO_MEAN = "the mean loss of the data is only known after the first epoch"
ALREADY_KNOWN = "Never trained on: the model answered it correctly when it was scored, so it was skipped."
ONLY_SCORED = "Never trained on: it was only scored so far."
PREDICTED_KNOWN = "Never trained on: samples with similar prompts were answered correctly, so it was skipped."
NOT_REACHED = "Never trained on: the run has not come to it."


@dataclass(frozen=True)
class RecordedSample:
    """What the record knows of one sample.

    Attributes:
        mean_loss: of the data at the last partition, nan before the first one.
        never_freeze: whether its row is flagged so.
        predicted: what is predicted from samples with similar prompts, a Prediction.
        loss_outlier: whether its loss at the last visit was far above the one predicted from similar prompts.
        trained, scored: visits that were trained on, and that were only scored.
    """

    bucket: int
    correct: bool
    confidence: float
    q: float
    loss: float
    best_loss: float
    mean_loss: float
    min_target_probability: float
    hard_streak: int
    never_freeze: bool = False
    predicted: int = Prediction.NONE
    loss_outlier: bool = False
    trained: int = 1
    scored: int = 0


def why(sample: RecordedSample, config: GEKOConfig) -> str:
    """The bucket of a sample and the comparison that put it there.

    Args:
        sample: what the record knows of it.
        config: the thresholds of its run.
    """
    if sample.bucket == Bucket.UNSEEN:
        known = sample.predicted == Prediction.KNOWN
        reason = "skipped so far, as samples with similar prompts are answered correctly"
        return f"Not seen: {reason if known else 'not trained on yet'}."
    if sample.bucket == Bucket.FREEZE and sample.predicted == Prediction.STABLE:
        return "FREEZE, stable: training hardly changes the predictions for samples with similar prompts."
    criterion, conditions = MASTERY_CRITERIA[config.mastery], _conditions(sample, config)
    if sample.bucket == Bucket.FREEZE:
        exact = "the answer is exact, " if criterion.needs_correct else ""
        return f"FREEZE, mastered: {exact}{_and([_in_words(condition) for condition in conditions])}."
    if sample.bucket == Bucket.LIGHT:
        failed = [_in_words(condition) for condition in conditions if not condition.met[0]]
        changed = OTHER_THRESHOLDS if criterion.needs_correct else OTHER_MEAN
        reason = _and(failed) if failed else NEVER_FREEZE if sample.never_freeze else changed
        return f"LIGHT: {'the answer is exact' if sample.correct else 'it is mastered'}, but {reason}."
    confidence, threshold = distinct_digits(sample.confidence, config.focus_confidence)
    if sample.bucket == Bucket.FOCUS:
        return f"FOCUS, still learning: the answer is wrong, and its confidence {confidence} is not above {threshold}."
    return f"HARD, confidently wrong: the answer is wrong, but its confidence {confidence} is above {threshold}."


def _conditions(sample: RecordedSample, config: GEKOConfig) -> tuple[Condition, ...]:
    criterion = MASTERY_CRITERIA[config.mastery]
    one = (sample.loss, sample.correct, sample.confidence, sample.q)
    loss, correct, confidence, q = (np.array([value]) for value in one)
    risen = quality(loss, np.array([sample.best_loss]))
    return criterion.conditions(RecordSignals(loss, correct, confidence, q, risen, sample.mean_loss), config)


def _in_words(condition: Condition) -> str:
    """What a condition found: "its confidence 0.91 is above 0.85"."""
    if math.isnan(condition.threshold):
        return NO_MEAN
    value, threshold = distinct_digits(float(condition.value[0]), condition.threshold)
    relation = condition.relation if condition.met[0] else NOT_MET[condition.relation]
    return f"its {condition.name} {value} is {relation} {condition.threshold_name}{threshold}"


def _and(parts: list[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def distinct_digits(value: float, threshold: float) -> tuple[str, str]:
    """Both with two digits, or with as many as it takes to see that they differ (at most six)."""
    for digits in range(2, 7):
        shown = (f"{value:.{digits}f}", f"{threshold:.{digits}f}")
        if value == threshold or shown[0] != shown[1]:
            break
    return shown


def guard_reason(sample: RecordedSample) -> str:
    """Why the noise guard suspects the answer of a sample, with the numbers that decided it."""
    probability = 100 * sample.min_target_probability
    percent = f"{probability:.2g} %" if probability >= 0.01 else "less than 0.01 %"
    reasons = [f"HARD on {sample.hard_streak} visits in a row" if sample.hard_streak > 1 else "HARD"]
    if sample.loss_outlier:
        reasons.append(f"a loss over {OUTLIER_Z:g} standard deviations above that of samples with similar prompts")
    reasons.append(f"a target token with a probability of {percent} (below {100 * SUSPECT_PROBABILITY:g} %)")
    return f"The model finds it unlikely: {', '.join(reasons[:-1])}, and {reasons[-1]}."


def never_trained(sample: RecordedSample) -> str:
    """Why a sample was not trained on once; "" if it was."""
    if sample.trained:
        return ""
    if sample.scored:
        return ALREADY_KNOWN if sample.bucket == Bucket.FREEZE else ONLY_SCORED
    return PREDICTED_KNOWN if sample.predicted == Prediction.KNOWN else NOT_REACHED
