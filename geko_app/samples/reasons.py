"""Why a sample is in its bucket, and what is suspicious about it: one sentence each, with the real numbers. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.label_noise import OUTLIER_Z, SUSPECT_PROBABILITY
from geko_engine.selection.sample_records import Prediction

LOOKS_WRONG, CONTRADICTS, TRUNCATED = "wrong", "contradicts", "truncated"
KINDS = {LOOKS_WRONG: "Looks wrong", CONTRADICTS: "Other answer", TRUNCATED: "Cut off"}

HELD_BACK = "it is marked as one that never freezes"


@dataclass(frozen=True)
class Signals:
    """What the record knows of one sample.

    mean_loss: of the data, as the rule "relative" compares with; nan before the first partition.
    held_back: marked as one that never freezes. predicted: what its look-alikes tell, as a Prediction.
    surprising: at its last visit its loss was far above what its look-alikes tell.
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
    held_back: bool = False
    predicted: int = Prediction.NONE
    loss_outlier: bool = False

    @property
    def quality(self) -> float:
        return 1.0 - min(1.0, max(0.0, self.loss - self.best_loss))


def bucket_sentence(signals: Signals, rule: GEKOConfig) -> str:
    """The bucket's name and the comparison that put the sample there."""
    if signals.bucket == Bucket.UNSEEN:
        if signals.predicted == Prediction.KNOWN:
            return "Not seen: left out so far, as samples like it are answered right."
        return "Not seen: the model has not met it yet."
    if signals.bucket == Bucket.FREEZE:
        return f"FREEZE, mastered: {_mastered(signals, rule)}."
    if signals.bucket == Bucket.LIGHT:
        known = "every token of the answer is the most likely one" if signals.correct else "it is mastered"
        return f"LIGHT: {known}, but {_not_mastered(signals, rule)}."
    confidence, threshold = apart(signals.confidence, rule.focus_confidence)
    if signals.bucket == Bucket.FOCUS:
        return f"FOCUS, still learning: the answer is wrong, and its confidence {confidence} is not above {threshold}."
    return f"HARD, confidently wrong: the answer is wrong, though its confidence {confidence} is above {threshold}."


def _mastered(signals: Signals, rule: GEKOConfig) -> str:
    if signals.predicted == Prediction.STABLE:
        return "training hardly changes the answers to samples like it"
    if rule.mastery == "below_mean_loss":
        loss, mean = apart(signals.loss, signals.mean_loss)
        return f"its loss {loss} is below the mean of the data, {mean}"
    confidence, least = apart(signals.confidence, rule.freeze_confidence)
    q, q_least = apart(signals.q, rule.min_q_for_freeze)
    quality, quality_least = apart(signals.quality, rule.freeze_quality)
    return (
        f"the answer is exact, its confidence {confidence} is above {least}, its Q-value {q} is at least {q_least} and "
        f"its quality {quality} is above {quality_least}"
    )


def _not_mastered(signals: Signals, rule: GEKOConfig) -> str:
    """The conditions that it fails; a record that fails none was sorted by other thresholds."""
    if rule.mastery == "below_mean_loss":
        if math.isnan(signals.mean_loss):
            return "the mean loss of the data is not known before the next epoch"
        if signals.loss < signals.mean_loss:
            return HELD_BACK if signals.held_back else "it was sorted by the mean loss as it was before"
        loss, mean = apart(signals.loss, signals.mean_loss)
        return f"its loss {loss} is not below the mean of the data, {mean}"
    failed = []
    for name, value, least, met in (
        ("confidence", signals.confidence, rule.freeze_confidence, signals.confidence > rule.freeze_confidence),
        ("Q-value", signals.q, rule.min_q_for_freeze, signals.q >= rule.min_q_for_freeze),
        ("quality", signals.quality, rule.freeze_quality, signals.quality > rule.freeze_quality),
    ):
        shown, threshold = apart(value, least)
        if not met:
            failed.append(f"its {name} {shown} is {'below' if name == 'Q-value' else 'not above'} {threshold}")
    otherwise = HELD_BACK if signals.held_back else "it was sorted by other thresholds than those of now"
    return " and ".join(failed) or otherwise


def apart(value: float, threshold: float) -> tuple[str, str]:
    """Both with two digits, or with as many as tell them apart."""
    for digits in range(2, 7):
        shown = (f"{value:.{digits}f}", f"{threshold:.{digits}f}")
        if value == threshold or shown[0] != shown[1]:
            break
    return shown


def suspicions(signals: Signals, *, contradicts: int, truncated: bool, tokens: int, is_suspect: bool) -> dict[str, str]:
    """The reasons to look at a sample by their kind, {} for most.

    Args:
        contradicts: row number of the other answer, 0 for none. is_suspect: the noise guard holds it for a wrong label.
    """
    found = {}
    if is_suspect:
        least = (
            f"{100 * signals.min_target_probability:.2g}"
            if signals.min_target_probability >= 1e-4
            else "less than 0.01"
        )
        told = [f"HARD at {signals.hard_streak} visits in a row"] if signals.hard_streak > 1 else ["HARD"]
        if signals.loss_outlier:
            told.append(f"a loss over {OUTLIER_Z:g} standard deviations above that of samples like it")
        told.append(f"a target token with {least} % (below {100 * SUSPECT_PROBABILITY:g} %)")
        found[LOOKS_WRONG] = f"{', '.join(told[:-1])}, and {told[-1]}: the answer is probably wrong."
    if contradicts:
        found[CONTRADICTS] = f"Row {contradicts:,} has the same prompt with another answer."
    if truncated:
        found[TRUNCATED] = f"Cut at {tokens:,} tokens (max_length): what comes after is never learnt."
    return found
