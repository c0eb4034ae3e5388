"""max_steps: the run has so many optimizer steps, and schedule, report, time left and resume go by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from geko_engine import GEKOConfig
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import CheckpointError
from geko_engine.reporting.events import EpochEnded, RunStarted, StepCompleted
from tests.engine.training.test_trainer import OFF, assert_same_weights, sum_data, trainer_for, weights

PER_EPOCH = 6


@pytest.mark.parametrize("limit", [4, PER_EPOCH, 9, 20])
def test_a_run_has_exactly_so_many_steps_whatever_num_epochs_says(tmp_path: Path, limit: int) -> None:
    events: list[Any] = []
    trainer = trainer_for(tmp_path, config=OFF, args={"max_steps": limit, "num_epochs": 2}, on_event=events.append)
    report = trainer.train()
    steps = [event for event in events if isinstance(event, StepCompleted)]
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    epochs = -(-limit // PER_EPOCH)
    assert [step.step for step in steps] == list(range(1, limit + 1))
    assert {step.steps_planned for step in steps} == {limit} and steps[-1].progress == 1.0
    assert (started.epochs, started.max_steps) == (epochs, limit)
    assert len([event for event in events if isinstance(event, EpochEnded)]) == report["epochs_done"] == epochs
    assert (report["end"], report["steps"]) == ("complete", limit)
    assert report["reason"] == f"All {limit} steps are done."
    assert report["compute_saved_ratio"] == pytest.approx(0.0, abs=1e-6)  # nothing was left out


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_learning_rate_falls_over_these_steps_as_in_transformers(tmp_path: Path, schedule: str) -> None:
    rates: list[float] = []
    args = {"max_steps": 40, "lr_scheduler_type": schedule, "warmup_steps": 4, "learning_rate": 1e-3}
    trainer_for(
        tmp_path,
        config=OFF,
        args=args,
        on_event=lambda e: rates.append(e.learning_rate) if isinstance(e, StepCompleted) else None,
    ).train()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps=4, num_training_steps=40)
    expected = []
    for _ in range(40):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(expected, rel=1e-6)


def test_with_selection_a_run_has_as_many_steps_and_saves_by_smaller_ones(tmp_path: Path) -> None:
    config = GEKOConfig(freeze_confidence=0.3, min_q_for_freeze=0.5, min_known_share=0.0)
    trainer = trainer_for(tmp_path, config=config, args={"max_steps": 33, "learning_rate": 1e-2})
    report = trainer.train()
    assert report["steps"] == 33 or "mastered" in report["reason"]
    assert report["compute_saved_ratio"] > 0.05
    assert report["plain_training_tokens"] == pytest.approx(sum_data().lengths.sum() * 33 / PER_EPOCH, rel=0.05)


def test_stopped_and_resumed_it_ends_as_if_unbroken(tmp_path: Path) -> None:
    args = {"max_steps": 15}
    whole = trainer_for(tmp_path / "whole", args=args)
    expected = whole.train()
    asked = iter(range(10**9))
    stopped = trainer_for(tmp_path / "part", args=args, should_stop=lambda: next(asked) >= 10)
    assert stopped.train()["end"] == "stopped"
    (checkpoint,) = (tmp_path / "part" / "out").glob("checkpoint-*")
    resumed = trainer_for(tmp_path / "part", args=args)
    resumed.load_checkpoint(checkpoint)
    final = resumed.train()
    assert_same_weights(weights(whole), weights(resumed))
    same = ("steps", "epochs_done", "plain_training_tokens", "compute_saved_ratio", "train_loss", "reason")
    assert [final[key] for key in same] == [expected[key] for key in same]
    with pytest.raises(CheckpointError, match="max_steps is 20 here and 15 there"):
        trainer_for(tmp_path / "part", args={"max_steps": 20}).load_checkpoint(checkpoint)


@pytest.mark.parametrize("off", [None, -1, 0])
def test_without_it_the_epochs_decide(tmp_path: Path, off: int | None) -> None:
    trainer = trainer_for(tmp_path, config=OFF, args={"max_steps": off, "num_epochs": 2})
    assert trainer.train()["steps"] == 2 * PER_EPOCH and trainer.info.max_steps == 0


def test_a_number_of_epochs_beside_it_is_said_to_have_no_effect() -> None:
    config = RunConfig.from_dict({"training": {"max_steps": 10, "num_epochs": 7}})
    assert config.without_effect() == ["training.num_epochs has no effect, because training.max_steps is set."]
    assert RunConfig.from_dict({"training": {"max_steps": -1, "num_epochs": 7}}).without_effect() == []
