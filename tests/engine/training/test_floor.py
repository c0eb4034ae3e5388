"""A floor under the engine: what an earlier implementation of GEKO checks of itself holds here too.

Deliberately different, and tested as it is here:
- The record is a struct of arrays, not one object a sample: 36 bytes each, and a step is one write. So there is no
  history of five losses; first, best and last loss say whether a sample improves or got worse.
- A sample is UNSEEN, not FOCUS, until it is met, and its Q-value is corrected for its start instead of starting at 0.5.
- Quality falls when the loss rises above its best, not with its variance: falling fast is no fault.
- A bucket's weight is one of the loss, relative to the samples of a pass, instead of a chance to be drawn; confidence
  adds nothing to it, since a confident error is what HARD already means.
- focus_confidence may be above freeze_confidence: the one is asked of wrong answers, the other of right ones.
- The curriculum is a function of progress, so it has no steps, no reset and no flag for a change of phase.
- An empty training set is refused at once instead of giving an empty report.
- Shares of samples are no measure of what was saved: that is counted in tokens (test_trainer.py).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from geko_engine import BucketCounts, GEKOConfig, GEKOTrainer, GEKOTrainingArgs
from geko_engine.config.selection import GEKO_AGGRESSIVE, GEKO_BALANCED
from geko_engine.data.batches import as_samples
from geko_engine.exceptions import CheckpointError, ConfigError, RunError
from geko_engine.reporting.console import Console
from geko_engine.reporting.events import StepCompleted
from geko_engine.selection.buckets import Bucket, bucket_loss_weights, quality
from geko_engine.selection.curriculum import MountainCurriculum
from geko_engine.selection.sample_records import SampleStates
from tests.engine.conftest import character_tokenizer, small_llama

FREEZE, LIGHT, FOCUS, HARD, UNSEEN = Bucket


def visit(
    states: SampleStates, *ids: int, config: GEKOConfig | None = None, loss: float = 0.1, **signals: Any
) -> SampleStates:
    """Enter one visit of `ids`, all with the same signals: by default those of a mastered sample."""
    values = {"confidence": 0.95, "correct": True, "min_target_probability": 0.95, "step": 1, "trained": True} | signals
    step, trained = values.pop("step"), values.pop("trained")
    arrays = {name: np.full(len(ids), value) for name, value in {"loss": loss, **values}.items()}
    states.record(np.array(ids), **arrays, step=step, config=config or GEKOConfig(), trained=trained)
    return states


def q_after(losses: list[float], **changes: float) -> float:
    config, states = GEKOConfig(**changes), SampleStates(1)
    for value in losses:
        visit(states, 0, loss=value, config=config)
    return float(states.q_value(np.array([0]), config)[0])


NOT_A_RULE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("freeze_confidence", "freeze_quality", "focus_confidence"), (-0.1, 1.1, float("nan"))),
    **dict.fromkeys(("min_q_for_freeze", "frozen_replay", "pruned_replay"), (-0.1, 1.1)),
    **dict.fromkeys(("repartition_every", "max_times_seen"), (0, 1.5)),
    **{"q_value_lr": (0.0, 1.1), "q_value_loss_scale": (0.0,), "prune_frozen_after": (-1,), "mastery": ("wholly",)},
    "bucket_weights": ((3, 1), (3, 1, 0, 0), (-1, 1, 1), (0, 0, 0), ("a", 1, 1)),
}


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in NOT_A_RULE.items() for v in values])
def test_a_rule_that_cannot_be_is_refused_at_once_with_its_field(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        GEKOConfig(**{name: value})
    assert caught.value.field == name


def test_the_two_confidences_are_asked_of_different_samples() -> None:
    config, states = GEKOConfig(focus_confidence=0.9, freeze_confidence=0.5), SampleStates(2)
    visit(states, 0, confidence=0.6, config=config)
    visit(states, 1, confidence=0.6, correct=False, config=config)
    assert states.bucket.tolist() == [FREEZE, FOCUS]


def test_before_its_first_visit_a_sample_is_unseen_and_without_blame() -> None:
    states = SampleStates(2)
    assert states.bucket.tolist() == [UNSEEN] * 2 and states.counts().unseen == 2
    assert states.visits().tolist() == [0, 0] and states.last_step.tolist() == [-1, -1]
    assert quality(states.loss, states.best_loss).tolist() == [1, 1]
    assert states.q_value(np.arange(2), GEKOConfig()).tolist() == [0, 0]
    assert states.partition(GEKOConfig()).unseen == 2 and np.isnan(states.mean_loss)


def test_a_visit_is_entered_for_its_samples_only() -> None:
    states = SampleStates(4)
    visit(states, 3, 1, loss=2.5, confidence=0.75, correct=True, min_target_probability=0.25, step=7)
    entered = {"loss": 2.5, "confidence": 0.75, "correct": 1, "min_target_probability": 0.25, "last_step": 7, "seen": 1}
    for name, value in entered.items():
        untouched = SampleStates(1).arrays[name][0]
        assert states.arrays[name].tolist() == [untouched, value, untouched, value], name
    visit(states, 1, confidence=0.5, correct=False, trained=False)
    assert (states.confidence[1], states.correct[1], states.seen[1], states.checked[1]) == (0.5, 0, 1, 1)


@pytest.mark.parametrize(
    ("losses", "first", "best", "last", "expected"),
    [
        ([1.0], 1.0, 1.0, 1.0, 1.0),
        ([3.0] * 5, 3.0, 3.0, 3.0, 1.0),
        ([5.0, 4.0, 3.0, 2.0, 1.0], 5.0, 1.0, 1.0, 1.0),  # improving: no fault
        ([1.0, 1.25], 1.0, 1.0, 1.25, 0.75),
        ([0.0, 10.0, 0.0, 10.0], 0.0, 0.0, 10.0, 0.0),
        ([0.0, 10.0, 0.0], 0.0, 0.0, 0.0, 1.0),  # back at its best
    ],
)
def test_improving_standing_still_and_getting_worse(
    losses: list[float], first: float, best: float, last: float, expected: float
) -> None:
    states = SampleStates(1)
    for value in losses:
        visit(states, 0, loss=value)
    assert (states.first_loss[0], states.best_loss[0], states.loss[0]) == (first, best, last)
    assert quality(states.loss, states.best_loss)[0] == pytest.approx(expected)


def test_q_follows_the_loss_both_ways() -> None:
    middle = q_after([5.0])
    assert middle == pytest.approx(0.5)
    assert q_after([5.0, 0.0]) > middle > q_after([5.0, 10.0])


def test_a_higher_rate_moves_q_further_and_a_larger_scale_forgives_more() -> None:
    assert q_after([10.0, 0.0], q_value_lr=0.5) > q_after([10.0, 0.0], q_value_lr=0.1) > 0.5
    assert q_after([2.0], q_value_loss_scale=2.0) == 0 and q_after([2.0], q_value_loss_scale=10.0) == pytest.approx(0.8)
    assert q_after([5.0], q_value_loss_scale=10.0) == pytest.approx(q_after([5.0]))
    assert q_after([0.0, 50.0]) == pytest.approx(q_after([0.0, 10.0]))  # beyond the scale nothing is worse


def test_full_counters_stay_full_and_a_streak_begins_anew() -> None:
    states, hard = SampleStates(1), {"correct": False, "confidence": 0.9}
    for name, largest in (("seen", 65535), ("checked", 65535), ("hard_streak", 255)):
        states.arrays[name][0] = largest
    visit(states, 0, **hard), visit(states, 0, trained=False, **hard)
    assert (states.seen[0], states.checked[0], states.hard_streak[0]) == (65535, 65535, 255)
    assert visit(states, 0).hard_streak[0] == 0 and visit(states, 0, **hard).hard_streak[0] == 1


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ({}, FREEZE),
        ({"confidence": 0.5}, LIGHT),
        ({"confidence": 0.85}, LIGHT),  # at the threshold is not above it
        ({"confidence": 0.8501}, FREEZE),
        ({"loss": 2.1}, LIGHT),  # Q = 0.79
        ({"loss": 1.9}, FREEZE),  # Q = 0.81
        ({"correct": False, "confidence": 0.3}, FOCUS),
        ({"correct": False, "confidence": 0.60}, FOCUS),
        ({"correct": False, "confidence": 0.61}, HARD),
        ({"correct": False, "confidence": 0.9}, HARD),
    ],
)
def test_a_visit_sorts_its_sample_by_the_rule(signals: dict[str, Any], expected: Bucket) -> None:
    states = visit(SampleStates(1), 0, **signals)
    assert states.bucket[0] == expected
    states.arrays["bucket"][0] = UNSEEN  # sorting all anew comes to the same
    counts = states.partition(GEKOConfig())
    assert states.bucket[0] == expected and getattr(counts, expected.name.lower()) == counts.total == 1


@pytest.mark.parametrize(("rise", "expected"), [(0.19, FREEZE), (0.21, LIGHT)])
def test_a_loss_risen_since_its_best_keeps_a_sample_from_freezing(rise: float, expected: Bucket) -> None:
    states = visit(SampleStates(1), 0, loss=0.05)
    assert visit(states, 0, loss=0.05 + rise).bucket[0] == expected


def test_other_thresholds_sort_the_same_record_anew() -> None:
    states = visit(SampleStates(3), 0, 1, confidence=0.7)
    assert states.partition(GEKOConfig()) == BucketCounts(light=2, unseen=1)
    assert states.partition(GEKOConfig(freeze_confidence=0.6)).freeze == 2 == states.counts().freeze


def test_passes_as_frozen_are_counted_through_partitions_and_begin_anew_after_a_thaw() -> None:
    states = visit(SampleStates(2), 0, 1)
    for passes in (1, 2, 3):
        states.partition(GEKOConfig())
        states.begin_epoch()
        assert states.frozen_epochs.tolist() == [passes] * 2
    visit(states, 0, correct=False)
    states.begin_epoch()
    assert states.frozen_epochs.tolist() == [0, 4]
    visit(states, 0).begin_epoch()
    assert states.frozen_epochs.tolist() == [1, 5]


@pytest.mark.parametrize(
    ("weights", "shares"),  # of the five buckets in their order, FOCUS = 1
    [
        (GEKO_BALANCED.bucket_weights, [0.5, 0.5, 1, 1.5, 1]),
        (GEKO_AGGRESSIVE.bucket_weights, [0.5, 0, 1, 2.5, 1]),  # LIGHT 0: a replayed FREEZE still counts
        ((1, 1, 1), [1, 1, 1, 1, 1]),
    ],
)
def test_what_a_sample_weighs_depends_on_its_bucket_alone(weights: tuple, shares: list[float]) -> None:
    found = bucket_loss_weights(np.arange(5, dtype=np.uint8), weights)
    assert (found / found[FOCUS]).tolist() == pytest.approx(shares)


def test_a_pass_of_weightless_samples_only_is_trained_plainly_and_an_empty_one_is_no_error() -> None:
    assert bucket_loss_weights(np.full(3, LIGHT, np.uint8), (5, 2, 0)).tolist() == [1, 1, 1]
    assert bucket_loss_weights(np.zeros(0, np.uint8), (1, 1, 1)).tolist() == []


def filled() -> SampleStates:
    states = visit(SampleStates(5), 0, 1)
    visit(states, 2, correct=False, loss=3.0)
    states.partition(GEKOConfig())
    return states


def test_a_loaded_record_has_the_same_counts_and_goes_on_the_same(tmp_path: Path) -> None:
    states, loaded = filled(), SampleStates(5)
    states.save(tmp_path / "r")
    loaded.load(tmp_path / "r")
    assert loaded.counts() == states.counts() and loaded.mean_loss == states.mean_loss
    for record in (states, loaded):
        visit(record, 1, 3, correct=False, confidence=0.2, loss=4.0)
    assert loaded.counts() == states.counts() and loaded.q_ema.tolist() == states.q_ema.tolist()


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_a_record_with_other_fields_is_refused_and_nothing_is_loaded(tmp_path: Path, change: str) -> None:
    filled().save(tmp_path / "r")
    arrays = load_file(tmp_path / "r")
    arrays = (
        {n: a for n, a in arrays.items() if n != "q_ema"} if change == "missing" else {**arrays, "age": arrays["q_ema"]}
    )
    save_file(arrays, tmp_path / "r")
    states = SampleStates(5)
    with pytest.raises(CheckpointError, match="other fields"):
        states.load(tmp_path / "r")
    assert states.counts().unseen == 5


def test_the_rate_is_whole_at_the_peak_and_never_nothing() -> None:
    factors = [MountainCurriculum().phase_at(p).learning_rate_factor for p in (-0.1, 0.2, 0.5, 0.7, 0.9, 1.2)]
    assert factors == [0.5, 0.8, 1.0, 0.8, 0.3, 0.3]


def trainer_on(tmp_path: Path, count: int = 16, config: GEKOConfig | None = None, **options: Any) -> GEKOTrainer:
    data = [{"input_ids": torch.arange(5, 9 + i % 3), "source": "somewhere"} for i in range(count)]
    args = {"num_epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "save_steps": 0, "eval_steps": 0}
    args |= {"output_dir": str(tmp_path / "out"), **options.pop("args", {})}
    return GEKOTrainer(
        small_llama(), data, character_tokenizer(), config=config, args=GEKOTrainingArgs(**args), **options
    )


def test_a_dataset_keeps_its_order_and_its_own_columns_stay_outside() -> None:
    samples = as_samples([{"input_ids": [i, i + 1], "labels": [-100, i + 1], "source": "x"} for i in range(5, 9)])
    assert len(samples) == 4 and as_samples(samples) is samples
    assert {name: value.tolist() for name, value in samples[2].items()} == {"input_ids": [7, 8], "labels": [-100, 8]}
    with pytest.raises(TypeError, match="dict with 'input_ids', but it has a tuple"):
        as_samples([(torch.ones(2), torch.ones(2))])


def test_before_training_the_report_is_of_nothing_done(tmp_path: Path) -> None:
    trainer = trainer_on(tmp_path)
    report = trainer.get_efficiency_report()
    assert (report["steps"], report["compute_saved_ratio"], report["plain_training_tokens"]) == (0, 0.0, 0)
    assert report["final_buckets"]["unseen"] == report["samples"] == 16 and json.loads(json.dumps(report)) == report
    assert trainer.get_frozen_samples() == trainer.get_hard_samples() == [] and trainer.share_done == 0


def test_samples_can_be_asked_for_by_bucket(tmp_path: Path) -> None:
    trainer = trainer_on(tmp_path)
    visit(trainer.states, 2, 9)
    visit(trainer.states, 0, 11, correct=False)
    visit(trainer.states, 5, correct=False, confidence=0.1)
    assert (trainer.get_frozen_samples(), trainer.get_hard_samples()) == ([2, 9], [0, 11])


@pytest.mark.parametrize(("replay", "planned"), [(0.0, []), (1.0, [16])])
def test_a_run_whose_samples_are_all_frozen_trains_on_the_replayed_ones_or_ends(
    tmp_path: Path, replay: float, planned: list[int]
) -> None:
    trainer = trainer_on(tmp_path, config=GEKOConfig(frozen_replay=replay, min_known_share=0.0), args={"num_epochs": 1})
    visit(trainer.states, *range(16))
    report = trainer.train()
    assert [entry["planned"] for entry in report["buckets"]] == planned and report["end"] == "complete"
    assert ("nothing is left to train on" in report["reason"]) == (not planned)
    assert report["compute_saved_ratio"] == (0.0 if planned else 1.0) and trainer.share_done == 1
    again = trainer_on(tmp_path, config=trainer.config, args={"num_epochs": 1})
    again.load_checkpoint(tmp_path / "out" / f"checkpoint-{report['steps']}")
    assert again.train()["reason"] == report["reason"]  # still the true one when there is nothing to go on with


def test_a_loaded_checkpoint_brings_everything_back_before_any_training(tmp_path: Path) -> None:
    data = [{"input_ids": [5, 6, 7]}]
    trainer = trainer_on(tmp_path, eval_dataset=data)
    trainer.train()
    trainer.save_checkpoint(tmp_path / "c")
    loaded = trainer_on(tmp_path, eval_dataset=data)
    loaded.load_checkpoint(tmp_path / "c")
    assert loaded.progress == trainer.progress
    assert (loaded.progress.step, loaded.progress.epoch, len(loaded.get_efficiency_report()["buckets"])) == (12, 3, 3)
    for name, array in trainer.states.arrays.items():
        np.testing.assert_array_equal(loaded.states.arrays[name], array, err_msg=name)
    assert loaded.get_efficiency_report("complete") == trainer.get_efficiency_report()


def test_a_folder_without_a_checkpoint_is_refused_and_the_trainer_stays_as_it_was(tmp_path: Path) -> None:
    trainer = trainer_on(tmp_path)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        trainer.load_checkpoint(tmp_path)
    assert trainer.train()["steps"] == 12


@pytest.mark.parametrize(
    ("args", "kept"),
    [
        ({"save_at_end": False}, []),
        ({}, ["checkpoint-12"]),
        ({"save_steps": 5}, ["checkpoint-10", "checkpoint-12"]),
        ({"save_steps": 5, "save_at_end": False, "save_total_limit": 1}, ["checkpoint-10"]),
    ],
)
def test_checkpoints_are_written_when_asked_for_and_the_newest_are_kept(
    tmp_path: Path, args: dict[str, Any], kept: list[str]
) -> None:
    trainer_on(tmp_path, args=args).train()
    assert sorted(path.name for path in (tmp_path / "out").glob("*")) == kept


def test_evaluation_comes_before_at_each_epochs_end_and_every_so_many_steps(tmp_path: Path) -> None:
    trainer = trainer_on(tmp_path, eval_dataset=[{"input_ids": [5, 6, 7]}], args={"eval_steps": 5})
    trainer.train()
    assert [evaluation["step"] for evaluation in trainer.progress.evaluations] == [0, 4, 5, 8, 10, 12]
    without = trainer_on(tmp_path, eval_dataset=[])
    assert without.eval_samples is None
    with pytest.raises(RunError, match="no evaluation set"):
        without.evaluate()


@pytest.mark.parametrize(("every", "sorted_at"), [(1, [1, 2]), (2, [2])])
def test_samples_are_sorted_anew_every_so_many_epochs(tmp_path: Path, every: int, sorted_at: list[int]) -> None:
    """Thresholds that change in the middle of a run are heard at the next partition."""
    trainer = trainer_on(tmp_path, config=GEKOConfig(repartition_every=every, frozen_replay=1.0))
    visit(trainer.states, *range(16), confidence=0.7)

    def lower_the_bar(event: Any) -> None:
        if isinstance(event, StepCompleted) and event.step % 4 == 0:  # after the visits of an epoch
            visit(trainer.states, 0, confidence=0.7)
            trainer.policy.config = GEKOConfig(repartition_every=every, frozen_replay=1.0, freeze_confidence=0.6)

    trainer.listeners = [lower_the_bar]
    trainer.train()
    assert [entry["epoch"] for entry in trainer.get_efficiency_report()["buckets"] if entry["freeze"]] == sorted_at


@pytest.mark.parametrize("shown", [True, False])
def test_the_console_names_every_bucket_where_asked_to(tmp_path: Path, shown: bool) -> None:
    stream = io.StringIO()
    trainer_on(tmp_path, on_event=Console(log_bucket_stats=shown, stream=stream), args={"num_epochs": 2}).train()
    (line, *more) = [line for line in stream.getvalue().splitlines() if "Partition before epoch" in line] or [""]
    assert all(f"{name}: " in line for name in ("FREEZE", "LIGHT", "FOCUS", "HARD")) == shown and not more
