"""What the model no longer gets better at is left out: when that is believed, what follows, and how it is taken back."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geko_engine import GEKOConfig, GEKOTrainer
from geko_engine.buckets import Bucket
from geko_engine.data import TokenizedData, tokenise
from geko_engine.events import EpochEnded
from geko_engine.lookalikes import FEWEST, FOLDS, falls
from geko_engine.planner import LEVEL_REPLAY, plan_pass, replay_shares
from geko_engine.plateau import FEWEST_OF_EACH, WORSE, Fall, heed_plateau, is_confirmed, is_wanted, measured_fall
from geko_engine.progress import Progress
from geko_engine.sample_states import SampleStates, Told
from geko_engine.shapes import Columns
from tests.engine.conftest import character_tokenizer, small_gpt2
from tests.engine.test_trainer import TokenHook, assert_same_weights, trainer_for, weights

COUNT = 400
LEARNT = np.arange(COUNT) % 2 == 0  # the kind that can be learnt; the other one is noise
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def text_data() -> TokenizedData:
    """Long answers of which none can be exactly right: a sentence that ends at random, and random letters."""
    rng = random.Random(0)
    rows = []
    for index in range(COUNT):
        noise = "".join(rng.choice(LETTERS) for _ in range(16))
        answer = f"the sun is up again {noise[:3]}" if LEARNT[index] else noise
        rows.append({"prompt": "tell me: " if LEARNT[index] else "letters: ", "completion": answer})
    return tokenise(rows, Columns("prompt", "completion"), character_tokenizer(), 64)


DATA = text_data()
FALLING = np.where(LEARNT, np.linspace(2.0, 1.0, COUNT), 3.0) + np.random.default_rng(0).normal(0, 0.05, COUNT)


# ------------------------------------------------------------ what is told
def test_the_kind_whose_loss_falls_is_told_from_the_one_whose_loss_does_not() -> None:
    found = falls(DATA, np.arange(COUNT), FALLING)
    assert found[LEARNT].min() > 0.5 and abs(found[~LEARNT]).max() < 0.3


def test_of_too_few_nothing_is_told() -> None:
    few = FOLDS * FEWEST - 1
    assert not falls(DATA, np.arange(few), FALLING[:few]).any()


def test_a_fall_is_measured_with_its_error() -> None:
    when = np.linspace(0, 1, 1000)
    noise = np.random.default_rng(1).normal(0, 0.3, 1000)
    found = measured_fall(2.0 - 0.5 * when + noise, when)
    assert abs(found.value - 0.5) < 3 * found.error
    assert found.error == pytest.approx(0.3 / np.sqrt(1000 / 12), rel=0.1)


@pytest.mark.parametrize(
    ("level", "others", "believed"),
    [
        (Fall(0.01, 0.01), Fall(0.12, 0.014), True),
        (Fall(-0.05, 0.01), Fall(0.12, 0.014), True),
        (Fall(0.01, 0.01), Fall(0.03, 0.02), False),  # the others may be level too
        (Fall(0.05, 0.01), Fall(0.12, 0.014), False),  # it may be half of theirs
        (Fall(-0.05, 0.01), Fall(-0.01, 0.014), False),  # nothing falls
    ],
)
def test_only_a_clear_difference_is_believed(level: Fall, others: Fall, believed: bool) -> None:
    assert is_confirmed(level, others) is believed


@pytest.mark.parametrize(
    ("config", "epoch", "wanted"),
    [
        (GEKOConfig(), 0, True),
        (GEKOConfig(), 2, False),  # no epoch follows
        (GEKOConfig(enabled=False), 0, False),
        (GEKOConfig(mastery="relative"), 0, False),
        (GEKOConfig(prediction_confidence=1), 0, False),
    ],
)
def test_it_is_looked_for_only_where_it_could_leave_something_out(config: GEKOConfig, epoch: int, wanted: bool) -> None:
    assert is_wanted(config, Progress(epoch=epoch), 3) is wanted


# ------------------------------------------------------------ what follows
def run_for(folder: Path, config: GEKOConfig | None = None, **options: Any) -> GEKOTrainer:
    return trainer_for(
        folder,
        small_gpt2(),
        config or GEKOConfig(),
        data=DATA,
        args={"num_epochs": 3, "learning_rate": 3e-3},
        **options,
    )


def met_with(folder: Path, loss: np.ndarray, **changes: Any) -> GEKOTrainer:
    """A trainer at the end of its first epoch, in which every sample was met with `loss`, in order."""
    trainer = run_for(folder)
    values = {
        "correct": np.zeros(COUNT, bool),
        "confidence": np.full(COUNT, 0.5),
        "p_min": np.full(COUNT, 0.1),
    } | changes
    for i in range(COUNT):
        ids = np.array([i])
        trainer.states.record(
            ids,
            loss[ids],
            values["confidence"][ids],
            values["correct"][ids],
            values["p_min"][ids],
            step=i + 1,
            config=trainer.config,
        )
    return trainer


def test_what_is_level_counts_as_mastered_and_the_rest_does_not(tmp_path: Path) -> None:
    trainer = met_with(tmp_path, FALLING)
    trainer.states.never_freeze[1] = True
    heed_plateau(trainer)
    frozen = trainer.states.bucket == Bucket.FREEZE
    assert not frozen[LEARNT].any() and not frozen[1] and frozen[~LEARNT].sum() == COUNT / 2 - 1
    found = trainer.progress.plateau
    assert found["epoch"] == 1 and found["others"] == pytest.approx(1.0, abs=0.1) and abs(found["level"]) < 0.1


def test_where_answers_are_exactly_right_those_tell_what_is_mastered(tmp_path: Path) -> None:
    trainer = met_with(tmp_path, FALLING, correct=np.arange(COUNT) % 10 == 0)
    heed_plateau(trainer)
    assert not trainer.progress.plateau and not trainer.states.predicted.any()


@pytest.mark.parametrize("fall", [0.0, 1.0], ids=["all level", "all falling"])
def test_where_all_fall_alike_nothing_is_left_out(tmp_path: Path, fall: float) -> None:
    noise = np.random.default_rng(3).normal(0, 0.3, COUNT)
    trainer = met_with(tmp_path, 3.0 - fall * np.linspace(0, 1, COUNT) + noise)
    heed_plateau(trainer)
    assert not trainer.progress.plateau and not trainer.states.predicted.any()


def test_suspects_are_not_told_to_be_level(tmp_path: Path) -> None:
    trainer = met_with(tmp_path, FALLING, confidence=np.full(COUNT, 0.9), p_min=np.full(COUNT, 0.001))
    trainer.states.arrays["surprising"][1:40] = 1
    heed_plateau(trainer)
    assert not (trainer.states.predicted[1:40] == Told.LEVEL).any() and trainer.states.predicted[41] == Told.LEVEL


def test_a_visit_leaves_it_frozen_and_a_share_is_replayed() -> None:
    states, config = SampleStates(2000), GEKOConfig()
    ids, half = np.arange(2000), np.full(2000, 0.5)
    states.record(ids, half, half, ids < 0, half, step=1, config=config)
    states.arrays["predicted"][:1000] = Told.LEVEL
    states.record(ids, half, half, ids < 0, half, step=2, config=config)
    assert ((states.bucket == Bucket.FREEZE) == (ids < 1000)).all()
    plan = plan_pass(states, np.full(2000, 10), config, epoch=1, seed=0, step_size=8)
    again = plan.order < 1000
    assert 200 < again.sum() < 300 and len(plan.order) == 1000 + again.sum() and plan.predicted == 0
    np.testing.assert_allclose(plan.loss_weights[again], LEVEL_REPLAY**-0.5, rtol=1e-6)
    assert (plan.loss_weights[~again] == 1).all()


@pytest.mark.parametrize(("replay", "expected"), [(0.0, 0.0), (0.15, LEVEL_REPLAY), (0.5, 0.5)])
def test_more_is_replayed_than_of_what_is_exactly_right(replay: float, expected: float) -> None:
    states = SampleStates(2)
    states.arrays["predicted"][0] = Told.LEVEL
    assert replay_shares(states, GEKOConfig(frozen_replay=replay)).tolist() == pytest.approx([expected, replay])


def test_when_the_replayed_ones_get_worse_all_come_up_again(tmp_path: Path) -> None:
    for rise, lifted in ((WORSE / 2, False), (2 * WORSE, True)):
        trainer = met_with(tmp_path, FALLING)
        heed_plateau(trainer)
        trainer.progress.epoch, trainer.progress.epoch_start_step = 1, COUNT
        again = np.flatnonzero(trainer.states.predicted == Told.LEVEL)[:FEWEST_OF_EACH]
        some = np.full(FEWEST_OF_EACH, 0.5)
        loss = trainer.states.first_loss[again] * (1 + rise)
        trainer.states.record(again, loss, some, some < 0, some, step=COUNT + 1, config=trainer.config)
        heed_plateau(trainer)
        assert ("lifted" in trainer.progress.plateau) is lifted
        assert (trainer.states.counts().freeze == 0) is lifted


# ------------------------------------------------------------ whole runs
def test_a_run_leaves_out_the_noise_says_so_and_counts_what_it_computed(tmp_path: Path) -> None:
    events: list[Any] = []
    trainer = run_for(tmp_path, on_event=events.append)
    hook = TokenHook(trainer.model)
    report = trainer.train()
    assert report["plateau"]["epoch"] == 2 and "lifted" not in report["plateau"]
    level = trainer.states.predicted == Told.LEVEL
    assert level[~LEARNT].mean() > 0.9 and level[LEARNT].mean() < 0.1
    assert hook.trained == report["tokens_forwarded"] == int((trainer.states.seen * DATA.lengths).sum())
    assert [entry["freeze"] for entry in report["buckets"]] == [0, 0, level.sum()]
    assert report["buckets"][-1]["planned"] < 300 and report["compute_saved_ratio"] > 0.05
    told = [event.criterion for event in events if isinstance(event, EpochEnded)]
    assert "nothing is skipped" in told[0] and "but for a random 25 %" in told[1]
    assert "like samples whose loss no longer falls (over epoch 2 it fell by" in told[1]
    assert not run_for(tmp_path / "b", GEKOConfig(prediction_confidence=1)).train()["plateau"]


@pytest.mark.parametrize("stop_at", [60, 130, 150])
def test_stopped_on_the_plateau_and_resumed_it_ends_as_if_unbroken(tmp_path: Path, stop_at: int) -> None:
    unbroken = run_for(tmp_path / "whole")
    expected = unbroken.train()
    asked = iter(range(10**9))
    stopped = run_for(tmp_path / "parts", should_stop=lambda: next(asked) >= stop_at)
    assert stopped.train()["end"] == "stopped"
    resumed = run_for(tmp_path / "parts")
    resumed.load_checkpoint(next((tmp_path / "parts" / "out").iterdir()))
    report = resumed.train()
    assert_same_weights(weights(unbroken), weights(resumed))
    assert report["plateau"] == expected["plateau"] and report["buckets"] == expected["buckets"]
    np.testing.assert_array_equal(unbroken.states.predicted, resumed.states.predicted)
