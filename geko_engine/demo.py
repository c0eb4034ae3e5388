"""Locations of the files that ship with GEKO: assets/ in a checkout, or the copy inside the wheel."""

from __future__ import annotations

from pathlib import Path


def assets_path() -> Path:
    """The folder that holds demo/."""
    packaged = Path(__file__).parent / "assets"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "assets"


def demo_path(name: str) -> Path:
    """Path of one part of the demo: "model", "train.jsonl" or "eval.jsonl"."""
    return assets_path() / "demo" / name
