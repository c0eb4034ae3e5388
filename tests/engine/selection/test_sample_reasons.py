"""Why a sample is in its bucket: one sentence for every case, and always the sentence that the rule itself would say."""

from __future__ import annotations

import math
import re
from itertools import product
from typing import Any

import numpy as np
import pytest

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import Bucket, partition, quality
from geko_engine.selection.mastery import MASTERY_CRITERIA
from geko_engine.selection.mastery import RecordSignals as RuleSignals
from geko_engine.selection.sample_reasons import (
    ALREADY_KNOWN,
    NOT_REACHED,
    ONLY_SCORED,
    PREDICTED_KNOWN,
    RecordedSample,
    distinct_digits,
    guard_reason,
    never_trained,
    why,
)
from geko_engine.selection.sample_records import Prediction

EXACT, RELATIVE = GEKOConfig(), GEKOConfig(mastery="below_mean_loss")
MASTERED: dict[str, Any] = {
    "bucket": Bucket.FREEZE,
    "correct": True,
    "confidence": 0.97,
    "q": 0.93,
    "loss": 0.11,
    "best_loss": 0.1,
    "mean_loss": 0.5,
    "min_target_probability": 0.97,
    "hard_streak": 0,
}


def signals(**changes: Any) -> RecordedSample:
    return RecordedSample(**(MASTERED | changes))


