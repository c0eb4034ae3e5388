"""The form's values <-> RunConfig; the same as YAML, command and Python; an error -> the field it belongs to.

Knows no widget library.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from geko_app.fields import FIELDS, PRECISION_KEY, PRESET_KEY, FormField
from geko_engine.config import DEMO, PRESETS, SECTIONS, GEKOConfig, RunConfig, apply_overrides
from geko_engine.exceptions import ConfigError, GekoError
from geko_engine.sources import preflight

CUSTOM = "custom"
PRECISIONS = ("fp32", "bf16", "fp16")
MAX_YAML = 100_000  # characters

# What the demo's value of a setting depends on: with another model or other data, the usual default is in place.
FOLLOWS: dict[str, tuple[str, ...]] = {
    "data.eval": ("data.train",),
    "data.max_length": ("model.name", "data.train"),
    "training.learning_rate": ("model.name",),
    "training.warmup_steps": ("model.name",),
}


def defaults(runs_folder: str) -> dict[str, Any]:
    """What each field shows at first: the demo, so that Start works at once."""
    config = RunConfig.demo()
    config.output_dir = runs_folder
    return from_config(config)


def from_config(config: RunConfig) -> dict[str, Any]:
    """Value of each field for a configuration; a number in a text field as a person would type it."""
    values = config.to_dict()
    shown: dict[str, Any] = {}
    for field in FIELDS:
        if field.key == PRESET_KEY:
            shown[field.key] = preset_of(config.geko)
        elif field.key == PRECISION_KEY:
            shown[field.key] = "bf16" if config.training.bf16 else "fp16" if config.training.fp16 else "fp32"
        else:
            section, _, name = field.key.partition(".")
            shown[field.key] = _shown(field, values[section][name] if name else values[section])
    return shown


def _shown(field: FormField, value: Any) -> Any:
    if field.kind == "text" and isinstance(value, list):
        return ", ".join(_shown(field, item) for item in value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if number and field.kind == "text" else value


def preset_of(config: GEKOConfig) -> str:
    """The preset that these settings are, or custom."""
    return next((name for name, preset in PRESETS.items() if preset == config), CUSTOM)


def preset_values() -> dict[str, dict[str, Any]]:
    """For each preset the value of every field of geko, as the form shows it."""
    found = {}
    for name, preset in PRESETS.items():
        shown = from_config(RunConfig(geko=preset))
        found[name] = {key: value for key, value in shown.items() if key.startswith("geko.") and key != PRESET_KEY}
    return found


def demo_rules() -> list[dict[str, Any]]:
    """For each setting in FOLLOWS: what it follows, its value in the demo and its usual one, as the form shows them."""
    demo, usual = from_config(RunConfig.demo()), from_config(RunConfig())
    return [
        {"key": key, "follows": list(followed), "is": DEMO, "demo": demo[key], "usual": usual[key] or ""}
        for key, followed in FOLLOWS.items()
    ]


def changed_fields(values: Mapping[Any, Any]) -> dict[str, str]:
    """Those of `values` that are texts for text fields or choices of fields that have some; what else comes is dropped."""
    found = {}
    for field in FIELDS:
        value = values.get(field.key)
        if isinstance(value, str) and (field.kind == "text" or value in field.choices):
            found[field.key] = value
    return found


def groups_of(keys: Iterable[str]) -> set[str]:
    """The groups that hold the fields with these keys."""
    wanted = set(keys)
    return {field.group for field in FIELDS if field.key in wanted}


def to_config(values: Sequence[Any]) -> RunConfig:
    """The RunConfig that the form's values, in the order of FIELDS, describe.

    Raises:
        GekoError: with every problem at the dotted key of its field.
    """
    overrides = {field.key: _typed(field, value) for field, value in zip(FIELDS, values, strict=True)}
    overrides.pop(PRESET_KEY)  # it only fills other fields in
    precision = overrides.pop(PRECISION_KEY)
    if precision not in PRECISIONS:
        raise ConfigError(f"{precision!r} is no precision: choose one of {', '.join(PRECISIONS)}.", PRECISION_KEY)
    overrides |= {"training.bf16": precision == "bf16", "training.fp16": precision == "fp16"}
    return RunConfig.from_dict(apply_overrides({}, overrides))


def problems_of(values: Sequence[Any]) -> dict[str, str]:
    """Dotted key -> message for everything that is wrong with the form's values; empty when Start may go on."""
    if len(values) != len(FIELDS):
        return {"model.name": f"The form has {len(FIELDS)} fields, but {len(values)} values came."}
    try:
        found = preflight(to_config(values))
    except GekoError as error:
        found = error.problems
    return dict(reversed([(field_of(key), text) for key, text in found]))  # the first message of a field wins


