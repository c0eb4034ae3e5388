"""Every setting of a run as Markdown, from the declarations that the command line, the form and the checks read too."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

import yaml

from geko_app.form.fields import FIELDS
from geko_engine.config.declaration import Spec
from geko_engine.config.run_config import SECTIONS, RunConfig

OUTPUT_DIR = "output_dir"
INTRODUCTIONS = {
    "model": "Which model is fine-tuned.",
    "data": "Which rows are trained on and evaluated on, and how they are read. [Your data](data.md) has an example of each format.",
    "lora": "LoRA adapters; the names are those of `peft.LoraConfig`.",
    "training": "How the run is trained. The names are those of `transformers.TrainingArguments` where there is one.",
    "geko": "Which samples get compute. [How GEKO decides](how-it-decides.md) explains the rule. `geko.preset` fills in this "
    "whole section; the other keys change it.",
}


def keys() -> list[str]:
    """The dotted name of every setting, in the order of the declarations."""
    names = [f"{section}.{f.name}" for section, cls in SECTIONS.items() for f in _declared(cls)]
    return [*names, OUTPUT_DIR]


def settings_markdown() -> str:
    """A heading for each section, and below it one for each setting."""
    labels = {field.key: field.label for field in FIELDS}
    lines: list[str] = []
    for section, cls in SECTIONS.items():
        lines += [f"## {section}", "", INTRODUCTIONS[section], ""]
        hints = typing.get_type_hints(cls)
        for field in _declared(cls):
            key = f"{section}.{field.name}"
            spec: Spec = field.metadata["spec"]
            facts = _facts(hints[field.name], getattr(cls(), field.name), spec)
            lines += entry(key, labels.get(key, ""), f"{spec.help} {spec.details}".strip(), facts)
    form_field = next(field for field in FIELDS if field.key == OUTPUT_DIR)
    facts = _facts(str, RunConfig().output_dir, Spec(""))
    return "\n".join(
        [
            *lines,
            "## output_dir",
            "",
            *entry(OUTPUT_DIR, form_field.label, f"{form_field.help} {form_field.details}", facts),
        ]
    )


def entry(key: str, label: str, help_text: str, facts: Mapping[str, str]) -> list[str]:
    """The heading of a setting, what it does, and its facts in one line."""
    shown = {**facts, "On the page": label}
    return [
        f"### {key} {{ #{key} }}",
        "",
        help_text,
        "",
        " · ".join(f"{name}: {value}" for name, value in shown.items() if value),
        "",
    ]


def _declared(cls: type) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.metadata.get("spec")]


def _facts(hint: Any, default: Any, spec: Spec) -> dict[str, str]:
    return {"Default": f"`{_as_yaml(default)}`", "Type": _type(hint), "Allowed": _allowed(spec), "Unit": spec.unit}


def _as_yaml(value: Any) -> str:
    """A value as it is written in run.yaml; None is empty there."""
    if value is None:
        return "null"
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]


def _type(hint: Any) -> str:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if union else (hint,)
    target = next(option for option in options if option is not type(None))
    names = {int: "integer", float: "number", bool: "true or false", str: "text"}
    if typing.get_origin(target) in (list, tuple):
        items = [names[item] for item in typing.get_args(target) if item is not Ellipsis]
        name = f"list of {len(items)} {items[0]}s" if len(items) > 1 else f"list of {items[0]}s"
    else:
        name = names[target]
    return f"{name}, may be empty" if len(options) > 1 else name


def _allowed(spec: Spec) -> str:
    if spec.choices:
        return ", ".join(f"`{choice}`" for choice in spec.choices)
    low = "" if spec.minimum is None else f"{'more than' if spec.exclusive else 'at least'} {_number(spec.minimum)}"
    high = "" if spec.maximum is None else f"at most {_number(spec.maximum)}"
    return ", ".join(part for part in (low, high) if part)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"
