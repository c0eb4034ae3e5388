"""What training hardly changes is left out: when that is believed, what follows, and how it comes back."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geko_engine import GEKOConfig, GEKOTrainer
from geko_engine.data.batches import TokenizedData
from geko_engine.data.formats import PromptCompletion
from geko_engine.data.tokenization import tokenise
from geko_engine.exceptions import Stopped
from geko_engine.reporting.events import EpochEnded
from geko_engine.scoring.evaluation import combine, in_id_order, score_samples
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.epoch_plan import plan_epoch
from geko_engine.selection.geko_policy import GekoPolicy, InfoBatchPolicy, policy_for
from geko_engine.selection.policy import When
from geko_engine.selection.prompt_similarity import cross_predict, predict_values
from geko_engine.selection.sample_records import Prediction, SampleStates
from geko_engine.selection.stability import (
    FEWEST,
    FIRST_SCAN,
    PANEL_PART,
    Stability,
    choose_panel,
    find_stable,
    lowest_with_share,
    prediction_churn,
)
from geko_engine.selection.uniform_policy import UniformPolicy
from tests.engine.conftest import character_tokenizer, small_gpt2
from tests.engine.training.test_trainer import TokenHook, assert_same_weights, trainer_for, weights

COUNT = FEWEST * PANEL_PART
LEARNT = np.arange(COUNT) % 2 == 0  # the kind that can be learnt; the other one is noise
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@cache
def text_data(count: int = COUNT) -> TokenizedData:
    """Answers of which none can be exactly right: a sentence that ends at random, and random letters."""
    rng = random.Random(0)
    rows = []
    for index in range(count):
        noise = "".join(rng.choice(LETTERS) for _ in range(12))
        answer = f"the sun is up {noise[:3]}" if index % 2 == 0 else noise
        rows.append({"prompt": "tell me: " if index % 2 == 0 else "letters: ", "completion": answer})
    return tokenise(rows, PromptCompletion("prompt", "completion"), character_tokenizer(), 64)


def churn_of(panel: np.ndarray, learnt: float, noise: float) -> np.ndarray:
    """Churn of each member: by its kind, and by chance."""
    return np.where(LEARNT[panel], learnt, noise) * np.random.default_rng(0).uniform(0.5, 1.5, len(panel))


# ------------------------------------------------------------ what is told
def test_churn_is_the_mean_change_of_the_target_probabilities() -> None:
    before, now = np.array([0.5, 0.25, 1.0, 0.5]), np.array([0.75, 0.25, 0.5, 0.0])
    assert prediction_churn(before, now, np.array([3, 1])).tolist() == [0.25, 0.5]


def test_the_least_hold_their_share_and_nothing_more() -> None:
    assert lowest_with_share(np.array([4.0, 1.0, 2.0, -3.0]) / 100, 0.25).tolist() == [False, True, False, True]
    assert lowest_with_share(np.array([4.0, 1.0, 2.0, -3.0]) / 100, 0.5).tolist() == [False, True, True, True]
    assert not lowest_with_share(np.full(4, 0.01), 0.2).any()
    assert lowest_with_share(np.array([4.0, 1.0, 2.0, -3.0]) / 10, 0.5).tolist() == [
        False,
        False,
        False,
        True,
    ]  # too much for any


def test_look_alikes_carry_the_churn_over_to_all_samples() -> None:
    data = text_data()
    panel = choose_panel(data, 0)
    churn = churn_of(panel, 0.04, 0.01)
    told = predict_values(data, panel, churn, np.arange(COUNT))
    assert told[LEARNT].min() > 0.03 and told[~LEARNT].max() < 0.02
    by_others = cross_predict(data, panel, churn)
    assert by_others[LEARNT[panel]].min() > 0.03 and by_others[~LEARNT[panel]].max() < 0.02


def test_what_changes_least_is_settled_where_the_panel_confirms_it() -> None:
    panel = choose_panel(text_data(), 0)
    found = find_stable(text_data(), panel, churn_of(panel, 0.028, 0.01), 0.25)
    assert not found.mask[LEARNT].any() and found.mask[~LEARNT].mean() > 0.9
    assert 0.008 < found.churn < 0.012 and 0.024 < found.others < 0.032


@pytest.mark.parametrize(("learnt", "noise"), [(0.02, 0.02), (0.02, 0.016), (0.0, 0.0)])
def test_where_all_kinds_change_about_alike_nothing_is_settled(learnt: float, noise: float) -> None:
    panel = choose_panel(text_data(), 0)
    assert not find_stable(text_data(), panel, churn_of(panel, learnt, noise), 0.25).mask.any()


def test_the_panel_is_a_sixteenth_of_the_samples_that_have_targets() -> None:
    panel = choose_panel(text_data(), 0)
    assert len(panel) == len(set(panel.tolist())) == FEWEST and (np.diff(panel) > 0).all()
    assert panel.tolist() == choose_panel(text_data(), 0).tolist() != choose_panel(text_data(), 1).tolist()
    assert not len(choose_panel(text_data(COUNT - 1), 0))


@pytest.mark.parametrize(
    ("config", "policy", "enabled"),
    [
        (GEKOConfig(), GekoPolicy, True),
        (GEKOConfig(stable_share=0), GekoPolicy, False),
        (GEKOConfig(enabled=False), UniformPolicy, None),
        (GEKOConfig(mastery="below_mean_loss"), InfoBatchPolicy, None),
    ],
)
def test_a_panel_is_scanned_only_where_it_may_leave_something_out(
    config: GEKOConfig, policy: type, enabled: bool | None
) -> None:
    found = policy_for(config, text_data(), epochs=3, seed=0, step_size=16)
    assert type(found) is policy
    assert (found.stability.is_enabled if isinstance(found, GekoPolicy) else None) is enabled


# ------------------------------------------------------------ the looks
def run_for(folder: Path, config: GEKOConfig | None = None, **options: Any) -> GEKOTrainer:
    args = {"num_epochs": 3, "learning_rate": 1e-3, "batch_size": 16} | options.pop("args", {})
    return trainer_for(
        folder, small_gpt2(), config or GEKOConfig(min_known_share=0.0), data=text_data(), args=args, **options
    )


def rule(trainer: GEKOTrainer) -> Stability:
    assert isinstance(trainer.policy, GekoPolicy)
    return trainer.policy.stability


def first_scan(trainer: GEKOTrainer) -> None:
    trainer._scan_if_asked(When.STEP)


def a_quarter_through(folder: Path, right: float = 0.0, **options: Any) -> GEKOTrainer:
    """A trainer that has met a quarter of the samples in its first epoch, and of these a share right."""
    trainer = run_for(folder, **options)
    trainer._begin_epoch()
    plan = trainer.policy.plan
    assert plan is not None
    steps = round(FIRST_SCAN * plan.steps)
    ids = np.concatenate([plan.ids(step) for step in range(steps)])
    half = np.full(len(ids), 0.5)
    correct = np.arange(len(ids)) < round(right * len(ids))
    trainer.states.record(ids, half, half, correct, half, step=1, config=trainer.config)
    trainer.progress.step_in_plan = steps
    return trainer


def test_the_first_scan_is_at_a_quarter_and_not_before(tmp_path: Path) -> None:
    trainer = a_quarter_through(tmp_path)
    trainer.progress.step_in_plan -= 1
    first_scan(trainer)
    assert not len(rule(trainer).panel) and not rule(trainer).asked
    trainer.progress.step_in_plan += 1
    first_scan(trainer)
    assert len(rule(trainer).panel) == text_data().targets[choose_panel(text_data(), trainer.args.seed)].sum()
    assert rule(trainer).asked and trainer.progress.counter.forwarded > 0
    assert trainer.progress.counter.backwarded == 0


def test_the_panel_is_seen_sample_by_sample(tmp_path: Path) -> None:
    trainer = a_quarter_through(tmp_path)
    first_scan(trainer)
    panel = choose_panel(text_data(), trainer.args.seed)
    found = trainer.engine.score_samples(text_data(), panel, lambda: False, lambda done, total: None)
    starts = np.cumsum(text_data().targets[panel]) - text_data().targets[panel]
    smallest = np.minimum.reduceat(rule(trainer).panel, starts)
    np.testing.assert_allclose(smallest[np.searchsorted(panel, found.ids)], found.min_target_probability, rtol=1e-5)


def test_several_processes_see_the_same_panel(tmp_path: Path) -> None:
    trainer = run_for(tmp_path)
    panel, machine = choose_panel(text_data(), trainer.args.seed), trainer.engine
    shares = [
        score_samples(
            machine.scored,
            text_data(),
            panel,
            machine.collate,
            batch_size=16,
            device=machine.device,
            should_stop=lambda: False,
            rank=rank,
            processes=processes,
            with_tokens=True,
        )
        for rank, processes in ((0, 1), (0, 2), (1, 2))
    ]
    assert min(len(share.ids) for share in shares) > 0
    one, two = in_id_order(shares[0]), in_id_order(combine(shares[1:]))
    np.testing.assert_array_equal(one.probability, two.probability)
    assert one.ids.tolist() == two.ids.tolist() == panel.tolist()


@pytest.mark.parametrize(("right", "looked"), [(0.04, True), (0.10, False)])
def test_where_answers_are_exactly_right_those_tell_what_is_mastered(
    tmp_path: Path, right: float, looked: bool
) -> None:
    trainer = a_quarter_through(tmp_path, right)
    first_scan(trainer)
    assert bool(len(rule(trainer).panel)) is looked and rule(trainer).asked


@pytest.mark.parametrize("options", [{"config": GEKOConfig(stable_share=0)}, {"args": {"num_epochs": 1}}])
def test_where_nothing_could_follow_no_token_is_spent(tmp_path: Path, options: dict[str, Any]) -> None:
    trainer = a_quarter_through(tmp_path, **options)
    first_scan(trainer)
    assert not len(rule(trainer).panel) and not trainer.progress.counter.forwarded


def test_a_stop_in_the_middle_of_a_look_leaves_it_due(tmp_path: Path) -> None:
    trainer = a_quarter_through(tmp_path, should_stop=lambda: True)
    with pytest.raises(Stopped):
        first_scan(trainer)
    assert not rule(trainer).asked and not len(rule(trainer).panel) and not trainer.progress.counter.forwarded


def test_once_answers_are_exactly_right_the_panel_is_given_up(tmp_path: Path) -> None:
    trainer = looked_at(tmp_path, 0.028, 0.01)
    assert trainer.states.counts().freeze
    some, half = np.arange(0, COUNT, 10), np.full(COUNT // 10, 0.5)
    trainer.states.record(some, half, half / 2, some >= 0, half, step=2, config=trainer.config)
    assert rule(trainer).next_scan(0, since=0, step=2) is None and not len(rule(trainer).panel)
    assert not trainer.states.counts().freeze and not rule(trainer).results


def test_after_the_last_epoch_no_look_is_taken(tmp_path: Path) -> None:
    trainer = a_quarter_through(tmp_path)
    first_scan(trainer)
    assert rule(trainer).next_scan(2, since=0, step=1) is None
    assert rule(trainer).next_scan(1, since=0, step=1) is not None


# ------------------------------------------------------------ what follows
def looked_at(folder: Path, learnt: float, noise: float) -> GEKOTrainer:
    """A trainer whose samples were all met, and whose panel has changed so much since the first look."""
    trainer = run_for(folder)
    ids, half = np.arange(COUNT), np.full(COUNT, 0.5)
    trainer.states.record(ids, half, half, ids < 0, half, step=1, config=trainer.config)
    panel = choose_panel(text_data(), trainer.args.seed)
    rule(trainer).scanned(np.zeros(text_data().targets[panel].sum(), np.float32))
    change(trainer, learnt, noise)
    return trainer


def change(trainer: GEKOTrainer, learnt: float, noise: float) -> None:
    panel = choose_panel(text_data(), trainer.args.seed)
    moved = np.repeat(churn_of(panel, learnt, noise), text_data().targets[panel])
    rule(trainer).scanned((rule(trainer).panel + moved).astype(np.float32))
    rule(trainer).end_epoch(0)


def test_what_is_settled_is_frozen_but_for_what_is_marked_or_looks_wrong(tmp_path: Path) -> None:
    trainer = looked_at(tmp_path, 0.0, 0.0)
    states = trainer.states
    states.never_freeze[1] = True
    wrong, one = np.array([3]), np.array([0.9])
    for step in (2, 3):  # HARD twice in a row
        states.record(wrong, one, one, one < 0, one / 1000, step=step, config=trainer.config)
    change(trainer, 0.028, 0.01)
    frozen = states.bucket == Bucket.FREEZE
    assert not frozen[LEARNT].any() and not frozen[[1, 3]].any() and frozen[[5, 7]].all()
    last = rule(trainer).results[-1]
    assert last["epoch"] == 1 and last["stable"] == frozen.sum() > 0.4 * COUNT
    assert last["stable_churn"] < last["others_churn"] / 2


def test_what_was_told_to_be_known_and_never_met_stays_so(tmp_path: Path) -> None:
    trainer = looked_at(tmp_path, 0.0, 0.0)
    states = trainer.states
    states.arrays["seen"][5], states.arrays["predicted_status"][5] = 0, Prediction.KNOWN
    states.partition(trainer.config)
    assert states.bucket[5] == Bucket.UNSEEN
    change(trainer, 0.028, 0.01)
    assert states.predicted_status[5] == Prediction.KNOWN and states.predicted_status[7] == Prediction.STABLE
    assert rule(trainer).results[-1]["stable"] == states.counts().freeze


def test_what_changes_again_comes_back(tmp_path: Path) -> None:
    trainer = looked_at(tmp_path, 0.028, 0.01)
    assert (trainer.states.bucket[~LEARNT] == Bucket.FREEZE).mean() > 0.9
    change(trainer, 0.01, 0.028)
    assert not (trainer.states.bucket[~LEARNT] == Bucket.FREEZE).any()
    assert (trainer.states.bucket[LEARNT] == Bucket.FREEZE).mean() > 0.9
    change(trainer, 0.02, 0.02)
    assert trainer.states.counts().freeze == 0 and rule(trainer).results[-1]["stable"] == 0


def test_a_visit_leaves_it_frozen_and_a_share_is_replayed_at_its_own_weight() -> None:
    states, config = SampleStates(2000), GEKOConfig()
    ids, half = np.arange(2000), np.full(2000, 0.5)
    states.record(ids, half, half, ids < 0, half, step=1, config=config)
    states.arrays["predicted_status"][:1000] = Prediction.STABLE
    states.record(ids, half, half, ids < 0, half, step=2, config=config)
    assert ((states.bucket == Bucket.FREEZE) == (ids < 1000)).all()
    plan = plan_epoch(states, np.full(2000, 10), config, epoch=1, seed=0, step_size=8)
    again = plan.order < 1000
    assert 110 < again.sum() < 190 and len(plan.order) == 1000 + again.sum()
    assert (plan.loss_weights == 1).all()


# ------------------------------------------------------------ whole runs
def test_a_run_leaves_out_what_is_settled_says_so_and_counts_what_it_computed(tmp_path: Path) -> None:
    events: list[Any] = []
    trainer = run_for(tmp_path, on_event=events.append)
    hook = TokenHook(trainer.model)
    report = trainer.train()
    assert [look["epoch"] for look in report["churn"]] == [1, 2]
    first = report["churn"][0]
    assert 0.3 * COUNT < first["stable"] < 0.6 * COUNT
    assert [entry["freeze"] for entry in report["buckets"]] == [0, *(look["stable"] for look in report["churn"])]
    looks = 3 * int(text_data().lengths[choose_panel(text_data(), trainer.args.seed)].sum())
    assert hook.trained == int((trainer.states.seen * text_data().lengths).sum())
    assert report["tokens_forwarded"] == hook.trained + looks
    assert report["compute_saved_ratio"] > 0.1
    told = [event.criterion for event in events if isinstance(event, EpochEnded)]
    assert f"{first['stable']:,} of {COUNT:,} samples" in told[0] and "target probabilities moved least" in told[0]
    assert "churn" in report and not run_for(tmp_path / "b", GEKOConfig(stable_share=0)).train()["churn"]


LOOKS = (28, 29), (106, 107)  # how often a stop was asked for before each of their batches


@pytest.mark.parametrize("stop_at", [20, *LOOKS[0], 40, *LOOKS[1], 150])
def test_stopped_before_in_or_after_a_look_and_resumed_it_ends_as_if_unbroken(tmp_path: Path, stop_at: int) -> None:
    unbroken = run_for(tmp_path / "whole", args={"num_epochs": 2})
    expected = unbroken.train()
    asked = iter(range(10**9))
    stopped = run_for(tmp_path / "parts", args={"num_epochs": 2}, should_stop=lambda: next(asked) >= stop_at)
    assert stopped.train()["end"] == "stopped"
    resumed = run_for(tmp_path / "parts", args={"num_epochs": 2})
    resumed.load_checkpoint(next((tmp_path / "parts" / "out").iterdir()))
    assert bool(len(rule(resumed).panel)) is (stop_at > LOOKS[0][1])
    assert bool(rule(resumed).results) is (stop_at > LOOKS[1][1])
    report = resumed.train()
    assert_same_weights(weights(unbroken), weights(resumed))
    assert expected["churn"][0]["stable"] > 0
    for name in ("churn", "buckets", "tokens_forwarded"):
        assert report[name] == expected[name]
    np.testing.assert_array_equal(unbroken.states.predicted_status, resumed.states.predicted_status)
