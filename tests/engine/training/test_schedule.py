"""The learning rate over a run: transformers' own schedules, as functions of progress."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import get_scheduler

from geko_engine.config import training_choices
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.training.optimizer import BUILDERS, STATE_SHARE
from geko_engine.training.schedule import DECAY, SCHEDULES, learning_rate_at, warmup_cut, warmup_share

STEPS, WARMUP = 120, 12


def of_transformers(name: str) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    more: dict[str, Any] = {}
    if name == "warmup_stable_decay":
        more = {"scheduler_specific_kwargs": {"num_decay_steps": round(STEPS * DECAY), "decay_type": "linear"}}
    schedule = get_scheduler(name, optimizer, num_warmup_steps=WARMUP, num_training_steps=STEPS, **more)
    rates = []
    for _ in range(STEPS):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_that_of_transformers(name: str) -> None:
    ours = [learning_rate_at(step / STEPS, 0.5, WARMUP / STEPS, schedule=name) for step in range(STEPS)]
    assert ours == pytest.approx(of_transformers(name), abs=1e-12)


def test_steps_of_warm_up_are_at_most_a_tenth_and_a_ratio_is_taken_as_it_is() -> None:
    assert warmup_share(5, 100) == 0.05 and warmup_share(100, 100) == 0.1
    assert warmup_share(5, 100, 0.3) == 0.3 and warmup_share(5, 100, 0.0) == 0.0


def test_a_warm_up_that_is_cut_is_said() -> None:
    said = warmup_cut(GEKOTrainingArgs(warmup_steps=100), 50)
    assert said.startswith("Warm-up takes 5 steps instead of warmup_steps = 100")
    assert warmup_cut(GEKOTrainingArgs(warmup_steps=5), 50) == ""
    assert warmup_cut(GEKOTrainingArgs(warmup_steps=100, warmup_ratio=0.2), 50) == ""
    assert warmup_cut(GEKOTrainingArgs(warmup_steps=100, lr_scheduler_type="constant"), 50) == ""


def test_the_settings_offer_what_there_is() -> None:
    assert set(training_choices.OPTIMIZERS) == BUILDERS.keys() == STATE_SHARE.keys()
    assert set(training_choices.SCHEDULES) == SCHEDULES.keys()
