"""The size of a step: a run of very few steps is named, with a size that would make it enough."""

from __future__ import annotations

import re
from typing import Any

import pytest

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.selection.epoch_plan import steps_per_epoch
from geko_engine.training.step_size import FEW_STEPS, few_steps


def said(samples: int, processes: int = 1, **changes: Any) -> str:
    return few_steps(GEKOTrainingArgs(**{"num_epochs": 3, "batch_size": 32, **changes}), samples, processes)


@pytest.mark.parametrize("samples", [34, 143, 500, 1000])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_size_that_is_named_gives_enough_steps(samples: int, accumulation: int) -> None:
    sentence = said(samples, gradient_accumulation_steps=accumulation)
    assert "training.batch_size x training.gradient_accumulation_steps" in sentence
    size = int(re.search(r" = (\d+) would give", sentence)[1])
    assert 3 * steps_per_epoch(samples, size) >= FEW_STEPS > 3 * steps_per_epoch(samples, 32 * accumulation)


def test_where_no_size_is_small_enough_more_epochs_are_named() -> None:
    assert said(20).endswith("and more epochs (training.num_epochs).")
    assert said(20).startswith("At most 3 optimizer steps of 32 samples each")
    assert said(9, num_epochs="auto", max_epochs=10).endswith("and more epochs (training.max_epochs).")


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_the_size_that_is_named_is_that_of_each_process(processes: int) -> None:
    sentence = said(1200, processes, batch_size=64)
    size = int(re.search(r" = (\d+) in each of \d processes would give", sentence)[1])
    assert size < 64 and 3 * steps_per_epoch(1200, size * processes) >= FEW_STEPS
    assert "smaller steps" in said(40, 8)


def test_enough_steps_and_a_number_that_was_chosen_are_not_mentioned() -> None:
    assert said(32 * FEW_STEPS // 3 + 32) == said(143, max_steps=5) == ""
    assert said(1200) == "" != said(1200, processes=2)
