"""Runs that suggest themselves after a run: its control, and what helps when memory ran out. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError


@dataclass(frozen=True)
class Variant:
    """One way to run a configuration again: its button, why, when it is offered, and the change itself in place."""

    label: str
    why: str
    offered: Callable[[RunConfig, str, str], bool]  # (configuration, end, field that a failure is blamed on)
    change: Callable[[RunConfig], None]


def _out_of_memory(end: str, field: str) -> bool:
    return field == "training.batch_size" or end == "interrupted"


def _control(config: RunConfig) -> None:
    config.geko.enabled = False


def _half(config: RunConfig) -> None:
    config.training.batch_size //= 2
    config.training.gradient_accumulation_steps *= 2


def _checkpointing(config: RunConfig) -> None:
    config.training.gradient_checkpointing = True


def _lora(config: RunConfig) -> None:
    config.lora.enabled = True


VARIANTS: dict[str, Variant] = {
    "control": Variant(
        "Run the control",
        "The same run with GEKO off and the same seed: what plain training makes of your data.",
        lambda config, end, field: end == "complete" and config.geko.enabled,
        _control,
    ),
    "half": Variant(
        "Again with half the batch",
        "Half the batch size, twice the accumulation steps: less memory, the same result.",
        lambda config, end, field: _out_of_memory(end, field) and config.training.batch_size % 2 == 0,
        _half,
    ),
    "checkpointing": Variant(
        "Again with gradient checkpointing",
        "Activations are computed again instead of kept: less memory, about a third more time.",
        lambda config, end, field: _out_of_memory(end, field) and not config.training.gradient_checkpointing,
        _checkpointing,
    ),
    "lora": Variant(
        "Again with LoRA",
        "Only small adapters are trained: far less memory for gradients and optimizer.",
        lambda config, end, field: _out_of_memory(end, field) and not config.lora.enabled,
        _lora,
    ),
}


def offered(config: RunConfig, end: str, field: str) -> list[dict[str, str]]:
    """The buttons under a run that ended so: name, label, why."""
    return [
        {"name": name, "label": variant.label, "why": variant.why}
        for name, variant in VARIANTS.items()
        if variant.offered(config, end, field)
    ]


def changed(config: RunConfig, name: str) -> RunConfig:
    """A copy of `config` as the variant has it. Raises RunError for a name that is none."""
    if name not in VARIANTS:
        raise RunError(f"{name!r} is no variant of a run.")
    copy = RunConfig.from_dict(config.to_dict())
    VARIANTS[name].change(copy)
    copy.training.resume_from_checkpoint = None  # a variant begins anew
    return copy
