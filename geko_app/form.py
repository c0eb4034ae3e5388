"""The declared fields of the form <-> RunConfig; an error -> the field it belongs to. Knows no widget library.

Help, unit and range of a field are those declared with the setting in geko_engine.config.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from geko_engine.config import DEMO, PRESETS, SECTIONS, RunConfig, apply_overrides
from geko_engine.exceptions import GekoError
from geko_engine.settings import Spec, is_optional, spec_of
from geko_engine.sources import preflight

PRESET_KEY = "geko.preset"
CUSTOM = "custom"


@dataclass(frozen=True)
class FormField:
    """One field: the dotted key of its setting, its label, how it is typed in, and the group it stands in."""

    key: str
    label: str
    kind: str  # text, integer, check, choice or preset
    group: str
    placeholder: str = ""
    half: bool = False  # two such fields share a row
    upload: bool = False  # a file can be uploaded in its place

    @property
    def help(self) -> str:
        """The line under the label."""
        if self.key == PRESET_KEY:
            return "Recommended is the rule that measured best; the other three are the published presets."
        if self.key == "output_dir":
            return "Folder that the run, its checkpoints and its model are written to."
        return self._spec.help

    @property
    def choices(self) -> tuple[Any, ...]:
        """The only allowed values, empty where there are more."""
        return self._spec.choices

    @property
    def _spec(self) -> Spec:
        section, name = self.key.split(".")
        return spec_of(SECTIONS[section], name)


FIELDS: tuple[FormField, ...] = (
    FormField("model.name", "Model", "text", "Model and data"),
    FormField("data.train", "Training data", "text", "Model and data", upload=True),
    FormField("data.sample_count", "Training samples", "text", "Model and data", "all"),
    FormField("data.eval", "Evaluation data", "text", "Model and data", "none", upload=True),
    FormField("training.num_epochs", "Epochs", "integer", "Training", half=True),
    FormField("training.learning_rate", "Learning rate", "text", "Training", half=True),
    FormField("training.batch_size", "Batch size", "integer", "Training", half=True),
    FormField("training.gradient_accumulation_steps", "Accumulation steps", "integer", "Training", half=True),
    FormField(PRESET_KEY, "GEKO preset", "preset", "Training"),
    FormField("lora.enabled", "LoRA", "check", "LoRA"),
    FormField("lora.r", "Rank", "integer", "LoRA", half=True),
    FormField("lora.alpha", "Alpha", "integer", "LoRA", half=True),
    FormField("lora.dropout", "Dropout", "text", "LoRA"),
    FormField("lora.target_modules", "Target layers", "text", "LoRA", "by the model's family"),
    FormField("model.quantization", "Quantised base", "choice", "LoRA"),
    FormField("data.prompt_column", "Prompt column", "text", "Columns and splits", "recognised", half=True),
    FormField("data.completion_column", "Completion column", "text", "Columns and splits", "recognised", half=True),
    FormField("data.text_column", "Text column", "text", "Columns and splits", "recognised", half=True),
    FormField("data.messages_column", "Conversation column", "text", "Columns and splits", "recognised", half=True),
    FormField("data.chat_template", "Chat template for prompts", "check", "Columns and splits"),
    FormField("data.max_length", "Longest sample", "integer", "Columns and splits"),
    FormField("data.eval_ratio", "Held-out share", "text", "Columns and splits", half=True),
    FormField("data.eval_count", "Evaluation samples", "text", "Columns and splits", "all", half=True),
    FormField("data.train_config", "Training configuration", "text", "Columns and splits", "default", half=True),
    FormField("data.train_split", "Training split", "text", "Columns and splits", half=True),
    FormField("data.eval_config", "Evaluation configuration", "text", "Columns and splits", "default", half=True),
    FormField("data.eval_split", "Evaluation split", "text", "Columns and splits", half=True),
    FormField("model.revision", "Model revision", "text", "More", "main"),
    FormField("model.trust_remote_code", "Trust remote code", "check", "More"),
    FormField("training.warmup_steps", "Warm-up steps", "integer", "More", half=True),
    FormField("training.seed", "Seed", "integer", "More", half=True),
    FormField("training.auto_find_batch_size", "Smaller batches when memory runs out", "check", "More"),
    FormField("output_dir", "Output folder", "text", "More"),
)
GROUPS = tuple(dict.fromkeys(field.group for field in FIELDS))


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
    """Value of each field for a configuration; a learning rate as a person would type it."""
    values = config.to_dict()
    shown: dict[str, Any] = {}
    for field in FIELDS:
        if field.key == PRESET_KEY:
            shown[field.key] = next((name for name, preset in PRESETS.items() if preset == config.geko), CUSTOM)
            continue
        section, _, name = field.key.partition(".")
        value = values[section][name] if name else values[section]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        listed = ", ".join(value) if isinstance(value, list) else value
        shown[field.key] = f"{value:g}" if number and field.kind == "text" else listed
    return shown


def demo_rules() -> list[dict[str, Any]]:
    """For each setting in FOLLOWS: what it follows, its value in the demo and its usual one, as the form shows them."""
    demo, usual = from_config(RunConfig.demo()), from_config(RunConfig())
    return [
        {"key": key, "follows": list(followed), "is": DEMO, "demo": demo[key], "usual": usual[key] or ""}
        for key, followed in FOLLOWS.items()
    ]


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
    nested = apply_overrides(RunConfig.demo().to_dict(), overrides)
    nested["geko"] = {} if overrides[PRESET_KEY] in (None, CUSTOM) else {"preset": overrides[PRESET_KEY]}
    return RunConfig.from_dict(nested)


def problems_of(values: Sequence[Any]) -> dict[str, str]:
    """Dotted key -> message for everything that is wrong with the form's values; empty when Start may go on."""
    if len(values) != len(FIELDS):
        return {"model.name": f"The form has {len(FIELDS)} fields, but {len(values)} values came."}
    try:
        found = preflight(to_config(values))
    except GekoError as error:
        found = error.problems
    return dict(reversed(found))  # the first message of a field wins


def label_of(key: str) -> str:
    """The label of a field, or the key itself for a setting that is not on the form."""
    return next((field.label for field in FIELDS if field.key == key), key)


def _typed(field: FormField, value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip()
    if value in ("", None):
        return None if field.kind != "text" or _optional(field) else ""
    return value


def _optional(field: FormField) -> bool:
    """Whether an empty field means that nothing is set."""
    section, _, name = field.key.partition(".")
    return bool(name) and is_optional(SECTIONS[section], name)
