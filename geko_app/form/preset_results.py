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
def measured() -> dict[str, Any]:
    """The content of preset_results.json: what was measured, and the figures by preset."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def preset_choices() -> list[tuple[str, str]]:
    """(label with cost and quality, name) of each preset."""
    arms = measured()["arms"]
    labels = [(f"{name.capitalize()}: {_figures(arms[name])}", name) for name in PRESETS]
    return [*labels, ("Custom", CUSTOM)]


def preset_note() -> str:
    """What the figures beside the presets are, for their details."""
    found = measured()
    return f"Measured on {found['what']}; plain training: {_figures(found['arms']['plain'])}."


def _figures(arm: dict[str, float]) -> str:
    return f"{100 * arm['compute']:.0f} % compute, {100 * arm['exact_match']:.1f} % exact match"
