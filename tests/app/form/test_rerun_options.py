"""Runs to offer after a run: when they are offered, and what exactly they change."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from geko_app.form import rerun_options
from geko_app.form.rerun_options import VARIANTS, Corrected, EndedRun, offered
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import LORA_LEARNING_RATE
from geko_engine.exceptions import RunError


def names(config: RunConfig, end: str, field: str = "") -> list[str]:
    return [variant["name"] for variant in offered(EndedRun(config, end, field))]


def changed(config: RunConfig, name: str, corrected: Corrected | None = None) -> RunConfig:
    return rerun_options.changed(EndedRun(config, corrected=corrected), name)


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
        if name in (*rerun_options.CORRECTED, *rerun_options.SUBSETS):
            continue
        copy = changed(config, name)
        assert copy.training.resume_from_checkpoint is None and copy.training.seed == config.training.seed
        assert copy.data == config.data and copy.model == config.model
    for name in rerun_options.CORRECTED:
        with pytest.raises(RunError, match="No row of this run is edited"):
            changed(config, name)
    for name in rerun_options.SUBSETS:
        with pytest.raises(RunError, match="No rows are chosen"):
            changed(config, name)
    with pytest.raises(RunError, match="no way 'nothing'"):
        changed(config, "nothing")


def test_lora_brings_its_learning_rate_unless_another_one_was_chosen() -> None:
    assert changed(RunConfig(), "lora").training.learning_rate == LORA_LEARNING_RATE
    assert changed(RunConfig.demo(), "lora").training.learning_rate == RunConfig.demo().training.learning_rate


CORRECTED = Corrected(run="/runs/a", model="/runs/a/model", log="/runs/a/corrections.jsonl", edited=4, deleted=1)


def test_corrections_offer_training_again_on_what_changed_or_anew() -> None:
    config = RunConfig.from_dict({"data": {"train": "x.jsonl", "eval_ratio": 0.1}, "training": {"num_epochs": "auto"}})
    run = EndedRun(config, "complete", corrected=CORRECTED)
    assert {"corrected", "corrected_anew"} <= {variant["name"] for variant in offered(run)}
    again = changed(config, "corrected", CORRECTED)
    assert (again.model.name, again.data.replay) == ("/runs/a/model", "/runs/a")
    assert again.data.corrections == "/runs/a/corrections.jsonl" and again.data.eval_ratio == 0.05
    assert (again.training.num_epochs, again.data.replay_share) == (2, 0.8)
    assert again.training.learning_rate == pytest.approx(config.training.learning_rate / 10)
    config.training.learning_rate = 7e-4
    assert changed(config, "corrected", CORRECTED).training.learning_rate == 7e-5  # not 7.000000000000001e-05
    anew = changed(config, "corrected_anew", CORRECTED)
    assert anew.data.corrections == "/runs/a/corrections.jsonl" and anew.data.replay is None
    assert (anew.model, anew.training) == (config.model, config.training)


@pytest.mark.parametrize("lacking", [{"edited": 0}, {"model": ""}])
def test_where_nothing_was_edited_or_no_model_is_there_only_anew_is_offered(lacking: dict[str, Any]) -> None:
    run = EndedRun(RunConfig(), "complete", corrected=dataclasses.replace(CORRECTED, **lacking))
    found = [variant["name"] for variant in offered(run)]
    assert "corrected_anew" in found and "corrected" not in found


def test_a_run_that_goes_on_from_another_one_is_not_run_anew() -> None:
    """Its own base model has learned the rows that were deleted since."""
    config = RunConfig.from_dict({"data": {"train": "x.jsonl", "replay": "/runs/first"}})
    found = [variant["name"] for variant in offered(EndedRun(config, "complete", corrected=CORRECTED))]
    assert "corrected" in found and "corrected_anew" not in found


def test_flagged_rows_are_left_out_with_the_deleted_ones() -> None:
    flags = dataclasses.replace(CORRECTED, flags="/runs/a/row_flags.json")
    for name in rerun_options.CORRECTED:
        data = changed(RunConfig(), name, flags).data
        assert (data.row_flags, data.flag_action) == ("/runs/a/row_flags.json", "exclude")


@pytest.mark.parametrize(
    ("name", "lacking", "said"),
    [
        ("corrected", {"edited": 0}, "only deleted or flagged"),
        ("corrected", {"model": ""}, "no model to go on from"),
        ("corrected_anew", {}, "went on from another run"),
    ],
)
def test_what_is_not_offered_is_refused_with_the_way_out(name: str, lacking: dict[str, Any], said: str) -> None:
    config = RunConfig.from_dict({"data": {"train": "x.jsonl", "replay": "/runs/first"}})
    with pytest.raises(RunError, match=f"{said}.*retrain"):
        changed(config, name, dataclasses.replace(CORRECTED, **lacking))


def test_a_part_of_the_rows_needs_a_complete_run() -> None:
    subset = rerun_options.Subset("/runs/a/core_set-1-00.json", 0.25)
    with pytest.raises(RunError, match="not complete yet"):
        rerun_options.changed(EndedRun(RunConfig(), "stopped", subset=subset), "core_set")
