"""Settings: one declaration each, checked, readable from YAML, with messages that name the way out."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import yaml

from geko_engine.config import run_config as c
from geko_engine.config.declaration import convert, spec_of
from geko_engine.config.run_config import RunConfig
from geko_engine.config.selection import GEKOConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError


def problems_of(values: dict) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_dict(values)
    return dict(caught.value.problems)


def test_every_setting_is_declared_with_help() -> None:
    for section in c.SECTIONS.values():
        for field in dataclasses.fields(section):
            if field.name != "output_dir":
                assert spec_of(section, field.name).help.endswith(".")


def test_the_published_defaults_hold() -> None:
    args = GEKOTrainingArgs()
    assert (args.output_dir, args.num_epochs, args.batch_size, args.learning_rate) == ("./geko_output", 3, 32, 5e-5)
    assert (args.weight_decay, args.warmup_steps, args.logging_steps, args.save_steps) == (0.01, 100, 100, 1000)
    assert (args.eval_steps, args.max_grad_norm, args.gradient_accumulation_steps, args.seed) == (500, 1.0, 1, 42)
    assert args.save_at_end and args.dataloader_persistent_workers
    assert (args.dataloader_num_workers, args.dataloader_prefetch_factor) == (-1, 2)
    assert not any((args.bf16, args.fp16, args.gradient_checkpointing, args.compile_model, args.use_8bit_optimizer))
    geko = GEKOConfig()
    assert (geko.freeze_confidence, geko.freeze_quality, geko.focus_confidence) == (0.85, 0.80, 0.60)
    assert (geko.q_value_lr, geko.min_q_for_freeze, geko.q_value_loss_scale) == (0.1, 0.8, 10.0)
    assert (geko.repartition_every, geko.max_times_seen, geko.prune_frozen_after) == (1, 50, 0)


def test_presets_keep_the_published_numbers() -> None:
    numbers = {name: (p.freeze_confidence, p.bucket_weights) for name, p in c.PRESETS.items()}
    assert numbers["aggressive"] == (0.90, (5, 2, 0))
    assert numbers["balanced"] == (0.85, (3, 2, 1))
    assert numbers["conservative"] == (0.80, (2, 2, 1))
    assert GEKOConfig() == c.GEKO_RECOMMENDED
    assert (GEKOConfig.seed().bucket_weights, GEKOConfig.seed().use_curriculum) == ((3, 1, 0), True)


def test_yaml_round_trip() -> None:
    config = RunConfig.demo()
    assert RunConfig.from_dict(yaml.safe_load(config.to_yaml())) == config


def test_a_preset_is_the_base_that_other_keys_change() -> None:
    config = RunConfig.from_dict({"geko": {"preset": "aggressive", "frozen_replay": 0.5}})
    assert config.geko == dataclasses.replace(c.GEKO_AGGRESSIVE, frozen_replay=0.5)


def test_all_problems_come_at_once_with_the_field_of_each() -> None:
    found = problems_of(
        {
            "modl": {},
            "model": {"name": " "},
            "data": {"sample_count": -1},
            "training": {"num_epochs": 0, "learning_rate": "fast", "batch_siz": 3},
            "geko": {"preset": "wild"},
        }
    )
    assert "Did you mean 'model'?" in found["modl"]
    assert "Hub id" in found["model.name"]
    assert "-1 is out of range: give at least 1" in found["data.sample_count"]
    assert "0 is out of range: give at least 1" in found["training.num_epochs"]
    assert found["training.learning_rate"] == "'fast' is not a number."
    assert "Did you mean 'batch_size'?" in found["training.batch_siz"]
    assert "recommended" in found["geko.preset"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", float("nan")),
        ("learning_rate", 0),
        ("num_epochs", 1.5),
        ("num_epochs", None),
        ("batch_size", True),
        ("warmup_steps", -1),
        ("bf16", "perhaps"),
        ("seed", 2**32),
        ("save_steps", 1e308),
        ("dataloader_prefetch_factor", 2000),  # the loader would prepare them before the first step
    ],
)
def test_bad_training_values_are_refused(name: str, value: object) -> None:
    assert f"training.{name}" in problems_of({"training": {name: value}})


def test_whole_numbers_that_nothing_can_hold_are_refused_and_limits_have_all_digits() -> None:
    found = problems_of({"data": {"sample_count": 1e308}, "training": {"seed": 2**32}})
    assert found["data.sample_count"] == "1e+308 is too large: give at most 9,223,372,036,854,775,807."
    assert found["training.seed"] == "4,294,967,296 is out of range: give at least 0 and at most 4,294,967,295."


def test_values_are_read_as_people_and_yaml_write_them() -> None:
    config = RunConfig.from_dict(
        {
            "training": {"learning_rate": "5e-5", "bf16": "yes", "num_epochs": "2"},
            "geko": {"bucket_weights": "3, 1, 0"},
            "data": {"sample_count": ""},
        }
    )
    assert config.training.learning_rate == 5e-5 and config.training.bf16 and config.training.num_epochs == 2
    assert config.geko.bucket_weights == (3.0, 1.0, 0.0) and config.data.sample_count is None
    assert convert("3", int | None) == 3


def test_contradictions_are_named() -> None:
    assert "switch one of them off" in problems_of({"training": {"bf16": True, "fp16": True}})["training.fp16"]
    assert "raise one" in problems_of({"geko": {"bucket_weights": [0, 0, 0]}})["geko.bucket_weights"]
    assert "list of 3 numbers" in problems_of({"geko": {"bucket_weights": [1, 2]}})["geko.bucket_weights"]


def test_importing_the_settings_and_the_light_door_brings_no_torch() -> None:
    code = "import sys, geko_engine, geko_engine.config.run_config, geko_engine.data.sources, geko_engine.runs.folder; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


def test_unknown_names_of_the_package_are_plain_attribute_errors() -> None:
    import geko_engine

    with pytest.raises(AttributeError, match="GEKOTrainr"):
        _ = geko_engine.GEKOTrainr
    assert {"GEKOTrainer", "GEKOConfig", "GEKO_AGGRESSIVE"} <= set(dir(geko_engine))


def test_settings_without_effect_are_named() -> None:
    values = {"lora": {"r": 8, "use_dora": True}, "training": {"warmup_ratio": 0.1, "lr_scheduler_type": "constant"}}
    assert RunConfig.from_dict(values).without_effect() == [
        "lora.r has no effect, because lora.enabled is off.",
        "lora.use_dora has no effect, because lora.enabled is off.",
        "training.warmup_ratio has no effect, because the schedule constant has no warm-up.",
    ]
    # A length that is found has a warm-up in any case: what has no effect is the schedule.
    auto = {"training": values["training"] | {"num_epochs": "auto"}}
    assert RunConfig.from_dict(auto).without_effect() == [
        "training.lr_scheduler_type has no effect, because num_epochs is auto."
    ]
    values["lora"]["enabled"], values["training"]["lr_scheduler_type"] = True, "linear"
    assert RunConfig.from_dict(values).without_effect() == [] == RunConfig().without_effect()
