"""A configuration as YAML, as one geko-train command and as a Python script; and the form's values from YAML."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from geko_app.form.values import from_config
from geko_engine.config.renames import OnRenamed
from geko_engine.config.run_config import SECTIONS, RunConfig
from geko_engine.config.sections import DEMO
from geko_engine.config.yaml_text import parse_yaml


def changed_settings(config: RunConfig) -> dict[str, Any]:
    """Every setting that differs from its default, by its dotted key."""
    now, default = config.to_dict(), RunConfig().to_dict()
    found = {
        f"{section}.{name}": value
        for section in SECTIONS
        for name, value in now[section].items()
        if value != default[section][name]
    }
    return found | ({"output_dir": config.output_dir} if config.output_dir != default["output_dir"] else {})


def as_yaml(config: RunConfig) -> str:
    """A configuration file for geko-train: the model, the data, and what differs from the defaults."""
    nested: dict[str, Any] = {"model": {"name": config.model.name}, "data": {"train": config.data.train}}
    for key, value in changed_settings(config).items():
        section, _, name = key.partition(".")
        if name:
            nested.setdefault(section, {})[name] = value
        else:
            nested[section] = value
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)


def as_command(config: RunConfig) -> str:
    """One geko-train command that starts this run, on several lines."""
    demo = RunConfig.demo()
    is_demo = config.model.name == DEMO and config.data.train == DEMO
    before = demo.to_dict() if is_demo else RunConfig().to_dict()
    now = config.to_dict()
    parts = ["geko-train --demo" if is_demo else "geko-train"]
    for section, values in now.items():
        for name, value in values.items() if isinstance(values, dict) else [("", values)]:
            key = f"{section}.{name}" if name else section
            old = before[section][name] if name else before[section]
            if value != old or (not is_demo and key in ("model.name", "data.train")):
                text = yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]
                parts.append(f"--set {shlex.quote(f'{key}={text}')}")
    return " \\\n  ".join(parts)


def as_python(config: RunConfig) -> str:
    """A Python script that starts this run."""
    found = changed_settings(config)
    lines = ["from geko_engine import RunConfig", "from geko_engine.run import run"]
    lines += ["from geko_engine.runs.folder import RunFolder", "", "config = RunConfig()"]
    for key in ("model.name", "data.train"):
        found.setdefault(key, DEMO)
    for key, value in found.items():
        value = tuple(value) if key == "geko.bucket_weights" else value
        lines.append(f"config.{key} = {value!r}")
    return "\n".join([*lines, "report = run(RunFolder.create(config))", 'print(report["compute_saved_ratio"])'])


def from_yaml(text: str, *, on_renamed: OnRenamed) -> dict[str, Any]:
    """The value of each field for a YAML text; settings that it does not name get their defaults.

    Args:
        text: as geko-train reads it from a file.
        on_renamed: called with one sentence for the user if the text has old names of settings.

    Raises:
        ConfigError: the text is not YAML, or has unknown keys or invalid values.
    """
    values = parse_yaml(text)
    return from_config(RunConfig.from_dict(values if values is not None else {}, on_renamed=on_renamed))
