"""Runs to offer after a run: when they are offered, and what exactly they change."""

from __future__ import annotations

import pytest

from geko_app.form.rerun_options import VARIANTS, changed, offered
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import LORA_LEARNING_RATE
from geko_engine.exceptions import RunError


def names(config: RunConfig, end: str, field: str = "") -> list[str]:
    return [variant["name"] for variant in offered(config, end, field)]


def test_a_complete_run_offers_its_control_once() -> None:
    config = RunConfig.demo()
    assert names(config, "complete") == ["control"]
    control = changed(config, "control")
    assert not control.geko.enabled and config.geko.enabled and control.training == config.training
    assert names(control, "complete") == []


def test_a_run_out_of_memory_offers_what_is_not_on_yet() -> None:
    config = RunConfig.from_dict({"training": {"batch_size": 6, "gradient_accumulation_steps": 2}})
    assert names(config, "failed", "training.batch_size") == ["half", "checkpointing", "lora"]
    assert names(config, "interrupted") == ["half", "checkpointing", "lora"]
    assert names(config, "failed", "data.train") == [] == names(config, "stopped")
    half = changed(config, "half").training
    assert (half.batch_size, half.gradient_accumulation_steps) == (3, 4)
    again = changed(changed(changed(config, "half"), "checkpointing"), "lora")
    assert names(again, "failed", "training.batch_size") == []


def test_a_variant_begins_anew_and_nothing_else_changes() -> None:
    config = RunConfig.from_dict({"training": {"resume_from_checkpoint": "x"}})
    for name in VARIANTS:
        copy = changed(config, name)
        assert copy.training.resume_from_checkpoint is None and copy.training.seed == config.training.seed
        assert copy.data == config.data and copy.model == config.model
    with pytest.raises(RunError, match="no way 'nothing'"):
        changed(config, "nothing")


def test_lora_brings_its_learning_rate_unless_another_one_was_chosen() -> None:
    assert changed(RunConfig(), "lora").training.learning_rate == LORA_LEARNING_RATE
    assert changed(RunConfig.demo(), "lora").training.learning_rate == RunConfig.demo().training.learning_rate