def field_of(key: str) -> str:
    """The field that a setting is changed by."""
    return PRECISION_KEY if key in ("training.bf16", "training.fp16") else key


def label_of(key: str) -> str:
    """The label of a field, or the key itself for a setting that is not on the form."""
    return next((field.label for field in FIELDS if field.key == field_of(key)), key)


def _typed(field: FormField, value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip()
    if value in ("", None):
        return None if field.kind != "text" or field.optional else ""
    return value


# ---------------------------------------------------------------- the same thing in other words


def changes(config: RunConfig) -> dict[str, Any]:
    """Every setting that is not at its default, by its dotted key."""
    now, usual = config.to_dict(), RunConfig().to_dict()
    found = {
        f"{section}.{name}": value
        for section in SECTIONS
        for name, value in now[section].items()
        if value != usual[section][name]
    }
    return found | ({"output_dir": config.output_dir} if config.output_dir != usual["output_dir"] else {})


def as_yaml(config: RunConfig) -> str:
    """What differs from the defaults, and the model and data always, as a file for geko-train."""
    nested: dict[str, Any] = {"model": {"name": config.model.name}, "data": {"train": config.data.train}}
    for key, value in changes(config).items():
        section, _, name = key.partition(".")
        if name:
            nested.setdefault(section, {})[name] = value
        else:
            nested[section] = value
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)


def as_command(config: RunConfig) -> str:
    """One geko-train command that starts this run."""
    demo = RunConfig.demo()
    is_demo = config.model.name == DEMO and config.data.train == DEMO
    before = demo.to_dict() if is_demo else RunConfig().to_dict()
    now = config.to_dict()
    words = ["geko-train --demo" if is_demo else "geko-train"]
    for section, values in now.items():
        for name, value in values.items() if isinstance(values, dict) else [("", values)]:
            key = f"{section}.{name}" if name else section
            old = before[section][name] if name else before[section]
            if value != old or (not is_demo and key in ("model.name", "data.train")):
                text = yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]
                words.append(f"--set {shlex.quote(f'{key}={text}')}")
    return " \\\n  ".join(words)


def as_python(config: RunConfig) -> str:
    """A script that starts this run from Python."""
    found = changes(config)
    lines = ["from geko_engine.config import RunConfig", "from geko_engine.run_folder import RunFolder"]
    lines += ["from geko_engine.runner import run", "", "config = RunConfig()"]
    for key in ("model.name", "data.train"):
        found.setdefault(key, DEMO)
    for key, value in found.items():
        value = tuple(value) if key == "geko.bucket_weights" else value
        lines.append(f"config.{key} = {value!r}")
    return "\n".join([*lines, "report = run(RunFolder.create(config))", 'print(report["compute_saved_ratio"])'])


def from_yaml(text: str) -> dict[str, Any]:
    """The value of each field for a YAML text; what it does not name is at its default.

    Raises:
        ConfigError: for what is no YAML, unknown keys (with the nearest one) and values that break their rule.
    """
    if len(text) > MAX_YAML:
        raise ConfigError(f"The text has {len(text):,} characters; {MAX_YAML:,} are enough for any run.")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"This is not valid YAML: {str(error).splitlines()[0]}.") from error
    return from_config(RunConfig.from_dict(values if values is not None else {}))
