"""Record and plan: what is frozen is really left out, and the same record always gives the same plan."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geko_engine.config.selection import GEKOConfig
from geko_engine.exceptions import CheckpointError
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.epoch_plan import Plan, choose_rechecks, is_mastered, plan_epoch, steps_per_epoch, thaw_ratio
from geko_engine.selection.label_noise import NoiseEvidence
from geko_engine.selection.sample_records import Prediction, SampleStates
from geko_engine.training.micro_batches import MicroBatches

NO_REPLAY = GEKOConfig(frozen_replay=0.0)


def visited(
    count: int, frozen: int = 0, hard: int = 0, config: GEKOConfig = NO_REPLAY, visits: int = 1
) -> SampleStates:
    """A record whose first samples are FREEZE, the next ones HARD, and the rest FOCUS."""
    states = SampleStates(count)
    ids = np.arange(count)
    is_frozen, is_hard = ids < frozen, (ids >= frozen) & (ids < frozen + hard)
    for visit in range(visits):
        states.record(
            ids,
            np.where(is_frozen, 0.01, 3.0),
            np.where(is_frozen | is_hard, 0.95, 0.3),
            is_frozen,
            np.where(is_frozen, 0.95, 0.001),
            step=visit,
            config=config,
        )
    return states


def plan(
    states: SampleStates, config: GEKOConfig = NO_REPLAY, lengths: np.ndarray | None = None, **kwargs: object
) -> Plan:
    options = {"epoch": 1, "seed": 3, "step_size": 8} | kwargs
    lengths = np.arange(states.count) % 17 + 3 if lengths is None else lengths
    return plan_epoch(states, lengths, config, **options)  # type: ignore[arg-type]


def flat(found: Plan) -> list[int]:
    return [int(i) for step in range(found.steps) for i in found.ids(step)]


@given(st.integers(1, 300), st.integers(1, 40))
def test_the_first_pass_holds_every_sample_once(count: int, step_size: int) -> None:
    found = plan(SampleStates(count), GEKOConfig(), step_size=step_size, epoch=0)
    assert sorted(flat(found)) == list(range(count))
    assert found.steps == steps_per_epoch(count, step_size)
    assert set(np.concatenate([found.weights(i) for i in range(found.steps)])) == {1.0}


@given(st.integers(1, 200), st.integers(0, 200))
def test_frozen_samples_are_left_out_and_all_others_are_in(count: int, frozen: int) -> None:
    frozen = min(frozen, count)
    assert sorted(flat(plan(visited(count, frozen)))) == list(range(frozen, count))


def test_batches_shrink_and_the_number_of_steps_stays() -> None:
    whole, half = plan(visited(160)), plan(visited(160, frozen=80))
    assert (whole.steps, half.steps) == (20, 20)
    assert (max(whole.sizes), max(half.sizes)) == (8, 4)


def test_a_step_never_shrinks_below_four_samples() -> None:
    assert min(plan(visited(160, frozen=152)).sizes) == 4


def test_replay_takes_its_share_of_the_frozen_at_tempered_weight() -> None:
    config = GEKOConfig(frozen_replay=0.25)
    found = plan(visited(4000, frozen=4000, config=config), config)
    assert 0.21 < len(found.order) / 4000 < 0.29 and found.replayed == len(found.order)
    assert np.allclose(found.loss_weights, 2.0)


def test_pruned_samples_are_replayed_at_a_tenth() -> None:
    config = GEKOConfig(frozen_replay=0.25, prune_frozen_after=2)
    states = visited(4000, frozen=4000, config=config)
    for _ in range(3):
        states.begin_epoch()
    assert 0.07 < len(plan(states, config).order) / 4000 < 0.13


def test_pruned_samples_can_be_removed_for_good_and_their_pruning_be_lifted() -> None:
    config = GEKOConfig(frozen_replay=0.25, prune_frozen_after=2, pruned_replay=0.0)
    states = visited(4000, frozen=4000, config=config)
    for _ in range(3):
        assert states.pruned(config).sum() == 0
        states.begin_epoch()
    assert states.pruned(config).all() and plan(states, config).steps == 0
    states.lift_pruning()
    assert states.pruned(config).sum() == 0 and 0.21 < len(plan(states, config).order) / 4000 < 0.29


def test_the_counts_of_the_buckets_follow_every_visit() -> None:
    states = visited(200, frozen=50, hard=30)
    counted = [int((states.bucket == bucket).sum()) for bucket in Bucket]
    assert counted == [50, 0, 120, 30, 0] == list(asdict(states.counts()).values())


def test_the_same_record_seed_and_pass_give_the_same_plan() -> None:
    states = visited(200, frozen=50)
    assert flat(plan(states)) == flat(plan(states))
    assert flat(plan(states)) != flat(plan(states, epoch=2)) != flat(plan(states, seed=4))


def test_samples_of_similar_length_share_a_step() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 512)
    found = plan(SampleStates(512), GEKOConfig(), lengths, epoch=0)
    padded = sum(int(lengths[found.ids(i)].max()) * len(found.ids(i)) for i in range(found.steps))
    assert padded / lengths.sum() < 1.03


def test_the_longest_sample_comes_first_when_asked_for() -> None:
    lengths = np.full(200, 5)
    lengths[123] = 99
    assert 123 in plan(SampleStates(200), GEKOConfig(), lengths, epoch=0, longest_first=True).ids(0)


def test_switched_off_everything_is_trained_on_whatever_the_record_says() -> None:
    states = visited(100, frozen=90)
    assert len(plan(states, GEKOConfig(enabled=False)).order) == 100


def test_where_nothing_is_left_out_the_plan_is_that_of_plain_training() -> None:
    states = visited(100, frozen=60)  # mastered, but not skipped: the model knew too little beforehand
    for epoch in (0, 1, 2):
        gated = plan(states, GEKOConfig(), epoch=epoch, skips_mastered=False)
        plain = plan(states, GEKOConfig(enabled=False), epoch=epoch)
        assert flat(gated) == flat(plain) and np.array_equal(gated.loss_weights, plain.loss_weights)


def test_suspects_are_mostly_left_out_where_that_is_asked_for() -> None:
    states = visited(5000, hard=1000, visits=2)
    found = plan(states, skips_suspects=True)
    assert found.suspects == 1000 and 850 < found.left_out < 950 and len(found.order) == 5000 - found.left_out
    assert len(plan(states).order) == 5000


@pytest.mark.parametrize(
    ("first", "later", "leaves_out"),
    [
        (9, 29, False),  # as few as in clean data
        (10, 10, True),
        (9, 30, True),
        (200, 200, True),
        (200, 201, False),  # long free text, say: a large model is sure of most of it, and somewhere always wrong
    ],
)
def test_suspects_are_left_out_only_where_there_are_neither_few_nor_far_too_many(
    first: int, later: int, leaves_out: bool
) -> None:
    noise = NoiseEvidence(wanted=True)
    for epoch, suspects in enumerate((first, later)):
        noise.conclude(np.arange(1000) < suspects, epoch)
    assert noise.leaves_out(later, 1000) is leaves_out
    resumed = NoiseEvidence(wanted=True)
    resumed.load_state_dict(noise.state_dict())
    assert resumed.leaves_out(later, 1000) is leaves_out
    switched_off = NoiseEvidence(wanted=False)
    switched_off.conclude(np.ones(1000, bool), 0)
    assert not switched_off.leaves_out(later, 1000)


def test_one_visit_that_is_not_hard_clears_a_suspect() -> None:
    states = visited(10, hard=10, visits=2)
    ids = np.arange(5)
    states.record(ids, np.ones(5), np.full(5, 0.3), np.zeros(5, bool), np.full(5, 0.001), step=2, config=NO_REPLAY)
    assert states.suspects().tolist() == [False] * 5 + [True] * 5


def test_max_times_seen_ends_a_samples_training() -> None:
    config = GEKOConfig(max_times_seen=2, noise_guard=False)
    assert len(plan(visited(50, visits=2, config=config), config).order) == 0


def test_bucket_weights_of_zero_leave_a_bucket_out() -> None:
    found = plan(visited(100, hard=40), GEKOConfig(noise_guard=False), bucket_weights=(1.0, 0.0, 0.0))
    assert sorted(flat(found)) == list(range(40))


def test_rechecks_are_a_share_of_the_frozen_and_the_initial_scan_is_everything() -> None:
    config = GEKOConfig(recheck_ratio=0.5, initial_scan=True)
    states = visited(100, frozen=60, config=config)
    chosen = choose_rechecks(states, config, epoch=1, seed=0)
    assert len(chosen) == 30 and set(chosen) <= set(range(60))
    assert len(choose_rechecks(SampleStates(100), config, epoch=0, seed=0)) == 100
    assert len(choose_rechecks(states, GEKOConfig(), epoch=1, seed=0)) == 0


def test_a_frozen_sample_thaws_with_the_visit_that_shows_it_is_no_longer_mastered() -> None:
    states = visited(10, frozen=10)
    states.begin_epoch()
    states.record(
        np.arange(4), np.ones(4), np.full(4, 0.5), np.zeros(4, bool), np.full(4, 0.2), step=9, config=NO_REPLAY
    )
    assert states.counts().freeze == 6
    assert thaw_ratio(states, since_step=9) == 1.0 and thaw_ratio(states, since_step=10) is None


def test_a_run_is_over_when_nearly_all_is_frozen_and_hardly_any_thaws() -> None:
    states = visited(100, frozen=96)
    states.begin_epoch()
    assert not is_mastered(states, 5, NO_REPLAY)  # nobody has looked at them yet
    ids = np.arange(20)
    states.record(
        ids, np.full(20, 0.01), np.full(20, 0.95), np.ones(20, bool), np.full(20, 0.95), step=5, config=NO_REPLAY
    )
    assert is_mastered(states, 5, NO_REPLAY)
    assert not is_mastered(visited(100, frozen=90), 0, NO_REPLAY)
    states.predicted_status[:10] = Prediction.STABLE  # FREEZE as well, but not because their answers are right
    assert not is_mastered(states, 5, NO_REPLAY)


def test_the_record_is_small_and_survives_saving(tmp_path: Path) -> None:
    states = visited(1000, frozen=300)
    assert states.bytes_per_sample <= 40
    states.save(tmp_path / "s.safetensors")
    other = SampleStates(1000)
    other.load(tmp_path / "s.safetensors")
    for name, array in states.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
    with pytest.raises(CheckpointError, match="1000 samples, but the data has 7"):
        SampleStates(7).load(tmp_path / "s.safetensors")


def test_the_record_keeps_first_best_and_last_loss() -> None:
    states = SampleStates(1)
    for step, value in enumerate([3.0, 1.0, 2.0]):
        states.record(
            np.array([0]),
            np.array([value]),
            np.array([0.5]),
            np.array([False]),
            np.array([0.1]),
            step=step,
            config=NO_REPLAY,
            trained=step > 0,
        )
    assert (states.first_loss[0], states.best_loss[0], states.loss[0]) == (3.0, 1.0, 2.0)
    assert (states.seen[0], states.checked[0], states.last_step[0], states.bucket[0]) == (2, 1, 2, Bucket.FOCUS)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5))
def test_each_sample_of_a_step_belongs_to_one_process_and_all_have_as_many_batches(
    count: int, batch_size: int, processes: int
) -> None:
    split, lengths = MicroBatches(batch_size, processes=processes), np.ones(count, int)
    shares = [list(split.shares(lengths, rank)) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    taken = [int(p) for share in shares for positions, real in share if real for p in positions]
    assert sorted(taken) == list(range(count))
    assert all(0 < len(positions) <= batch_size for share in shares for positions, _ in share)
