"""Thinning of a run's points: how many are left, which ones, and that it depends on the points alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geko_app.runs.curve import KEPT, Curve, Point, extremes, thin


def point(step: int, loss: float | None = 1.0) -> Point:
    return Point(step, loss, loss, 0.1, 0.2, 0.3, 0.4, 80 * step, 0.5 * step, 1e-3, None)


def curve_of(losses: list[float | None]) -> Curve:
    curve = Curve()
    for step, loss in enumerate(losses, 1):
        curve.append(point(step, loss))
    return curve


def wave(count: int) -> list[float | None]:
    return [2.0 + (37 * step % 101) / 101 for step in range(count)]


def test_a_short_run_keeps_every_point() -> None:
    losses = wave(KEPT)
    assert [p.loss for p in curve_of(losses).points] == losses


@pytest.mark.parametrize("count", [KEPT + 2, 5_000, 40_000])
def test_a_long_run_keeps_a_bounded_number_of_points(count: int) -> None:
    curve = curve_of(wave(count))
    assert len(curve.points) <= KEPT + curve.stride
    assert [p.step for p in curve.points] == sorted({p.step for p in curve.points})
    assert curve.last_step == count and curve.points[-1] == curve.last == point(count, wave(count)[-1])


def test_no_spike_and_no_gap_disappears() -> None:
    losses = wave(40_000)
    losses[12_345], losses[23_456], losses[34_567] = 9.0, 0.1, None
    kept = {p.step: p.loss for p in curve_of(losses).points}
    assert (kept[12_346], kept[23_457], kept[34_568]) == (9.0, 0.1, None)


def test_each_closed_bucket_keeps_the_extremes_of_all_its_steps() -> None:
    losses = wave(20_000)
    curve, every = curve_of(losses), [point(step, loss) for step, loss in enumerate(losses, 1)]
    newest = 20_000 // curve.stride
    kept = [p for p in curve.points if p.step // curve.stride < newest]
    assert kept == thin([p for p in every if p.step // curve.stride < newest], curve.stride)
    assert [p for p in curve.points if p.step // curve.stride == newest] == [
        p for p in every if p.step // curve.stride == newest
    ]


@given(st.lists(st.one_of(st.none(), st.floats(0, 9)), max_size=60), st.integers(1, 8), st.integers(1, 4))
def test_thinning_in_steps_equals_thinning_at_once(losses: list[float | None], first: int, times: int) -> None:
    points = [point(step, loss) for step, loss in enumerate(losses, 1)]
    assert thin(thin(points, first), first * times) == thin(points, first * times)


def test_a_curve_comes_back_from_plain_values_as_it_was() -> None:
    whole, begun = curve_of(wave(30_000)), curve_of(wave(17_321))
    back = Curve.from_json(json.loads(json.dumps(begun.to_json())))
    for step, loss in enumerate(wave(30_000)[17_321:], 17_322):
        back.append(point(step, loss))
    assert back.to_json() == whole.to_json()


def test_a_copy_does_not_change_with_the_curve() -> None:
    curve = curve_of([1.0, 2.0])
    held = curve.copy()
    curve.append(point(3))
    assert [p.step for p in held.points] == [1, 2]


def test_news_are_all_there_and_a_whole_history_has_at_most_the_limit() -> None:
    curve = curve_of(wave(40_000))
    assert curve.since(40_000, 100) == [] and curve.since(39_999, 100) == [curve.last]
    for step in range(40_001, 40_011):
        curve.append(point(step))
    assert [p.step for p in curve.since(40_000, 100)] == list(range(40_001, 40_011))
    for limit in (3, 50, 600, 2000):
        thinned = curve.since(0, limit)
        assert len(thinned) <= limit and thinned[-1].step == 40_010


def test_what_is_cut_off_may_be_drawn_again() -> None:
    curve = curve_of(wave(20_000))
    assert not curve.cut(20_000) and curve.cut(12_000)
    assert curve.points[-1].step <= 12_000 and not curve.cut(12_000)
    for step in range(12_001, 30_001):
        curve.append(point(step))
    assert len(curve.points) <= KEPT + curve.stride and curve.last_step == 30_000
    assert [p.step for p in curve.points] == sorted({p.step for p in curve.points})
    assert curve.cut(0) and curve.points == [] and curve.last is None


def test_equal_losses_leave_one_point_a_bucket() -> None:
    assert extremes([point(1), point(2), point(3)]) == [point(1)]
    assert extremes([]) == []
