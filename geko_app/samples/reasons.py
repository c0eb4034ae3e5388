"""Why a sample is in its bucket, and what is suspicious about it, in one sentence each with the real numbers. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.label_noise import OUTLIER_Z, SUSPECT_PROBABILITY
from geko_engine.selection.sample_records import Prediction

MISLABELED, CONTRADICTS, TRUNCATED = "wrong", "contradicts", "truncated"
KINDS = (MISLABELED, CONTRADICTS, TRUNCATED)
NEVER_FREEZE = "it is flagged to never freeze"
OTHER_THRESHOLDS = "the thresholds have changed since it was put there"
OTHER_MEAN = "the mean loss has changed since it was put there"
NO_MEAN = "the mean loss of the data is only known after the first epoch"


@dataclass(frozen=True)
class SampleSignals:
    """What the record knows of one sample.

    Attributes:
        mean_loss: of the data at the last partition, nan before the first one.
        never_freeze: whether its row is flagged so.
        predicted: what is predicted from samples with similar prompts, a Prediction.
        loss_outlier: whether its loss at the last visit was far above the one predicted from similar prompts.
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

    @property
    def quality(self) -> float:
        """1 minus the rise of the loss since the best visit."""
        return 1.0 - min(1.0, max(0.0, self.loss - self.best_loss))


def why(signals: SampleSignals, config: GEKOConfig) -> str:
    """The bucket of a sample and the comparison that put it there.

    Args:
        signals: of the sample.
        config: the thresholds of its run.
    """
    if signals.bucket == Bucket.UNSEEN:
        known = signals.predicted == Prediction.KNOWN
        reason = "skipped so far, as samples with similar prompts are answered correctly"
        return f"Not seen: {reason if known else 'not trained on yet'}."
    if signals.bucket == Bucket.FREEZE and signals.predicted == Prediction.STABLE:
        return "FREEZE, stable: training hardly changes the predictions for samples with similar prompts."
    conditions = _mastery_conditions(signals, config)
    if signals.bucket == Bucket.FREEZE:
        met = [sentence for _, sentence, _ in conditions]
        exact = "" if _compares_with_mean(config) else "the answer is exact, "
        return f"FREEZE, mastered: {exact}{_and(met)}."
    if signals.bucket == Bucket.LIGHT:
        failed = [sentence for is_met, _, sentence in conditions if not is_met]
        changed = OTHER_MEAN if _compares_with_mean(config) else OTHER_THRESHOLDS
        reason = _and(failed) if failed else NEVER_FREEZE if signals.never_freeze else changed
        return f"LIGHT: {'the answer is exact' if signals.correct else 'it is mastered'}, but {reason}."
    confidence, threshold = distinct_digits(signals.confidence, config.focus_confidence)
    if signals.bucket == Bucket.FOCUS:
        return f"FOCUS, still learning: the answer is wrong, and its confidence {confidence} is not above {threshold}."
    return f"HARD, confidently wrong: the answer is wrong, but its confidence {confidence} is above {threshold}."


def _compares_with_mean(config: GEKOConfig) -> bool:
    return config.mastery == "relative"


def _mastery_conditions(signals: SampleSignals, config: GEKOConfig) -> list[tuple[bool, str, str]]:
    """What a sample needs to be mastered, beside an exact answer: (is it met, as met, as not met) of each condition."""
    if _compares_with_mean(config):
        if math.isnan(signals.mean_loss):
            return [(False, "", NO_MEAN)]
        loss, mean = distinct_digits(signals.loss, signals.mean_loss)
        rest = f"below the mean of the data, {mean}"
        return [(signals.loss < signals.mean_loss, f"its loss {loss} is {rest}", f"its loss {loss} is not {rest}")]
    conditions = []
    for name, value, threshold, is_met, words in (
        ("confidence", signals.confidence, config.freeze_confidence, float.__gt__, ("above", "not above")),
        ("Q-value", signals.q, config.min_q_for_freeze, float.__ge__, ("at least", "below")),
        ("quality", signals.quality, config.freeze_quality, float.__gt__, ("above", "not above")),
    ):
        shown, limit = distinct_digits(value, threshold)
        met, not_met = (f"its {name} {shown} is {word} {limit}" for word in words)
        conditions.append((is_met(value, threshold), met, not_met))
    return conditions


def _and(parts: list[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def distinct_digits(value: float, threshold: float) -> tuple[str, str]:
    """Both with two digits, or with as many as it takes to see that they differ (at most six)."""
    for digits in range(2, 7):
        shown = (f"{value:.{digits}f}", f"{threshold:.{digits}f}")
        if value == threshold or shown[0] != shown[1]:
            break
    return shown


def suspicions(
    signals: SampleSignals, *, contradicts: int, truncated: bool, tokens: int, is_suspect: bool
) -> dict[str, str]:
    """Why a sample should be checked by a person.

    Args:
        signals: of the sample.
        contradicts: number of a row with the same prompt and a different answer, 0 for none.
        truncated: whether it was cut at the maximum length.
        tokens: its length.
        is_suspect: whether the noise guard takes it for mislabeled.

    Returns:
        One sentence for each of KINDS that applies; {} for most samples.
    """
    found = {}
    if is_suspect:
        probability = 100 * signals.min_target_probability
        percent = f"{probability:.2g} %" if probability >= 0.01 else "less than 0.01 %"
        reasons = [f"HARD on {signals.hard_streak} visits in a row" if signals.hard_streak > 1 else "HARD"]
        if signals.loss_outlier:
            reasons.append(f"a loss over {OUTLIER_Z:g} standard deviations above that of samples with similar prompts")
        reasons.append(f"a target token with a probability of {percent} (below {100 * SUSPECT_PROBABILITY:g} %)")
        found[MISLABELED] = f"Probably mislabeled: {', '.join(reasons[:-1])}, and {reasons[-1]}."
    if contradicts:
        found[CONTRADICTS] = f"Row {contradicts:,} has the same prompt with a different answer."
    if truncated:
        found[TRUNCATED] = f"Truncated to {tokens:,} tokens (max_length): the rest is not trained on."
    return found
