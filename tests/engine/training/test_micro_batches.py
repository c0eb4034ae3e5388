"""How a step is split into forward passes: as few as the limit allows, and even."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geko_engine.training.micro_batches import MicroBatches

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=50).map(lambda values: np.array(sorted(values)))


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(33, 16, [11, 11, 11]), (32, 16, [16, 16]), (17, 16, [8, 9]), (16, 16, [16]), (1, 16, [1])],
)
def test_passes_by_samples_are_even(count: int, batch_size: int, sizes: list[int]) -> None:
    assert np.diff(MicroBatches(batch_size).bounds(np.full(count, 9))).tolist() == sizes


@given(lengths, st.integers(1, 200), st.integers(1, 3), st.sampled_from([1, 8]))
def test_passes_by_tokens_stay_within_the_budget_padding_included(
    lengths: np.ndarray, budget: int, processes: int, multiple: int
) -> None:
    split = MicroBatches(4, budget, processes, multiple)
    shares = [list(split.shares(lengths, rank)) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    taken = [int(p) for share in shares for positions, real in share if real for p in positions]
    assert sorted(taken) == list(range(len(lengths)))
    for positions, _ in (part for share in shares for part in share):
        padded = -(-int(lengths[positions].max()) // multiple) * multiple
        assert len(positions) * padded <= budget or len(positions) == 1


@given(lengths, st.integers(1, 200), st.integers(1, 3))
def test_without_padding_only_real_tokens_count(lengths: np.ndarray, budget: int, processes: int) -> None:
    split = MicroBatches(4, budget, processes, packed=True)
    shares = [list(split.shares(lengths, rank)) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    taken = [int(p) for share in shares for positions, real in share if real for p in positions]
    assert sorted(taken) == list(range(len(lengths)))
    assert all(lengths[p].sum() <= budget or len(p) == 1 for share in shares for p, _ in share)
    assert split.count(lengths) <= MicroBatches(4, budget, processes).count(lengths)


@given(lengths, st.integers(20, 300))
def test_no_split_by_tokens_has_fewer_passes(lengths: np.ndarray, budget: int) -> None:
    found = MicroBatches(4, budget).bounds(lengths)
    least = [0] + [10**6] * len(lengths)  # of the first n samples, by trying every last pass
    for end in range(1, len(lengths) + 1):
        for start in range(end):
            if end - start == 1 or (end - start) * lengths[start:end].max() <= budget:
                least[end] = min(least[end], least[start] + 1)
    assert len(found) - 1 == least[-1]


def test_passes_by_tokens_are_even() -> None:
    assert MicroBatches(4, 100).bounds(np.full(33, 6)) == [0, 11, 22, 33]  # 16 would fit: not 16 + 16 + 1
    assert MicroBatches(4, 100).bounds(np.array([5, 5, 5, 90, 95])) == [0, 3, 4, 5]


def test_the_number_of_passes_falls_with_the_tokens() -> None:
    split = MicroBatches(16, 400)
    assert [len(split.bounds(np.full(count, 10))) - 1 for count in (160, 120, 80, 41, 40, 10)] == [4, 3, 2, 2, 1, 1]
