"""Measured cost and quality of the presets, written by `python -m benchmarks.savings`. Knows no widget."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from geko_app.form.values import CUSTOM
from geko_engine.config.selection import PRESETS

RESULTS = Path(__file__).with_suffix(".json")


@cache
def measured() -> list[dict[str, Any]]:
    """What was measured on each kind of data, real data first: `what` it is, and the figures by preset in `arms`."""
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))["measured"]
    return found


def preset_choices() -> list[tuple[str, str]]:
    """(label, name) of each preset."""
    return [*((name.capitalize(), name) for name in PRESETS), ("Custom", CUSTOM)]


def preset_lines() -> dict[str, str]:
    """What each preset cost and reached on the first kind of data, by its name."""
    arms = measured()[0]["arms"]
    plain = _figures(arms["plain"], "{:.0f} %, {:.1f} %")
    lines = {name: f"{_figures(arms[name])} (plain: {plain})" for name in PRESETS}
    return {**lines, CUSTOM: "Some GEKO settings are those of no preset"}


def preset_note() -> str:
    """What the figures beside the presets are, and those on other data, for their details."""
    first, *others = measured()
    said = [f"Measured on {first['what']}; plain training: {_figures(first['arms']['plain'])}."]
    for found in others:
        figures = (f"{name} {_figures(found['arms'][name])}" for name in ("plain", *PRESETS))
        said.append(f"On {found['what']}: {'; '.join(figures)}.")
    return " ".join(said)


def _figures(arm: dict[str, float], form: str = "{:.0f} % compute, {:.1f} % exact match") -> str:
    return form.format(100 * arm["compute"], 100 * arm["exact_match"])
