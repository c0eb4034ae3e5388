"""A trained model, made ready for other programs: merged, as GGUF, for Ollama, on the Hub. Knows no page.

from geko_engine.export import merge, push, to_gguf, to_ollama
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Exported": "results",
    "merge": "merging",
    "push": "pushing",
    "to_gguf": "gguf",
    "to_ollama": "ollama",
}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'geko_engine.export' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geko_engine.export.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
