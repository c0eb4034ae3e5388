"""Steps where samples are left out: whole forward passes and even sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.epoch_plan import plan_epoch, steps_per_epoch
from geko_engine.selection.sample_records import SampleStates
from geko_engine.selection.step_sizes import SMALLEST_STEP, shrunken_bounds


@given(st.integers(1, 500), st.floats(0.02, 1), st.integers(1, 16), st.integers(1, 6))
def test_every_sample_has_its_step_and_no_step_is_larger_than_a_plain_one(
    whole: int, share: float, batch: int, passes: int
) -> None:
    planned, steps = max(1, round(share * whole)), steps_per_epoch(whole, batch * passes)
    bounds = shrunken_bounds(planned, steps, batch * passes, batch)
    sizes = np.diff(bounds)
    assert (bounds[0], bounds[-1]) == (0, planned) and (sizes > 0).all()
    assert len(sizes) <= steps and sizes.max() <= max(batch * passes, SMALLEST_STEP * 2)


def test_steps_of_several_passes_shrink_by_whole_passes() -> None:
    sizes = np.diff(shrunken_bounds(1920, 50, 64, 16))  # 38.4 a step: 2.4 passes
    assert len(sizes) == 50 and set(sizes.tolist()) == {32, 48}
    assert sum(-(-size // 16) for size in sizes) == 1920 / 16  # all passes are full
    assert set(np.diff(shrunken_bounds(600, 50, 64, 16)).tolist()) == {12}  # less than one pass a step


def test_lengths_are_grouped_where_that_is_asked_for() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 512)
    padded = {}
    for grouped in (True, False):
        found = plan_epoch(
            SampleStates(512), lengths, GEKOConfig(), epoch=0, seed=3, step_size=8, group_by_length=grouped
        )
        assert sorted(found.order.tolist()) == list(range(512)) and found.steps == 64
        padded[grouped] = sum(int(lengths[found.ids(i)].max()) * 8 for i in range(64))
    assert padded[True] < 1.1 * lengths.sum() < 1.5 * lengths.sum() < padded[False]
