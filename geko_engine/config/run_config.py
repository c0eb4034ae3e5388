"""Every setting of a run: RunConfig = model + data + lora + training + geko + output_dir.

Reads and writes YAML. Knows no models and no data, and imports no torch, so that the page imports it in milliseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from geko_engine.config import renames
from geko_engine.config.declaration import Problem, build, check, raise_problems, shown, unknown_key
from geko_engine.config.sections import ALL_LINEAR, DEMO, LOFTQ, PISSA, DataConfig, LoraSettings, ModelConfig
from geko_engine.config.selection import (
    GEKO_AGGRESSIVE,
    GEKO_BALANCED,
    GEKO_CONSERVATIVE,
    GEKO_RECOMMENDED,
    PRESETS,
    GEKOConfig,
)
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.config.training_choices import ALL_GPUS, AUTO, CONSTANT
from geko_engine.config.yaml_text import MAX_TEXT, parse_yaml
from geko_engine.exceptions import ConfigError
from geko_engine.launch import is_launched
from geko_engine.storage.user_paths import path_problem

__all__ = [
    "ALL_LINEAR",
    "DEMO",
    "GEKO_AGGRESSIVE",
    "GEKO_BALANCED",
    "GEKO_CONSERVATIVE",
    "GEKO_RECOMMENDED",
    "PRESETS",
    "QUANTIZED_NEEDS_LORA",
    "SECTIONS",
    "DataConfig",
    "GEKOConfig",
    "GEKOTrainingArgs",
    "LoraSettings",
    "ModelConfig",
    "RunConfig",
    "apply_overrides",
    "read_yaml",
]
QUANTIZED_NEEDS_LORA = (
    "Quantized weights cannot be trained directly: switch on LoRA (lora.enabled), or set quantization to none."
)
PISSA_NEEDS_WEIGHTS = (
    "pissa takes the largest part out of each weight, which quantized weights do not allow: choose default, or set "
    "quantization to none."
)
LOFTQ_NEEDS_4BIT = (
    "loftq makes up for what the rounding to 4 bits changed, so the base model must be loaded in 4 bits: set "
    "model.quantization to 4bit, or choose default."
)
FLOAT16_NEEDS_LORA = (
    "float16 weights cannot be trained directly, because small gradients vanish in them: choose auto or bfloat16, or switch "
    "on LoRA (lora.enabled)."
)
QUANTIZED_NOT_SHARDED = "Quantized weights cannot be shared out: set quantization to none, or training.fsdp to none."
SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "lora": LoraSettings,
    "training": GEKOTrainingArgs,
    "geko": GEKOConfig,
}


@dataclass
class RunConfig:
    """All settings of a run.

    Attributes:
        model, data, lora, training, geko: the sections; each setting is declared in its class.
        output_dir: folder in which the run's own folder is created.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    lora: LoraSettings = field(default_factory=LoraSettings)
    training: GEKOTrainingArgs = field(default_factory=GEKOTrainingArgs)
    geko: GEKOConfig = field(default_factory=GEKOConfig)
    output_dir: str = "runs"

    @classmethod
    def demo(cls) -> RunConfig:
        """The demo: a small model and small data, minutes on a laptop without a GPU or a network."""
        training = GEKOTrainingArgs(num_epochs=4, batch_size=16, learning_rate=7e-4, warmup_steps=20, eval_steps=0)
        return cls(data=DataConfig(eval=DEMO, max_length=128), training=training)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, on_renamed: renames.OnRenamed = renames.warn) -> RunConfig:
        """Build from plain nested values. With `geko.preset`, the other keys of `geko` change that preset.

        Args:
            values: section -> key -> value. Old names of settings are accepted.
            on_renamed: called once with a sentence that names the new keys, if `values` has old ones.

        Raises:
            ConfigError: with one problem for each unknown key and each invalid value.
        """
        problems: list[Problem] = []
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"A configuration must be a mapping of keys and values, but this is a {type(values).__name__}."
            )
        values, renamed = renames.upgrade(values, problems)
        for key in set(values) - set(SECTIONS) - {"output_dir"}:
            name = key if isinstance(key, str) else shown(key)
            problems.append((name, unknown_key(name, {*SECTIONS, "output_dir"})))
        sections = {name: _section(name, values.get(name), problems) for name in SECTIONS}
        output_dir = values.get("output_dir", "runs")
        if not isinstance(output_dir, str) or not output_dir.strip():
            problems.append(("output_dir", "No output folder is given: give the folder for runs."))
        if sections["model"].quantization != "none" and not sections["lora"].enabled:
            problems.append(("model.quantization", QUANTIZED_NEEDS_LORA))
        if sections["model"].quantization != "none" and sections["lora"].init_lora_weights in PISSA:
            problems.append(("lora.init_lora_weights", PISSA_NEEDS_WEIGHTS))
        begins_with_loftq = sections["lora"].enabled and sections["lora"].init_lora_weights == LOFTQ
        if begins_with_loftq and sections["model"].quantization != "4bit":
            problems.append(("lora.init_lora_weights", LOFTQ_NEEDS_4BIT))
        if sections["model"].dtype == "float16" and not sections["lora"].enabled:
            problems.append(("model.dtype", FLOAT16_NEEDS_LORA))
        if sections["model"].quantization != "none" and sections["training"].fsdp != "none":
            problems.append(("model.quantization", QUANTIZED_NOT_SHARDED))
        needs = sections["training"].needs_evaluation
        if needs and not (sections["training"].finds_length or sections["data"].eval or sections["data"].eval_ratio):
            problems.append(
                ("data.eval", f"{needs} needs evaluation data: give data.eval, or a share in data.eval_ratio.")
            )
        raise_problems(problems)
        if renamed:
            on_renamed(renamed)
        return cls(**sections, output_dir=output_dir)

    @classmethod
    def from_yaml(
        cls,
        path: str | Path,
        overrides: Mapping[str, Any] | None = None,
        *,
        on_renamed: renames.OnRenamed = renames.warn,
    ) -> RunConfig:
        """Read a YAML file.

        Args:
            path: of the file.
            overrides: dotted key ("training.num_epochs") -> value; these replace the values of the file.
            on_renamed: like in `from_dict`.

        Raises:
            ConfigError: if the file cannot be read, is not YAML, or has unknown keys or invalid values.
        """
        return cls.from_dict(apply_overrides(read_yaml(path), overrides or {}), on_renamed=on_renamed)

    def without_effect(self) -> list[str]:
        """A sentence for each setting that differs from its default and does nothing beside the others."""
        found = []
        if not self.lora.enabled:
            usual = LoraSettings()
            names = [
                f.name for f in dataclasses.fields(LoraSettings) if getattr(self.lora, f.name) != getattr(usual, f.name)
            ]
            found += [f"lora.{name} has no effect, because lora.enabled is off." for name in names]
        if self.training.warmup_ratio and self.training.schedule == CONSTANT:
            found.append("training.warmup_ratio has no effect, because the schedule constant has no warm-up.")
        if self.training.step_limit and self.training.num_epochs not in (GEKOTrainingArgs().num_epochs, AUTO):
            found.append("training.num_epochs has no effect, because training.max_steps is set.")
        if self.training.gpu_ids == ALL_GPUS and self.training.num_processes > 1:
            found.append("training.num_processes has no effect, because gpu_ids is all.")
        if not self.geko.enabled:
            scans = [name for name in ("initial_scan", "final_scan") if getattr(self.geko, name)]
            found += [f"geko.{name} has no effect, because geko.enabled is off." for name in scans]
        if not self.data.replay and self.data.replay_share != DataConfig().replay_share:
            found.append("data.replay_share has no effect without data.replay.")
        args = self.training
        alone = args.num_processes == 1 and len(args.gpus) < 2 and args.gpu_ids != ALL_GPUS and not is_launched()
        if args.auto_find_batch_size and not alone:
            found.append("training.auto_find_batch_size has no effect in a run of several processes.")
        return found + _without_effect_on_length(self.training)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, from which `from_dict` builds an equal RunConfig."""
        values = dataclasses.asdict(self)
        values["training"].pop("output_dir")
        values["geko"]["bucket_weights"] = list(self.geko.bucket_weights)
        return values

    def to_yaml(self) -> str:
        """The complete configuration as YAML text, in the order of declaration."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def _without_effect_on_length(args: GEKOTrainingArgs) -> list[str]:
    usual, found = GEKOTrainingArgs(), []
    if args.finds_length:
        names = ("lr_scheduler_type", "load_best_model_at_end", "early_stopping_patience")
        ignored = [name for name in names if getattr(args, name) != getattr(usual, name)]
        found = [f"training.{name} has no effect, because num_epochs is auto." for name in ignored]
    elif args.average_weights and args.lr_scheduler_type != usual.lr_scheduler_type:
        found.append("training.lr_scheduler_type has no effect, because average_weights is on.")
    if not args.finds_length and args.max_epochs != usual.max_epochs:
        found.append("training.max_epochs has no effect, because num_epochs is a number.")
    if args.cost_per_hour and not args.max_cost:
        found.append("training.cost_per_hour has no effect without training.max_cost.")
    return found


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError if it cannot be read or is not a mapping."""
    problem = path_problem(path)
    if problem:
        raise ConfigError(problem)
    try:
        with Path(path).open(encoding="utf-8") as file:
            values = parse_yaml(file.read(MAX_TEXT + 1))
    except OSError as error:
        raise ConfigError(f"The file {str(path)!r} cannot be read ({error.strerror}): check the path.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The file {str(path)!r} is not UTF-8 text: save it as UTF-8.") from error
    except ConfigError as error:
        raise ConfigError(f"The file {str(path)!r} cannot be used. {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"The file {str(path)!r} is not a mapping of keys: begin with 'model:', 'data:' or 'training:'."
        )
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested `values` with `overrides` applied.

    Args:
        values: section -> key -> value.
        overrides: dotted key -> value. An override also replaces a value under the setting's old or new name.
    """
    result = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    for dotted, value in overrides.items():
        section, _, key = dotted.partition(".")
        if not key:
            result[section] = value
        else:
            inner = result.get(section)
            inner = dict(inner) if isinstance(inner, dict) else {}
            for other in renames.same_setting(dotted):
                inner.pop(other.partition(".")[2], None)
            result[section] = {**inner, key: value}
    return result


