"""GEKO: fine-tune language models and send the compute to the samples that need it.

The public door. Importing it (or geko_engine.config) is light: torch comes with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "1.0.0"

_HOME = {
    "Bucket": "buckets",
    "GEKOConfig": "config",
    "GEKOTrainer": "trainer",
    "GEKOTrainingArgs": "config",
    "GEKO_AGGRESSIVE": "config",
    "GEKO_BALANCED": "config",
    "GEKO_CONSERVATIVE": "config",
    "GEKO_RECOMMENDED": "config",
    "GekoError": "exceptions",
    "MountainCurriculum": "curriculum",
    "PartitionStats": "sample_states",
    "RunConfig": "config",
    "apply_lora": "adapters",
    "is_peft_available": "adapters",
}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'geko_engine' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geko_engine.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
