"""Look-alikes: what they tell, what they do not, and that a revised pass is counted and resumed like any other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geko_engine import GEKOConfig, GEKOTrainer
from geko_engine.data.formats import PromptCompletion
from geko_engine.data.tokenization import tokenise
from geko_engine.reporting.events import EpochEnded, Message
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.epoch_plan import Plan, plan_epoch, steps_per_epoch
from geko_engine.selection.geko_policy import GekoPolicy
from geko_engine.selection.known_prediction import SHARES, KnownPrediction, part_of, revise
from geko_engine.selection.prompt_similarity import FEWEST, FOLDS, loss_z_scores, probabilities
from geko_engine.selection.sample_records import NAMES_OF_VERSION_1, SampleStates
from geko_engine.storage.array_files import save_arrays
from tests.engine.conftest import character_tokenizer, small_gpt2, sum_rows
from tests.engine.training.test_trainer import TokenHook, assert_same_weights, sum_data, trainer_for, weights

EASY = np.arange(600) % 2 == 0  # every second row of sum_data asks for "yes"
CONFIG = GEKOConfig(min_known_share=0.0, freeze_confidence=0.3, min_q_for_freeze=0.5)


def told(right: np.ndarray, count: int = 200) -> np.ndarray:
    ids = np.arange(600)
    return probabilities(sum_data(600), ids[:count], right[:count], ids[count:])


# ------------------------------------------------------------ what they tell
def test_the_kind_that_is_answered_right_is_told_from_the_one_that_is_not() -> None:
    found = told(EASY)
    assert found[EASY[200:]].min() > 0.9 and found[~EASY[200:]].max() < 0.2


def test_where_right_and_wrong_look_alike_nobody_is_told_to_be_known() -> None:
    coin = np.random.default_rng(0).random(600) < 0.5
    assert (told(coin) > 0.85).mean() < 0.02


def test_too_few_tell_nothing_and_nobody_asked_is_no_error() -> None:
    assert not told(EASY, FEWEST - 1).any() and told(EASY, FEWEST)[0] > 0.5
    assert told(EASY, 600).shape == (0,)


def test_very_long_and_very_short_samples_can_be_predict() -> None:
    texts = [np.arange(length) % 50 for length in [1, 2, 5000] * 30]
    samples = [{"input_ids": text, "labels": text} for text in texts]
    ids = np.arange(90)
    right = ids % 3 == 2
    found = probabilities(samples, ids[:60], right[:60], ids[60:])
    assert ((found > 0.5) == right[60:]).all()


LOSS = np.where(EASY, 0.1, 2.0) + np.random.default_rng(1).normal(0, 0.05, 600)


def test_a_loss_stands_out_only_against_those_of_its_look_alikes() -> None:
    loss = LOSS.copy()
    loss[[10, 20]] = 2.0  # of the easy kind: as high as any of the other kind, and yet surprising
    found = loss_z_scores(sum_data(600), np.arange(600), loss, np.array([10, 11, 12, 13, 20]))
    assert found[[0, 4]].min() > 10 and found[[1, 2, 3]].max() < 5
    assert loss_z_scores(sum_data(600), np.arange(600), loss, np.arange(0)).shape == (0,)


def test_where_losses_are_all_alike_or_too_few_none_stands_out() -> None:
    few = FOLDS * FEWEST - 1
    assert not loss_z_scores(sum_data(600), np.arange(few), LOSS[:few], np.arange(10)).any()
    noise = np.random.default_rng(2).exponential(1.0, 600)  # of no kind
    assert (loss_z_scores(sum_data(600), np.arange(600), noise, np.arange(600)) > 5).mean() < 0.03


# ------------------------------------------------------------ the plan of what is left
def first_plan(count: int, step_size: int) -> tuple[Plan, np.ndarray]:
    lengths = np.random.default_rng(count).integers(3, 40, count)
    return plan_epoch(SampleStates(count), lengths, CONFIG, epoch=0, seed=1, step_size=step_size), lengths


@given(st.integers(20, 400), st.integers(1, 20), st.floats(0, 1), st.sampled_from([0, 0.1, 0.5, 1]), st.data())
def test_only_predicted_samples_of_the_part_are_left_out(
    count: int, step_size: int, known: float, replay: float, data: st.DataObject
) -> None:
    plan, lengths = first_plan(count, step_size)
    done = data.draw(st.integers(1, plan.steps))
    predicted = np.random.default_rng(2).random(count) < known
    config = GEKOConfig(frozen_replay=replay)
    rng = np.random.default_rng(3)
    found = revise(plan, done, 0.75, predicted, lengths, rng, config=config, step_size=step_size)
    before = [i for step in range(done, plan.steps) for i in plan.ids(step)]
    part = set(part_of(plan, done, 0.75).tolist())
    now = [int(i) for step in range(found.steps) for i in found.ids(step)]
    gone = set(before) - set(now)
    assert len(now) == len(set(now)) and set(now) <= set(before)
    assert gone <= part & set(np.flatnonzero(predicted).tolist())
    again = part & set(now) & set(np.flatnonzero(predicted).tolist())
    weight = dict(zip(found.order.tolist(), found.loss_weights.tolist(), strict=True))
    heavy = {i for i in now if weight[i] > 1}
    assert heavy <= again and (heavy == again or replay == 1)
    assert found.share == pytest.approx(plan.share * (1 - done / plan.steps))
    if len(gone) < len(part):
        assert found.plain_tokens_per_step.sum() == pytest.approx(plan.plain_tokens_per_step[done:].sum())


def test_the_number_of_steps_stays_and_the_batches_shrink() -> None:
    plan, lengths = first_plan(1600, 16)
    predicted = np.arange(1600) % 2 == 0
    options: Any = {"config": GEKOConfig(frozen_replay=0.0), "step_size": 16}
    found = revise(plan, 25, 0.5, predicted, lengths, np.random.default_rng(0), **options)
    assert plan.steps == 100 and found.steps == 75
    assert max(found.sizes[:25]) in (8, 9, 10, 11) and set(found.sizes[-50:].tolist()) == {16}
    padded = sum(len(found.ids(i)) * lengths[found.ids(i)].max() for i in range(25))
    assert padded < 1.2 * sum(lengths[found.ids(i)].sum() for i in range(25))  # still grouped by length


def test_the_tokens_of_plain_training_are_shared_out_to_the_steps() -> None:
    plan, lengths = first_plan(100, 8)
    assert plan.plain_tokens_per_step.sum() == pytest.approx(lengths.sum())
    assert plan.plain_tokens_per_step == pytest.approx([lengths[plan.ids(step)].sum() for step in range(plan.steps)])


@pytest.mark.parametrize(
    ("config", "epoch", "values", "due"),
    [
        (GEKOConfig(), 0, {}, True),
        (GEKOConfig(prediction_confidence=1), 0, {}, False),
        (GEKOConfig(initial_scan=True), 0, {}, False),
        (GEKOConfig(), 1, {}, False),
        (GEKOConfig(), 0, {"revision": len(SHARES) - 1}, False),
        (GEKOConfig(), 0, {"met": 40, "right": 32}, True),
        (GEKOConfig(), 0, {"met": 40, "right": 31}, False),
        (GEKOConfig(), 0, {"met": 29, "right": 0}, True),
    ],
)
def test_an_epoch_is_revised_only_where_its_predictions_can_be_trusted(
    config: GEKOConfig, epoch: int, values: dict[str, int], due: bool
) -> None:
    plan, _ = first_plan(160, 8)
    rule = KnownPrediction(config, sum_data(160), SampleStates(160), seed=1, step_size=8)
    rule.load_state_dict(values)
    assert rule.is_due(plan, 10, epoch) is due


# ------------------------------------------------------------ whole runs
def run_for(folder: Path, config: GEKOConfig = CONFIG, **options: Any) -> GEKOTrainer:
    return trainer_for(folder, small_gpt2(dropout=0.1), config, data=sum_data(600), **options)


def test_a_run_leaves_out_what_look_alikes_tell_and_counts_what_it_computed(tmp_path: Path) -> None:
    events: list[Any] = []
    trainer = run_for(tmp_path, on_event=events.append, args={"num_epochs": 2, "learning_rate": 1e-2})
    hook, lengths = TokenHook(trainer.model), sum_data(600).lengths
    report = trainer.train()
    plain = run_for(tmp_path / "b", GEKOConfig(freeze_confidence=0.3, min_q_for_freeze=0.5, prediction_confidence=1))
    assert hook.trained == report["tokens_forwarded"] == report["tokens_backwarded"]
    assert hook.trained == int((trainer.states.seen * lengths).sum())
    first, _ = report["predicted"]
    assert first["left_out"] == 600 - int(
        trainer.history.arrays["loss"][0].size - np.isnan(trainer.history.arrays["loss"][0]).sum()
    )
    assert first["left_out"] > 100 and first["right"] > 0.8 * first["met"] > 0
    told_ids = np.flatnonzero(trainer.states.predicted_status)
    assert EASY[told_ids].mean() > 0.95  # the kind that is learnt in no time
    ended = [e for e in events if isinstance(e, EpochEnded)]
    assert [e.predicted_left_out for e in ended] == [entry["left_out"] for entry in report["predicted"]]
    assert any("similar prompts are answered correctly" in e.text for e in events if isinstance(e, Message))
    assert plain.train()["predicted"] == [{"left_out": 0, "met": 0, "right": 0}] * 3


def test_steps_and_learning_rate_go_on_evenly_over_a_revision(tmp_path: Path) -> None:
    seen: list[Any] = []
    trainer = run_for(tmp_path, args={"num_epochs": 2, "learning_rate": 1e-2})
    trainer.listeners = [lambda e: seen.append(e) if type(e).__name__ == "StepCompleted" else None]
    report = trainer.train()
    shares = np.array([event.progress for event in seen])
    assert (np.diff(shares) > 0).all() and shares[-1] == 1.0 and np.diff(shares).max() < 2 * np.diff(shares).mean()
    assert abs(report["steps"] - 2 * steps_per_epoch(600, 8)) <= 10
    assert (np.diff([event.plain_training_tokens for event in seen]) >= 0).all()
    assert seen[-1].steps_planned == report["steps"]


@pytest.mark.parametrize("stop_at", [3, 6, 12, 30, 60, 80, 95, 130])
def test_stopped_anywhere_and_resumed_it_ends_as_if_unbroken(tmp_path: Path, stop_at: int) -> None:
    args = {"num_epochs": 2, "learning_rate": 1e-2}
    unbroken = run_for(tmp_path / "whole", args=args)
    expected = unbroken.train()
    asked = iter(range(10**9))
    stopped = run_for(tmp_path / "parts", args=args, should_stop=lambda: next(asked) >= stop_at)
    assert stopped.train()["end"] == "stopped"
    resumed = run_for(tmp_path / "parts", args=args)
    resumed.load_checkpoint(next((tmp_path / "parts" / "out").iterdir()))
    report = resumed.train()
    assert_same_weights(weights(unbroken), weights(resumed))
    for name, array in unbroken.states.arrays.items():
        np.testing.assert_array_equal(array, resumed.states.arrays[name], err_msg=name)
    assert {k: v for k, v in report.items() if "seconds" not in k} == {
        k: v for k, v in expected.items() if "seconds" not in k
    }


def test_what_is_marked_never_to_freeze_is_not_left_out(tmp_path: Path) -> None:
    trainer = run_for(tmp_path, args={"num_epochs": 1, "learning_rate": 1e-2})
    trainer.states.never_freeze[::4] = True  # half of the easy ones
    trainer.train()
    assert (trainer.states.seen[::4] == 1).all() and (trainer.states.seen == 0).any()


def _keep_suspects(told: list[np.ndarray], trainer: GEKOTrainer, event: object) -> None:
    if isinstance(event, EpochEnded):
        told.append(trainer.states.suspects())


def test_a_wrong_answer_among_look_alikes_is_a_suspect_after_its_first_visit(tmp_path: Path) -> None:
    rows = sum_rows(600)
    wrong = np.arange(600) % 40 == 20  # of the kind that is learnt in no time
    for i in np.flatnonzero(wrong):
        rows[i]["completion"] = "99"
    data = tokenise(rows, PromptCompletion("prompt", "completion"), character_tokenizer(), 64)
    found: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for guard, told in found.items():
        config = GEKOConfig(prediction_confidence=1, noise_guard=guard)
        trainer = trainer_for(tmp_path / str(guard), small_gpt2(), config, data=data, args={"learning_rate": 1e-2})
        trainer.listeners = [partial(_keep_suspects, told, trainer)]
        trainer.train()
    first = found[True][0]
    assert first.sum() >= 5 and wrong[first].mean() > 0.8  # those met after the kind was learnt
    assert not found[False][0].any()  # without: only those that stay so


def test_predictions_that_fail_their_test_are_dropped(tmp_path: Path) -> None:
    trainer = run_for(tmp_path)
    trainer.states.arrays["predicted_status"][:100] = 1
    assert isinstance(trainer.policy, GekoPolicy)
    rule = trainer.policy.prediction
    rule.met, rule.right = 40, 32
    rule.end_epoch()
    assert trainer.states.predicted_status.sum() == 100
    rule.right = 31
    rule.end_epoch()
    assert not trainer.states.predicted_status.any()


def test_a_record_of_an_earlier_version_is_read_and_predicts_only_what_was_never_met(tmp_path: Path) -> None:
    states = SampleStates(4)
    states.predicted_status[:] = 1
    states.bucket[:2] = Bucket.FOCUS
    old = {present: name for name, present in NAMES_OF_VERSION_1.items()}
    arrays = {old.get(name, name): array for name, array in states.state_dict().items() if name != "loss_outlier"}
    save_arrays(arrays, tmp_path / "record.safetensors")
    found = SampleStates(4)
    found.load(tmp_path / "record.safetensors")
    assert found.predicted_status.tolist() == [0, 0, 1, 1] and not found.loss_outlier.any()


@pytest.mark.parametrize("guard", [True, False])
def test_a_wrong_answer_that_was_skipped_before_its_first_visit_is_found_by_the_final_scan(
    tmp_path: Path, guard: bool
) -> None:
    rows = sum_rows(600)
    wrong = np.arange(600) % 40 == 20  # of the kind that is learned in no time, and then skipped unseen
    for i in np.flatnonzero(wrong):
        rows[i]["completion"] = "99"
    data = tokenise(rows, PromptCompletion("prompt", "completion"), character_tokenizer(), 64)
    found: dict[bool, GEKOTrainer] = {}
    for scans in (False, True):
        config = GEKOConfig(final_scan=scans, min_known_share=0.0, noise_guard=guard)
        args = {"num_epochs": 2, "learning_rate": 3e-3}
        found[scans] = trainer_for(tmp_path / str(scans), small_gpt2(), config, data=data, args=args)
        found[scans].train()
    skipped = found[False].states.seen == 0
    assert (skipped & wrong).sum() >= 3 and not found[False].states.suspects()[skipped].any()
    suspects = found[True].states.suspects()
    assert suspects[skipped & wrong].mean() > 0.8 and wrong[suspects].mean() > 0.8
    assert (found[True].states.visits() > 0).all()
    assert_same_weights(weights(found[False]), weights(found[True]))  # forward only
    assert found[True].progress.counter.samples_scanned == 600
