"""Where the files that ship with GEKO are: the checkout's assets/ or the copy inside the wheel. Knows no content."""

from __future__ import annotations

from pathlib import Path


def assets_path() -> Path:
    """The folder with the demo model, the demo data, logo and style sheet."""
    packaged = Path(__file__).parent / "assets"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "assets"


def demo_path(name: str) -> Path:
    """One of the demo's parts: "model", "train.jsonl" or "eval.jsonl"."""
    return assets_path() / "demo" / name