def _section(name: str, values: Any, problems: list[Problem]) -> Any:
    """One section from plain values. Problems are collected; a section that cannot be built is the default one."""
    cls = SECTIONS[name]
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        problems.append((name, f"{shown(values)} is not a section: write '{name}:' and its settings below it."))
        return cls()
    values = dict(values)
    if name == "geko":
        values = _with_preset(values, problems)
    if name == "model" and _is_blank(values.get("name", DEMO)):
        problems.append(("model.name", "No model is given: give a Hub id, a local folder, or 'demo'."))
    if name == "data" and _is_blank(values.get("train", DEMO)):
        problems.append(("data.train", "No training data is given: give a Hub id, a local file, or 'demo'."))
    try:
        section = build(cls, values, f"{name}.", problems)
        problems.extend(p for p in check(section, f"{name}.") if p not in problems)
        return section
    except ConfigError as error:
        problems.extend((f"{name}.{key}", text) for key, text in error.problems)
        return cls()


def _with_preset(values: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    preset = values.pop("preset", None)
    if preset is None:
        return values
    known = PRESETS.get(preset.lower()) if isinstance(preset, str) else None
    if known is None:
        problems.append(("geko.preset", f"{shown(preset)} is not one of {', '.join(PRESETS)}."))
        return values
    return {**dataclasses.asdict(known), **values}


def _is_blank(value: Any) -> bool:
    return not value or (isinstance(value, str) and not value.strip())
