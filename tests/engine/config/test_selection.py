"""The rule as pure functions, with properties that hold for any signals: buckets, Q-value, weights, curriculum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_linear_schedule_with_warmup

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import (
    Bucket,
    bias_corrected_q,
    bucket_loss_weights,
    partition,
    quality,
    update_q,
)
from geko_engine.selection.curriculum import MountainCurriculum
from geko_engine.selection.label_noise import suspected
from geko_engine.selection.mastery import MASTERY_CRITERIA, RecordSignals
from geko_engine.training.compute import TokenCounter, compute_saved_ratio
from geko_engine.training.schedule import learning_rate_at, warmup_share

share = st.floats(0, 1)
loss = st.floats(0, 50)


def bucket_of(correct: bool, confidence: float, q: float, quality_value: float, config: GEKOConfig) -> Bucket:
    one = np.array
    signals = RecordSignals(one([0.1]), one([correct]), one([confidence]), one([q]), one([quality_value]), 1.0)
    mastered = MASTERY_CRITERIA["exact_match"].mastered(signals, config)
    return Bucket(int(partition(one([correct]), one([confidence]), mastered, one([True]), config)[0]))


@given(st.booleans(), share, share, share, share, share)
def test_every_sample_is_in_the_bucket_that_its_definition_says(
    correct: bool, confidence: float, q: float, quality_value: float, freeze: float, focus: float
) -> None:
    config = GEKOConfig(freeze_confidence=freeze, focus_confidence=focus)
    found = bucket_of(correct, confidence, q, quality_value, config)
    mastered = (
        correct and confidence > freeze and q >= config.min_q_for_freeze and quality_value > config.freeze_quality
    )
    assert (found == Bucket.FREEZE) == mastered
    assert (found == Bucket.LIGHT) == (correct and not mastered)
    assert (found == Bucket.FOCUS) == (not correct and confidence <= focus)
    assert (found == Bucket.HARD) == (not correct and confidence > focus)


@given(share, share)
def test_more_confidence_never_unfreezes(low: float, high: float) -> None:
    low, high = sorted((low, high))
    if bucket_of(True, low, 1.0, 1.0, GEKOConfig()) == Bucket.FREEZE:
        assert bucket_of(True, high, 1.0, 1.0, GEKOConfig()) == Bucket.FREEZE


def test_what_was_never_seen_stays_unseen() -> None:
    none = np.zeros(3, bool)
    assert partition(none, np.zeros(3), none, none, GEKOConfig()).tolist() == [Bucket.UNSEEN] * 3


@given(loss, st.integers(1, 40))
def test_q_means_something_from_the_first_visit(value: float, visits: int) -> None:
    config, q = GEKOConfig(), np.zeros(1)
    for _ in range(visits):
        q = update_q(q, np.array([value]), config)
    corrected = bias_corrected_q(q, np.array([visits]), config.q_value_lr)
    assert corrected[0] == pytest.approx(1 - min(value / 10, 1))


@given(st.lists(loss, min_size=1, max_size=20))
def test_q_stays_between_0_and_1(losses: list[float]) -> None:
    config, q = GEKOConfig(), np.zeros(1)
    for value in losses:
        q = update_q(q, np.array([value]), config)
    assert 0 <= bias_corrected_q(q, np.array([len(losses)]), config.q_value_lr)[0] <= 1 + 1e-12


@given(loss, loss)
def test_only_getting_worse_lowers_quality(last: float, best: float) -> None:
    best = min(last, best)
    found = quality(np.array([last]), np.array([best]))[0]
    assert 0 <= found <= 1 and (found == 1) == (last == best or last - best < 1e-12)


@given(st.floats(0.8501, 1.0))
def test_at_the_default_thresholds_quality_cannot_bind(min_target_probability: float) -> None:
    worst_loss = -np.log(min_target_probability)  # the mean loss is at most that of the least likely token
    assert quality(np.array([worst_loss]), np.array([0.0]))[0] > GEKOConfig().freeze_quality


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.tuples(share, share, share))
def test_bucket_weights_have_mean_1_and_keep_their_proportions(
    ids: list[int], weights: tuple[float, float, float]
) -> None:
    bucket = np.array(ids, np.uint8)
    found = bucket_loss_weights(bucket, weights)
    assert found.min() >= 0 and found.mean() == pytest.approx(1, rel=1e-4)
    hard, focus = found[bucket == Bucket.HARD], found[bucket == Bucket.FOCUS]
    if len(hard) and len(focus) and weights[0] > 1e-3 and weights[1] > 1e-3:
        assert hard[0] / focus[0] == pytest.approx(weights[0] / weights[1], rel=1e-3)


def test_suspects_are_hard_twice_in_a_row_and_ruled_out() -> None:
    bucket = np.array([Bucket.HARD, Bucket.HARD, Bucket.HARD, Bucket.FOCUS])
    streak, min_target_probability = np.array([2, 1, 2, 2]), np.array([0.001, 0.001, 0.2, 0.001])
    nothing = np.zeros(4, np.uint8)
    assert suspected(bucket, streak, nothing, min_target_probability).tolist() == [True, False, False, False]


def test_one_visit_is_enough_where_the_loss_is_surprising() -> None:
    bucket = np.array([Bucket.HARD, Bucket.HARD, Bucket.FOCUS], np.uint8)
    once, surprising = np.ones(3, np.uint8), np.array([1, 1, 1], np.uint8)
    assert suspected(bucket, once, surprising, np.array([0.001, 0.02, 0.001])).tolist() == [True, False, False]


@given(st.floats(-0.5, 1.5))
def test_the_mountain_has_a_phase_for_every_progress(progress: float) -> None:
    phase = MountainCurriculum().phase_at(progress)
    assert phase.name in {"warmup", "ascent", "peak", "descent", "consolidate"}


@pytest.mark.parametrize(
    ("progress", "name", "weights"),
    [
        (0.0, "warmup", (1, 2, 3)),
        (0.15, "ascent", (2, 3, 1)),
        (0.35, "peak", (5, 2, 0)),
        (0.65, "descent", (2, 3, 1)),
        (0.85, "consolidate", (1, 2, 3)),
        (1.0, "consolidate", (1, 2, 3)),
    ],
)
def test_the_mountain_is_the_published_one(progress: float, name: str, weights: tuple[int, int, int]) -> None:
    phase = MountainCurriculum().phase_at(progress)
    assert (phase.name, phase.weights) == (name, weights)


@given(st.integers(1, 500), st.integers(0, 100))
def test_the_learning_rate_is_transformers_linear_schedule(total: int, warmup: int) -> None:
    warmup = min(warmup, total // 10)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = get_linear_schedule_with_warmup(optimizer, warmup, total).lr_lambdas[0]
    for step in {0, 1, total // 2, total - 1, total}:
        expected = reference(step)
        assert learning_rate_at(step / total, 1.0, warmup_share(warmup, total)) == pytest.approx(expected, abs=1e-9)


def test_warmup_is_at_most_a_tenth_of_a_short_run() -> None:
    assert warmup_share(100, 50) == 0.1 and warmup_share(100, 10_000) == 0.01


def test_the_learning_rate_ends_at_zero_with_the_curriculums_factor_too() -> None:
    assert learning_rate_at(1.0, 3e-4, 0.1, factor=0.3) == 0.0


def test_compute_is_counted_forward_1_backward_2() -> None:
    counter = TokenCounter()
    counter.scan(tokens=100, padding=5, samples=10)
    counter.train(tokens=50, padding=3, targets=20, samples=5)
    assert (counter.forwarded, counter.backwarded, counter.scanned, counter.padding) == (150, 50, 100, 8)
    assert counter.saved_ratio(100) == pytest.approx(1 - (150 + 2 * 50) / 300)
    assert compute_saved_ratio(0, 0, 0) == 0 and compute_saved_ratio(100, 100, 100) == 0
    assert compute_saved_ratio(200, 100, 100) < 0  # spending more is shown, not hidden


@given(st.lists(loss, min_size=1, max_size=30))
def test_relatively_mastered_is_what_has_a_loss_below_the_mean(losses: list[float]) -> None:
    values = np.array(losses)
    nothing = np.zeros(len(values), bool)
    signals = RecordSignals(values, nothing, values, values, values, float(values.mean()))
    mask = MASTERY_CRITERIA["below_mean_loss"].mastered(signals, GEKOConfig())
    assert mask.tolist() == [value < values.mean() for value in losses]
    before = RecordSignals(values, nothing, values, values, values, float("nan"))
    assert not MASTERY_CRITERIA["below_mean_loss"].mastered(before, GEKOConfig()).any()
