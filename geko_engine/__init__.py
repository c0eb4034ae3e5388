"""GEKO: fine-tune language models and send the compute to the samples that need it.

The public door. Importing it (or geko_engine.config.run_config) is light: torch comes with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "2.0.0.dev0"

_HOME = {
    "Bucket": "selection.buckets",
    "GEKOConfig": "config.selection",
    "GEKOTrainer": "training.trainer",
    "GEKOTrainingArgs": "config.training_args",
    "GEKO_AGGRESSIVE": "config.selection",
    "GEKO_BALANCED": "config.selection",
    "GEKO_CONSERVATIVE": "config.selection",
    "GEKO_RECOMMENDED": "config.selection",
    "GekoError": "exceptions",
    "GekoMixin": "integrations.transformers",
    "MountainCurriculum": "selection.curriculum",
    "BucketCounts": "selection.sample_records",
    "RunConfig": "config.run_config",
    "apply_lora": "models.lora",
    "find_data_issues": "quality.issues",
    "find_label_issues": "quality.label_issues",
    "is_peft_available": "models.lora",
}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'geko_engine' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geko_engine.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