CASES = {
    "never freeze": (
        signals(bucket=Bucket.LIGHT, never_freeze=True),
        EXACT,
        "LIGHT: the answer is exact, but it is flagged to never freeze.",
    ),
    "never freeze, wrong": (
        signals(bucket=Bucket.LIGHT, never_freeze=True, correct=False),
        RELATIVE,
        "LIGHT: it is mastered, but it is flagged to never freeze.",
    ),
    "never freeze, not mastered": (
        signals(bucket=Bucket.LIGHT, never_freeze=True, confidence=0.5),
        EXACT,
        "LIGHT: the answer is exact, but its confidence 0.50 is not above 0.85.",
    ),
    "unseen": (signals(bucket=Bucket.UNSEEN), EXACT, "Not seen: not trained on yet."),
    "unseen, predicted from similar prompts": (
        signals(bucket=Bucket.UNSEEN, predicted=Prediction.KNOWN),
        EXACT,
        "Not seen: skipped so far, as samples with similar prompts are answered correctly.",
    ),
    "freeze": (
        signals(),
        EXACT,
        "FREEZE, mastered: the answer is exact, its confidence 0.97 is above 0.85, its Q-value 0.93 is at least 0.80 and "
        "its quality 0.99 is above 0.80.",
    ),
    "freeze, own thresholds": (
        signals(),
        GEKOConfig(freeze_confidence=0.5, min_q_for_freeze=0.25, freeze_quality=0.1),
        "FREEZE, mastered: the answer is exact, its confidence 0.97 is above 0.50, its Q-value 0.93 is at least 0.25 and "
        "its quality 0.99 is above 0.10.",
    ),
    "freeze, predicted from similar prompts": (
        signals(predicted=Prediction.STABLE, correct=False),
        EXACT,
        "FREEZE, stable: training hardly changes the predictions for samples with similar prompts.",
    ),
    "freeze, relative": (
        signals(),
        RELATIVE,
        "FREEZE, mastered: its loss 0.11 is below the mean of the data, 0.50.",
    ),
    "light, unsure": (
        signals(bucket=Bucket.LIGHT, confidence=0.7),
        EXACT,
        "LIGHT: the answer is exact, but its confidence 0.70 is not above 0.85.",
    ),
    "light, bad history and worse than before": (
        signals(bucket=Bucket.LIGHT, q=0.5, loss=0.6, best_loss=0.1),
        EXACT,
        "LIGHT: the answer is exact, but its Q-value 0.50 is below 0.80 and its quality 0.50 is not above 0.80.",
    ),
    "light, relative": (
        signals(bucket=Bucket.LIGHT, loss=0.7),
        RELATIVE,
        "LIGHT: the answer is exact, but its loss 0.70 is not below the mean of the data, 0.50.",
    ),
    "light, relative, no mean yet": (
        signals(bucket=Bucket.LIGHT, mean_loss=math.nan),
        RELATIVE,
        "LIGHT: the answer is exact, but the mean loss of the data is only known after the first epoch.",
    ),
    "focus": (
        signals(bucket=Bucket.FOCUS, correct=False, confidence=0.43),
        EXACT,
        "FOCUS, still learning: the answer is wrong, and its confidence 0.43 is not above 0.60.",
    ),
    "focus, on the line": (
        signals(bucket=Bucket.FOCUS, correct=False, confidence=0.6),
        EXACT,
        "FOCUS, still learning: the answer is wrong, and its confidence 0.60 is not above 0.60.",
    ),
    "hard": (
        signals(bucket=Bucket.HARD, correct=False, confidence=0.92),
        EXACT,
        "HARD, confidently wrong: the answer is wrong, but its confidence 0.92 is above 0.60.",
    ),
    "hard by a hair": (
        signals(bucket=Bucket.HARD, correct=False, confidence=0.60012),
        EXACT,
        "HARD, confidently wrong: the answer is wrong, but its confidence 0.6001 is above 0.6000.",
    ),
    "sorted by other thresholds": (
        signals(bucket=Bucket.LIGHT),
        EXACT,
        "LIGHT: the answer is exact, but the thresholds have changed since it was put there.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence_with_the_numbers_and_thresholds_of_the_run(name: str) -> None:
    found, rule, sentence = CASES[name]
    assert why(found, rule) == sentence


VALUES = (0.1, 0.59, 0.61, 0.79, 0.8, 0.84, 0.86, 0.99)
NOT_TRUE = re.compile("have changed|has changed")


@pytest.mark.parametrize("rule", [EXACT, RELATIVE, GEKOConfig(freeze_confidence=0.5, focus_confidence=0.9)])
def test_wherever_the_rule_puts_a_sample_the_sentence_names_a_comparison_that_holds(rule: GEKOConfig) -> None:
    """Over a grid of signals: the bucket comes from the engine's own functions."""
    for correct, confidence, q, loss, best in product((True, False), VALUES, VALUES, VALUES, VALUES):
        found = signals(correct=correct, confidence=confidence, q=q, loss=max(loss, best), best_loss=best)
        one = [np.array([value]) for value in (found.loss, correct, confidence, q)]
        one.append(quality(one[0], np.array([found.best_loss])))
        mastered = MASTERY_CRITERIA[rule.mastery].mastered(RuleSignals(*one, mean_loss=found.mean_loss), rule)
        (bucket,) = partition(one[1], one[2], mastered, np.array([True]), rule)
        sentence = why(signals(**{**vars(found), "bucket": int(bucket)}), rule)
        assert sentence.startswith(Bucket(bucket).name) and sentence.endswith(".") and not NOT_TRUE.search(sentence)
        for value, word, threshold in re.findall(r"(\d\.\d+) is (not above|above|at least|below) (\d\.\d+)", sentence):
            a, b = float(value), float(threshold)
            held = {"not above": a <= b, "above": a > b, "at least": a >= b, "below": a < b}
            assert held[word], sentence


def test_two_numbers_have_as_many_digits_as_it_takes_to_differ() -> None:
    assert distinct_digits(0.97, 0.85) == ("0.97", "0.85")
    assert distinct_digits(0.8501, 0.85) == ("0.8501", "0.8500")
    assert distinct_digits(0.85, 0.85) == ("0.85", "0.85")


def test_the_guard_says_its_numbers() -> None:
    found = signals(bucket=Bucket.HARD, hard_streak=3, min_target_probability=0.0042)
    assert guard_reason(found) == (
        "The model finds it unlikely: HARD on 3 visits in a row, and a target token with a probability of 0.42 % (below 1 %)."
    )
    once = signals(bucket=Bucket.HARD, hard_streak=1, min_target_probability=0.0042, loss_outlier=True)
    assert guard_reason(once) == (
        "The model finds it unlikely: HARD, a loss over 5 standard deviations above that of samples with similar prompts, "
        "and a target token with a probability of 0.42 % (below 1 %)."
    )
    assert "less than 0.01 %" in guard_reason(signals(hard_streak=2, min_target_probability=1e-9))


def test_a_sample_that_was_never_trained_on_has_one_reason() -> None:
    assert never_trained(signals(trained=1)) == ""
    never = {"trained": 0, "bucket": Bucket.UNSEEN}
    assert never_trained(signals(**never)) == NOT_REACHED
    assert never_trained(signals(**never, predicted=Prediction.KNOWN)) == PREDICTED_KNOWN
    assert never_trained(signals(trained=0, scored=1)) == ALREADY_KNOWN
    assert never_trained(signals(trained=0, scored=1, bucket=Bucket.FOCUS)) == ONLY_SCORED
