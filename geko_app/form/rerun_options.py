"""Runs to offer after a run: its plain baseline, and what helps if memory ran out. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import LORA_LEARNING_RATE
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import RunError


@dataclass(frozen=True)
class Variant:
    """One way to run a configuration again.

    Attributes:
        label: of its button.
        why: one sentence for the user.
        offered: whether to offer it, from (configuration, how the run ended, field that a failure is blamed on).
        change: changes the configuration in place.
    """

    label: str
    why: str
    offered: Callable[[RunConfig, str, str], bool]
    change: Callable[[RunConfig], None]


def _out_of_memory(end: str, field: str) -> bool:
    return field == "training.batch_size" or end == "interrupted"


def _disable_geko(config: RunConfig) -> None:
    config.geko.enabled = False


def _halve_batch(config: RunConfig) -> None:
    config.training.batch_size //= 2
    config.training.gradient_accumulation_steps *= 2


def _enable_checkpointing(config: RunConfig) -> None:
    config.training.gradient_checkpointing = True


def _enable_lora(config: RunConfig) -> None:
    config.lora.enabled = True
    if config.training.learning_rate == GEKOTrainingArgs().learning_rate:
        config.training.learning_rate = LORA_LEARNING_RATE


VARIANTS: dict[str, Variant] = {
    "control": Variant(
        "Run the baseline",
        "The same run with the same seed and GEKO off: plain training, to compare with.",
        lambda config, end, field: end == "complete" and config.geko.enabled,
        _disable_geko,
    ),
    "half": Variant(
        "Rerun with half the batch size",
        "Half the batch size and twice the accumulation steps: less memory, same result.",
        lambda config, end, field: _out_of_memory(end, field) and config.training.batch_size % 2 == 0,
        _halve_batch,
    ),
    "checkpointing": Variant(
        "Rerun with gradient checkpointing",
        "Activations are recomputed instead of stored: less memory, about a third more time.",
        lambda config, end, field: _out_of_memory(end, field) and not config.training.gradient_checkpointing,
        _enable_checkpointing,
    ),
    "lora": Variant(
        "Rerun with LoRA",
        f"Only small adapters are trained: much less memory for gradients and optimizer. A default learning rate becomes {LORA_LEARNING_RATE:g}.",
        lambda config, end, field: _out_of_memory(end, field) and not config.lora.enabled,
        _enable_lora,
    ),
}


def offered(config: RunConfig, end: str, field: str) -> list[dict[str, str]]:
    """The buttons below an ended run.

    Args:
        config: of the run.
        end: how it ended.
        field: setting that a failure is blamed on, "" for none.

    Returns:
        name, label and why of each variant to offer.
    """
    return [
        {"name": name, "label": variant.label, "why": variant.why}
        for name, variant in VARIANTS.items()
        if variant.offered(config, end, field)
    ]


def changed(config: RunConfig, name: str) -> RunConfig:
    """A changed copy of a configuration.

    Args:
        config: of the ended run.
        name: of the variant.

    Raises:
        RunError: there is no variant of that name.
    """
    if name not in VARIANTS:
        raise RunError(f"There is no way {name!r} to run this again: choose one of {', '.join(VARIANTS)}.")
    copy = RunConfig.from_dict(config.to_dict())
    VARIANTS[name].change(copy)
    copy.training.resume_from_checkpoint = None  # a variant starts from the beginning
    return copy
