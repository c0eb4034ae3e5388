"""Where the built-in demo is: the checkout's assets/demo or the copy inside the wheel. Knows no content."""

from __future__ import annotations

from pathlib import Path

_PACKAGED = Path(__file__).parent / "demo_files"


def demo_path(name: str) -> Path:
    """One of the demo's parts: "model", "train.jsonl" or "eval.jsonl"."""
    folder = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "assets" / "demo"
    return folder / name
