"""The texts of the page in other languages: a folder for each, with JSON files of English text -> translation."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent


def languages() -> list[str]:
    """The languages beside English, by their tags, such as "zh-CN"."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and any(path.glob("*.json")))


def catalogue(language: str) -> dict[str, str]:
    """All texts of a language by their English; what the keys mean is in static/language_catalogue.js."""
    found: dict[str, str] = {}
    for path in sorted((FOLDER / language).glob("*.json")):
        found |= json.loads(path.read_text(encoding="utf-8"))
    return found
