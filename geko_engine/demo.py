"""Location of the built-in demo: assets/demo in a checkout, or its copy inside the wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGED = Path(__file__).parent / "demo_files"


def demo_path(name: str) -> Path:
    """Path of one part of the demo: "model", "train.jsonl", "eval.jsonl", or "general.jsonl"."""
    folder = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "assets" / "demo"
    return folder / name
