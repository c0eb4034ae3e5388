"""The core set: which samples of a record are chosen, and in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig
from geko_engine.exceptions import RunError
from geko_engine.selection.core_set import CoreSet, LearningRecord, choose_core_set, random_set
from geko_engine.selection.history import History
from geko_engine.selection.sample_records import SampleStates

# Eight samples over three epochs: right from the start, learned after one, two and all epochs, forgotten, never right, and two
# that were right every time or never trained on.
WRONG = np.array([[1, 0, 0, 0, 1, 0, 1, 0], [1, 1, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 1, 0, 1, 0]]) == 0
TRAINED = np.array([3, 3, 3, 3, 3, 3, 3, 0])
PROGRESS = np.array([0.1, 1.0, 1.0, 0.9, 0.2, 0.1, 0.0, 0.0])
NONE = np.zeros(8, bool)


def mask(*ids: int) -> NDArray[Any]:
    return np.isin(np.arange(8), ids)


def chosen(
    share: float | None = None,
    out: NDArray[Any] = NONE,
    near: NDArray[Any] = NONE,
    copies: NDArray[Any] | None = None,
) -> CoreSet:
    record = LearningRecord(WRONG, TRAINED, PROGRESS)
    copy_of = np.arange(8) if copies is None else copies
    return choose_core_set(record, left_out=out, copy_of=copy_of, near_duplicate=near, share=share)


def test_a_sample_takes_as_many_epochs_as_pass_until_it_stays_right() -> None:
    assert LearningRecord(WRONG, TRAINED, PROGRESS).epochs_to_learn.tolist() == [0, 1, 2, 3, 2, 3, 0, 0]


def test_by_default_all_that_were_ever_wrong_are_chosen() -> None:
    found = chosen()
    assert found.ids.tolist() == [1, 2, 3, 4, 5] and found.carried == 5
    assert found.share == pytest.approx(5 / 8)


@pytest.mark.parametrize(
    ("size", "ids"),
    [(4, [2, 3, 4, 5]), (5, [1, 2, 3, 4, 5]), (6, [0, 1, 2, 3, 4, 5]), (7, [0, 1, 2, 3, 4, 5, 6])],
)
def test_most_epochs_come_first_then_the_loss_that_fell_most(size: int, ids: list[int]) -> None:
    assert chosen(size / 8).ids.tolist() == ids


def test_a_small_share_is_one_sample_at_least_and_a_large_one_no_more_than_there_are() -> None:
    assert len(chosen(0.01).ids) == 1
    assert chosen(1.0, out=mask(0, 3)).ids.tolist() == [1, 2, 4, 5, 6, 7]


def test_what_is_left_out_is_never_chosen() -> None:
    found = chosen(out=mask(3, 5))
    assert found.ids.tolist() == [1, 2, 4] and found.candidates.tolist() == [0, 1, 2, 4, 6, 7]


def test_of_copies_only_the_first_that_may_be_chosen_is() -> None:
    copies = np.array([0, 1, 2, 2, 2, 5, 6, 7])
    assert chosen(1.0, copies=copies).ids.tolist() == [0, 1, 2, 5, 6, 7]
    assert chosen(1.0, copies=copies, out=mask(2)).ids.tolist() == [0, 1, 3, 5, 6, 7]


def test_near_duplicates_come_last_and_carry_nothing() -> None:
    near = mask(3)
    assert chosen(near=near).ids.tolist() == [1, 2, 4, 5]
    assert chosen(7 / 8, near=near).ids.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert chosen(1.0, near=near).ids.tolist() == list(range(8))


def test_equal_samples_are_chosen_in_the_order_of_the_data() -> None:
    record = LearningRecord(np.ones((1, 6), bool), np.ones(6), np.zeros(6))
    none = np.zeros(6, bool)
    for _ in range(2):
        found = choose_core_set(record, left_out=none, copy_of=np.arange(6), near_duplicate=none, share=5 / 6)
        assert found.ids.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("share", "by_record"), [(0.1, 0), (0.25, 0), (0.3, 24), (0.4, 96), (0.5, 200), (1.0, 400)])
def test_the_smaller_a_set_is_the_more_of_it_is_random(share: float, by_record: int) -> None:
    """A small set of only the hardest samples was far worse than a random one."""
    took = np.arange(400)
    record = LearningRecord(np.ones((1, 400), bool), np.ones(400), took.astype(float))
    none = np.zeros(400, bool)
    near = took < 40
    found = choose_core_set(record, left_out=none, copy_of=took, near_duplicate=near, share=share)
    size = round(400 * share)
    assert len(found.ids) == size and found.by_record == by_record
    hardest = np.arange(400 - by_record, 400) if by_record <= 360 else np.r_[40:400]
    assert set(hardest.tolist()) <= set(found.ids.tolist())
    assert share == 1.0 or not near[found.ids].any()  # not even among those that are drawn
    again = choose_core_set(record, left_out=none, copy_of=took, near_duplicate=near, share=share)
    assert found.ids.tolist() == again.ids.tolist()
    if not by_record:
        assert found.ids.mean() < 350, "these would be the hardest"


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_outside_its_range_is_named(share: float) -> None:
    with pytest.raises(RunError, match=f"is {share:g}: give one above 0"):
        chosen(share)


def test_where_there_is_nothing_to_choose_it_says_why() -> None:
    with pytest.raises(RunError, match="No row is left"):
        chosen(out=~NONE)
    with pytest.raises(RunError, match="No row carried the training"):
        chosen(out=mask(1, 2, 3, 4, 5))
    with pytest.raises(RunError, match="no whole epoch"):
        empty = LearningRecord(np.zeros((0, 8), bool), TRAINED, PROGRESS)
        choose_core_set(empty, left_out=NONE, copy_of=np.arange(8), near_duplicate=NONE)


def test_the_random_set_is_drawn_from_the_candidates_by_the_seed() -> None:
    candidates = np.array([2, 3, 5, 8, 13, 21, 34, 55])
    draws = [random_set(candidates, 4, seed).tolist() for seed in range(20)]
    assert draws == [random_set(candidates, 4, seed).tolist() for seed in range(20)]
    assert all(len(set(draw)) == 4 and draw == sorted(draw) and set(draw) <= set(candidates.tolist()) for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 5


def test_the_record_of_a_run_gives_the_progress_of_what_was_trained_on() -> None:
    states = SampleStates(3)
    scores = {"confidence": np.full(2, 0.5), "correct": np.zeros(2), "min_target_probability": np.full(2, 0.5)}
    for step, loss in enumerate((2.0, 0.5)):
        states.record(np.array([0, 2]), np.full(2, loss), **scores, step=step, config=GEKOConfig())
    record = LearningRecord.of(states, History(3).arrays)
    assert record.progress.tolist() == [1.5, 0.0, 1.5] and record.trained.tolist() == [2, 0, 2]


# In each epoch: who came up, and who of them was answered right. Sample 0 always comes up and is right; 1 comes up in the second
# epoch first, right; 2 is wrong in the first and does not come up again; 3 is wrong in the second; 4 never comes up.
EPOCHS = [([0, 2, 3], [1, 0, 1]), ([0, 1, 3], [1, 1, 0]), ([0, 1], [1, 1])]


def test_an_epoch_in_which_a_sample_did_not_come_up_is_not_counted_for_it() -> None:
    states, history = SampleStates(5), History(5)
    for epoch, (ids, correct) in enumerate(EPOCHS, 1):
        same = np.full(len(ids), 0.5)
        scores = {"loss": same, "confidence": same, "min_target_probability": same, "correct": np.array(correct)}
        states.record(np.array(ids), **scores, step=epoch, config=GEKOConfig())
        history.append(states, epoch=epoch, step=epoch)
    record = LearningRecord.of(states, history.arrays)
    assert record.epochs_to_learn.tolist() == [0, 0, 1, 2, 0]
    none = np.zeros(5, bool)
    found = choose_core_set(record, left_out=none, copy_of=np.arange(5), near_duplicate=none)
    assert found.ids.tolist() == [2, 3] and found.carried == 2
