"""Every setting of a run: RunConfig = model + data + lora + training + geko + output_dir.

One declaration per setting (name, type, default, unit, range, help). Reads and writes YAML. Knows no model,
no data and no torch, so a page can import it in milliseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from geko_engine.config import renames
from geko_engine.config.declaration import Problem, build, check, raise_problems, unknown_key
from geko_engine.config.sections import ALL_LINEAR, DEMO, DataConfig, GEKOTrainingArgs, LoraSettings, ModelConfig
from geko_engine.config.selection import (
    GEKO_AGGRESSIVE,
    GEKO_BALANCED,
    GEKO_CONSERVATIVE,
    GEKO_RECOMMENDED,
    PRESETS,
    GEKOConfig,
)
from geko_engine.exceptions import ConfigError

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
    "Quantised weights cannot be trained themselves: switch LoRA on (lora.enabled), or set quantization to none."
)
SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "lora": LoraSettings,
    "training": GEKOTrainingArgs,
    "geko": GEKOConfig,
}


@dataclass
class RunConfig:
    """Everything that is needed to run a run again. `output_dir` is the folder that its run folder is made in."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    lora: LoraSettings = field(default_factory=LoraSettings)
    training: GEKOTrainingArgs = field(default_factory=GEKOTrainingArgs)
    geko: GEKOConfig = field(default_factory=GEKOConfig)
    output_dir: str = "runs"

    @classmethod
    def demo(cls) -> RunConfig:
        """The built-in run: a small model, small data, minutes on a laptop without a GPU or a network."""
        training = GEKOTrainingArgs(num_epochs=4, batch_size=16, learning_rate=7e-4, warmup_steps=20, eval_steps=0)
        return cls(data=DataConfig(eval=DEMO, max_length=128), training=training)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, on_renamed: renames.OnRenamed = renames.warn) -> RunConfig:
        """Build from plain nested values. `geko.preset` names the preset that the other keys change.

        Args:
            values: section -> key -> value; names of earlier versions are read too.
            on_renamed: called once, with a sentence that names the new keys, when old ones were read.

        Raises:
            ConfigError: with one problem for each unknown key and each value that breaks its rule.
        """
        problems: list[Problem] = []
        if not isinstance(values, Mapping):
            raise ConfigError(f"A run is described by keys and values, but this is {type(values).__name__}.")
        values, renamed = renames.upgrade(values, problems)
        for key in set(values) - set(SECTIONS) - {"output_dir"}:
            problems.append((str(key), unknown_key(str(key), {*SECTIONS, "output_dir"})))
        sections = {name: _section(name, values.get(name), problems) for name in SECTIONS}
        output_dir = values.get("output_dir", "runs")
        if not isinstance(output_dir, str) or not output_dir.strip():
            problems.append(("output_dir", "The output folder is empty: give the folder that runs are written to."))
        if sections["model"].quantization != "none" and not sections["lora"].enabled:
            problems.append(("model.quantization", QUANTIZED_NEEDS_LORA))
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
        """Read a YAML file; `overrides` maps dotted keys ("training.num_epochs") to values that win.

        Raises:
            ConfigError: when the file cannot be read, is not YAML, or breaks a rule.
        """
        return cls.from_dict(apply_overrides(read_yaml(path), overrides or {}), on_renamed=on_renamed)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values; `from_dict` of them gives an equal RunConfig."""
        values = dataclasses.asdict(self)
        values["training"].pop("output_dir")
        values["geko"]["bucket_weights"] = list(self.geko.bucket_weights)
        return values

    def to_yaml(self) -> str:
        """The whole configuration as YAML text, in the order in which it is declared."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError when it cannot be read or is no mapping."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The file {str(path)!r} cannot be read ({error.strerror}): check its name.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The file {str(path)!r} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"The file {str(path)!r} holds no keys: begin with 'model:', 'data:' or 'training:'.")
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested `values` with the dotted keys of `overrides` set; each replaces its setting's old or new name too."""
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
    """One section from plain values; problems are collected, and a broken section comes back as its default."""
    cls = SECTIONS[name]
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        problems.append((name, f"{values!r} is not a group of settings: write '{name}:' and its keys below it."))
        return cls()
    values = dict(values)
    if name == "geko":
        values = _with_preset(values, problems)
    if name == "model" and not str(values.get("name", DEMO) or "").strip():
        problems.append(("model.name", "No model is named: give a Hub id, a local folder, or 'demo'."))
    if name == "data" and not str(values.get("train", DEMO) or "").strip():
        problems.append(("data.train", "No training data is named: give a Hub id, a local file, or 'demo'."))
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
    if str(preset).lower() not in PRESETS:
        problems.append(("geko.preset", f"{preset!r} is not one of {', '.join(PRESETS)}."))
        return values
    return {**dataclasses.asdict(PRESETS[str(preset).lower()]), **values}
