"""When a run has trained enough: checks come at growing distances, and the best one is not left far behind."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geko_engine.training.auto_length import FITTED, GROWTH, REACH, AutoLength
from geko_engine.training.weight_average import MEMORY, BestWeights, WeightAverage
from tests.engine.conftest import small_llama


def end_at(loss_at: list[float], steps_per_epoch: int = 100) -> int | None:
    """The last step of a run whose held-out loss after step s is loss_at[s]; None for never."""
    length = AutoLength([], steps_per_epoch)
    for step in range(1, len(loss_at)):
        if length.is_due(step) and not length.judge(step, loss_at[step]).goes_on:
            return step
    return None


def valley(lowest: int, steps: int = 5000) -> list[float]:
    """Losses that are lowest at a step, as a parabola in the logarithms of both."""
    return [0.1 * math.exp(0.5 * math.log(max(1, step) / lowest) ** 2) for step in range(steps)]


@pytest.mark.parametrize("lowest", [150, 400, 1200])
def test_a_run_ends_near_the_lowest_point(lowest: int) -> None:
    end = end_at(valley(lowest))
    assert end is not None and lowest / REACH <= end + 1 <= lowest * GROWTH**2


def test_a_loss_that_keeps_falling_is_trained_on() -> None:
    assert end_at([1 / (1 + step) for step in range(5000)]) is None
    assert end_at([(1 + step) ** -0.05 for step in range(5000)]) is None


def falling(checks: int) -> AutoLength:
    """After so many checks of a loss that falls ever faster, so that no lowest point is in sight."""
    length = AutoLength([], 60)
    assert all(length.judge(30 + 5 * n, 2.0 - 0.01 * n * n).goes_on for n in range(checks))
    return length


def test_a_loss_that_has_risen_ends_the_run() -> None:
    length = falling(FITTED)
    assert length.judge(90, 1.5).goes_on and not length.judge(101, 1.5).goes_on
    assert falling(FITTED).judge(90, 1.2).goes_on


def test_one_check_that_has_risen_can_be_chance() -> None:
    length = falling(FITTED)
    risen = length.judge(90, 1.5)
    assert risen.is_near and risen.goes_on
    for step, loss in ((101, 1.1), (113, 1.05), (127, 1.3)):
        assert length.judge(step, loss).goes_on


def test_nothing_is_decided_by_the_first_few_checks() -> None:
    length = AutoLength([], 100)  # the demo's mix: its held-out loss rises for a moment in the first half of an epoch
    losses = (0.798, 0.788, 0.795, 0.796, 0.764, 0.753, 0.742, 0.729)
    assert all(length.judge(72 + 10 * n, loss).goes_on for n, loss in enumerate(losses))


@pytest.mark.parametrize(("power", "factor"), [(0.1, 1.1), (0.3, 1.4), (0.5, 2.0)])
def test_one_outlier_ends_no_run_whose_loss_falls(power: float, factor: float) -> None:
    length, checks = AutoLength([], 60), 0
    for step in range(1, 2000):
        if length.is_due(step):
            checks += 1
            assert length.judge(step, (step / 30) ** -power * (factor if checks == 21 else 1)).goes_on
    assert checks > 30


def test_nothing_is_decided_before_every_sample_came_up() -> None:
    """Of a run on the demo's mix, whose held-out loss rises at 0.87 of an epoch and falls for many more: it ended there once."""
    at = (0.3, 0.34, 0.38, 0.43, 0.48, 0.54, 0.61, 0.69, 0.77, 0.87, 0.98, 1.1, 1.23, 1.38, 1.54, 1.73)
    losses = (
        0.762,
        0.743,
        0.748,
        0.725,
        0.708,
        0.69,
        0.672,
        0.668,
        0.652,
        0.658,
        0.658,
        0.617,
        0.591,
        0.588,
        0.549,
        0.529,
    )
    length = AutoLength([], 1000)
    assert all(length.judge(round(1000 * epochs), loss).goes_on for epochs, loss in zip(at, losses, strict=True))
    assert not AutoLength(length.checks[:10], 600).judge(980, 0.658).goes_on  # in the second epoch it would be the end


def test_a_loss_that_is_not_finite_ends_the_run_at_once() -> None:
    for loss in (math.nan, math.inf):
        length = AutoLength([], 100)
        assert length.judge(30, 2.0).goes_on and not length.judge(40, loss).goes_on
        assert json.loads(json.dumps(length.checks, allow_nan=False)) == length.checks


@given(st.integers(1, 5000))
def test_checks_cost_the_same_share_of_every_run(steps_per_epoch: int) -> None:
    length, steps = AutoLength([], steps_per_epoch), []
    for step in range(1, 4 * steps_per_epoch):
        if length.is_due(step):
            length.judge(step, 1 / step)
            steps.append(step)
    assert len(steps) <= 1 + math.log(4 / 0.3, GROWTH) + 1
    assert all(later > earlier for earlier, later in itertools.pairwise(steps))


def test_the_average_is_the_sum_of_its_definition() -> None:
    model = small_llama()
    average, parameter = WeightAverage(model), next(p for p in model.parameters())
    steps = 25
    for step in range(1, steps + 1):
        with torch.no_grad():
            parameter.fill_(float(step))
        average.update(step)
    # Of step s the share is c_s x prod over later t of (1 - c_t), with c_t = (m + 1) / (t + m).
    wanted, left = 0.0, 1.0
    for step in range(steps, 0, -1):
        share = (MEMORY + 1) / (step + MEMORY)
        wanted, left = wanted + left * share * step, left * (1 - share)
    assert left == pytest.approx(0)  # nothing is left of the weights before the first step
    with average.in_place():
        assert float(parameter.detach().flatten()[0]) == pytest.approx(wanted, rel=1e-5)
        assert wanted == pytest.approx(steps * (1 - 1 / (MEMORY + 2)), rel=0.02)  # the mean age that is promised
    assert float(parameter.detach().flatten()[0]) == steps


def test_the_best_weights_come_back() -> None:
    model = small_llama()
    best, parameter = BestWeights(model), next(p for p in model.parameters())
    best.deliver()  # nothing was kept: nothing changes
    kept = parameter.detach().clone()
    best.keep()
    with torch.no_grad():
        parameter.zero_()
    best.deliver()
    assert torch.equal(parameter, kept)
    again = BestWeights(model)
    again.load_state_dict(best.state_dict())
    with torch.no_grad():
        parameter.zero_()
    again.deliver()
    assert torch.equal(parameter, kept)
