"""Why a sample is in its bucket: one sentence for every case, and always the sentence that the rule itself would say."""

from __future__ import annotations

import math
import re
from itertools import product
from typing import Any

import numpy as np
import pytest

from geko_app.samples.reasons import Signals, apart, bucket_sentence, suspicions
from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import Bucket, partition
from geko_engine.selection.mastery import MASTERY_CRITERIA
from geko_engine.selection.mastery import RecordSignals as RuleSignals
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


def signals(**changes: Any) -> Signals:
    return Signals(**(MASTERED | changes))


CASES = {
    "held back": (
        signals(bucket=Bucket.LIGHT, held_back=True),
        EXACT,
        "LIGHT: every token of the answer is the most likely one, but it is marked as one that never freezes.",
    ),
    "held back, wrong": (
        signals(bucket=Bucket.LIGHT, held_back=True, correct=False),
        RELATIVE,
        "LIGHT: it is mastered, but it is marked as one that never freezes.",
    ),
    "held back, not mastered": (
        signals(bucket=Bucket.LIGHT, held_back=True, confidence=0.5),
        EXACT,
        "LIGHT: every token of the answer is the most likely one, but its confidence 0.50 is not above 0.85.",
    ),
    "unseen": (signals(bucket=Bucket.UNSEEN), EXACT, "Not seen: the model has not met it yet."),
    "unseen, told by look-alikes": (
        signals(bucket=Bucket.UNSEEN, predicted=Prediction.KNOWN),
        EXACT,
        "Not seen: left out so far, as samples like it are answered right.",
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
    "freeze, told by look-alikes": (
        signals(predicted=Prediction.STABLE, correct=False),
        EXACT,
        "FREEZE, mastered: training hardly changes the answers to samples like it.",
    ),
    "freeze, relative": (
        signals(),
        RELATIVE,
        "FREEZE, mastered: its loss 0.11 is below the mean of the data, 0.50.",
    ),
    "light, unsure": (
        signals(bucket=Bucket.LIGHT, confidence=0.7),
        EXACT,
        "LIGHT: every token of the answer is the most likely one, but its confidence 0.70 is not above 0.85.",
    ),
    "light, bad history and worse than before": (
        signals(bucket=Bucket.LIGHT, q=0.5, loss=0.6, best_loss=0.1),
        EXACT,
        "LIGHT: every token of the answer is the most likely one, but its Q-value 0.50 is below 0.80 and its quality 0.50 "
        "is not above 0.80.",
    ),
    "light, relative": (
        signals(bucket=Bucket.LIGHT, loss=0.7),
        RELATIVE,
        "LIGHT: every token of the answer is the most likely one, but its loss 0.70 is not below the mean of the data, 0.50.",
    ),
    "light, relative, no mean yet": (
        signals(bucket=Bucket.LIGHT, mean_loss=math.nan),
        RELATIVE,
        "LIGHT: every token of the answer is the most likely one, but the mean loss of the data is not known before the "
        "next epoch.",
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
        "HARD, confidently wrong: the answer is wrong, though its confidence 0.92 is above 0.60.",
    ),
    "hard by a hair": (
        signals(bucket=Bucket.HARD, correct=False, confidence=0.60012),
        EXACT,
        "HARD, confidently wrong: the answer is wrong, though its confidence 0.6001 is above 0.6000.",
    ),
    "sorted by other thresholds": (
        signals(bucket=Bucket.LIGHT),
        EXACT,
        "LIGHT: every token of the answer is the most likely one, but it was sorted by other thresholds than those of now.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence_with_the_numbers_and_thresholds_of_the_run(name: str) -> None:
    found, rule, sentence = CASES[name]
    assert bucket_sentence(found, rule) == sentence


VALUES = (0.1, 0.59, 0.61, 0.79, 0.8, 0.84, 0.86, 0.99)
NOT_TRUE = re.compile("other thresholds|as it was before")


@pytest.mark.parametrize("rule", [EXACT, RELATIVE, GEKOConfig(freeze_confidence=0.5, focus_confidence=0.9)])
def test_wherever_the_rule_puts_a_sample_the_sentence_names_a_comparison_that_holds(rule: GEKOConfig) -> None:
    """Over a grid of signals: the bucket comes from the engine's own functions."""
    for correct, confidence, q, loss, best in product((True, False), VALUES, VALUES, VALUES, VALUES):
        found = signals(correct=correct, confidence=confidence, q=q, loss=max(loss, best), best_loss=best)
        one = [np.array([value]) for value in (found.loss, correct, confidence, q, found.quality)]
        mastered = MASTERY_CRITERIA[rule.mastery].mastered(RuleSignals(*one, mean_loss=found.mean_loss), rule)
        (bucket,) = partition(one[1], one[2], mastered, np.array([True]), rule)
        sentence = bucket_sentence(signals(**{**vars(found), "bucket": int(bucket)}), rule)
        assert sentence.startswith(Bucket(bucket).name) and sentence.endswith(".") and not NOT_TRUE.search(sentence)
        for value, word, threshold in re.findall(r"(\d\.\d+) is (not above|above|at least|below) (\d\.\d+)", sentence):
            a, b = float(value), float(threshold)
            held = {"not above": a <= b, "above": a > b, "at least": a >= b, "below": a < b}
            assert held[word], sentence


def test_two_numbers_are_told_apart_with_as_many_digits_as_it_takes() -> None:
    assert apart(0.97, 0.85) == ("0.97", "0.85")
    assert apart(0.8501, 0.85) == ("0.8501", "0.8500")
    assert apart(0.85, 0.85) == ("0.85", "0.85")


def test_what_is_suspicious_is_said_with_its_numbers() -> None:
    found = signals(bucket=Bucket.HARD, hard_streak=3, min_target_probability=0.0042)
    assert suspicions(found, contradicts=0, truncated=False, tokens=9, is_suspect=False) == {}
    assert suspicions(found, contradicts=1200, truncated=True, tokens=512, is_suspect=True) == {
        "wrong": "HARD at 3 visits in a row, and a target token with 0.42 % (below 1 %): the answer is probably wrong.",
        "contradicts": "Row 1,200 has the same prompt with another answer.",
        "truncated": "Cut at 512 tokens (max_length): what comes after is never learnt.",
    }
    once = signals(bucket=Bucket.HARD, hard_streak=1, min_target_probability=0.0042, loss_outlier=True)
    assert suspicions(once, contradicts=0, truncated=False, tokens=9, is_suspect=True) == {
        "wrong": "HARD, a loss over 5 standard deviations above that of samples like it, and a target token with 0.42 % "
        "(below 1 %): the answer is probably wrong.",
    }
    tiny = signals(bucket=Bucket.HARD, hard_streak=2, min_target_probability=1e-9)
    assert "less than 0.01 %" in suspicions(tiny, contradicts=0, truncated=False, tokens=9, is_suspect=True)["wrong"]
