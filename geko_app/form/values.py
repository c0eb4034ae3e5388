"""The form's values <-> RunConfig; and the field that an error belongs to. Knows no widget library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from geko_app.form.fields import FIELDS, PRECISION_KEY, PRESET_KEY, FormField
from geko_engine.config.declaration import Problem, shown
from geko_engine.config.renames import ignore
from geko_engine.config.run_config import RunConfig, apply_overrides
from geko_engine.config.sections import DEMO, LORA_LEARNING_RATE
from geko_engine.config.selection import PRESETS, GEKOConfig
from geko_engine.exceptions import ConfigError, GekoError
from geko_engine.preflight.checks import hub_problems, preflight

Check = Callable[[RunConfig], list[Problem]]
CUSTOM = "custom"
PRECISIONS = ("fp32", "bf16", "fp16")

# What decides how the training data are read.
READ_KEYS = [
    *(f"data.{name}" for name in ("train", "train_config", "train_split", "sample_count", "chat_template")),
    *(field.key for field in FIELDS if field.key.startswith("data.") and field.key.endswith("_column")),
]

# Settings whose demo value only suits the demo's model or data; with others they get their usual default.
DEMO_ONLY: dict[str, tuple[str, ...]] = {
    "data.eval": ("data.train",),
    "data.max_length": ("model.name", "data.train"),
    "training.learning_rate": ("model.name",),
    "training.warmup_steps": ("model.name",),
}


def defaults(runs_folder: str) -> dict[str, Any]:
    """The initial value of each field: the demo, so that Start works at once.

    Args:
        runs_folder: where runs are written.
    """
    config = RunConfig.demo()
    config.output_dir = runs_folder
    return from_config(config)


def from_config(config: RunConfig) -> dict[str, Any]:
    """The value of each field for a configuration; a number in a text field as a person would type it."""
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
    """The name of the preset with these settings, or CUSTOM."""
    return next((name for name, preset in PRESETS.items() if preset == config), CUSTOM)


def preset_values() -> dict[str, dict[str, Any]]:
    """For each preset the value of every GEKO field, as the form shows it."""
    found = {}
    for name, preset in PRESETS.items():
        shown = from_config(RunConfig(geko=preset))
        found[name] = {key: value for key, value in shown.items() if key.startswith("geko.") and key != PRESET_KEY}
    return found


def learning_rates() -> dict[str, str]:
    """The default learning rates as the form shows them: of the demo, of other models, and of LoRA."""
    usual, demo = from_config(RunConfig()), from_config(RunConfig.demo())
    key = "training.learning_rate"
    return {"usual": usual[key], "demo": demo[key], "lora": f"{LORA_LEARNING_RATE:g}"}


def demo_rules() -> list[dict[str, Any]]:
    """For each setting in DEMO_ONLY: what it follows, and its values with and without the demo, as the form shows them."""
    demo, usual = from_config(RunConfig.demo()), from_config(RunConfig())
    return [
        {"key": key, "follows": list(followed), "is": DEMO, "demo": demo[key], "usual": usual[key] or ""}
        for key, followed in DEMO_ONLY.items()
    ]


def changed_fields(values: Mapping[Any, Any]) -> dict[str, str]:
    """The valid ones among values that a script wants to set: texts of text fields, and choices of choice fields."""
    found = {}
    for field in FIELDS:
        value = values.get(field.key)
        if isinstance(value, str) and (field.is_text or value in field.choices):
            found[field.key] = value
    return found


def data_to_read(values: Mapping[Any, Any]) -> RunConfig:
    """A configuration with what the form says of its training data, for their first rows; nothing else is looked at.

    Args:
        values: value by key, as a script sends them.

    Raises:
        GekoError: with the settings that are wrong.
    """
    chosen = {f.key: _typed(f, values[f.key]) for f in FIELDS if f.key in READ_KEYS and f.key in values}
    return RunConfig.from_dict(apply_overrides({}, chosen), on_renamed=ignore)


def groups_of(keys: Iterable[str]) -> set[str]:
    """The groups of the fields with these keys."""
    wanted = set(keys)
    return {field.group for field in FIELDS if field.key in wanted}


def to_config(values: Sequence[Any]) -> RunConfig:
    """The configuration that the form describes.

    Args:
        values: of the fields, in the order of FIELDS.

    Raises:
        GekoError: with every problem and the dotted key of its setting.
    """
    overrides = {field.key: _typed(field, value) for field, value in zip(FIELDS, values, strict=True)}
    overrides.pop(PRESET_KEY)  # it only fills in other fields
    precision = overrides.pop(PRECISION_KEY)
    if precision not in PRECISIONS:
        raise ConfigError(
            f"{shown(precision)} is not a precision: choose one of {', '.join(PRECISIONS)}.", PRECISION_KEY
        )
    overrides |= {"training.bf16": precision == "bf16", "training.fp16": precision == "fp16"}
    return RunConfig.from_dict(apply_overrides({}, overrides), on_renamed=ignore)


def problems_of(values: Sequence[Any], check: Check = preflight) -> dict[str, str]:
    """Everything that is wrong with the form, as message by field key; {} if a run can start.

    Args:
        values: of the fields, in the order of FIELDS.
        check: of names, files and folders; it asks the disk.
    """
    if len(values) != len(FIELDS):
        return {
            "model.name": f"The form has {len(FIELDS)} fields, but {len(values)} values were sent. Reload the page."
        }
    try:
        found = check(to_config(values))
    except GekoError as error:
        found = error.problems
    return dict(reversed([(field_of(key), text) for key, text in found]))  # the first message of a field wins


def hub_problems_of(values: Sequence[Any], token: str) -> dict[str, str]:
    """The models and datasets of the form that the Hub does not give, as message by field key. Seconds at most.

    Args:
        values: of the fields, in the order of FIELDS; none of them is wrong.
        token: for private and gated ones, "" for none.
    """
    return {field_of(key): text for key, text in hub_problems(to_config(values), token or None)}


def field_of(key: str) -> str:
    """The key of the field that changes a setting."""
    return PRECISION_KEY if key in ("training.bf16", "training.fp16") else key


def label_of(key: str) -> str:
    """The label of a setting's field, or the key itself if it has none."""
    return next((field.label for field in FIELDS if field.key == field_of(key)), key)


def _typed(field: FormField, value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip()
    if value in ("", None):
        return None if not field.is_text or field.optional else ""
    return value
