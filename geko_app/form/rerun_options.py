"""Runs to offer after a run: its plain baseline, training again with corrections, and what helps if memory ran out. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import LORA_LEARNING_RATE
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.excluded_rows import EXCLUDE
from geko_engine.exceptions import RunError

# Of a run on what changed (benchmarks/cleaning.py): at the rate of a first training, or with few of the other rows, a model
# forgets more than it gains.
CORRECTED = ("corrected", "corrected_anew")
EPOCHS, REPLAYED, OF_RATE = 2, 0.8, 0.1
HELD_OUT = 0.05  # share of the rows, where the earlier run has found its length by itself


@dataclass(frozen=True)
class Corrected:
    """The corrections of a run, for training again.

    Attributes:
        run: its folder. model: of its result; "" without one. log: its corrections.jsonl.
        edited, deleted: rows that were edited, and those that were deleted.
        flags: of flagged rows, which are left out with the deleted ones; "" for none.
    """

    run: str
    model: str
    log: str
    edited: int
    deleted: int
    flags: str = ""


@dataclass(frozen=True)
class EndedRun:
    """What decides which runs are offered.

    Attributes:
        config: of the run. end: how it ended. field: setting that a failure is blamed on, "" for none.
        corrected: its corrections; None where they change nothing.
    """

    config: RunConfig
    end: str = ""
    field: str = ""
    corrected: Corrected | None = None


@dataclass(frozen=True)
class Variant:
    """One way to run a configuration again.

    Attributes:
        label: of its button.
        why: one sentence for the user.
        offered: whether to offer it.
        change: changes a copy of the configuration in place.
    """

    label: str
    why: str
    offered: Callable[[EndedRun], bool]
    change: Callable[[RunConfig, EndedRun], None]


def _out_of_memory(run: EndedRun) -> bool:
    return run.field == "training.batch_size" or run.end == "interrupted"


def _disable_geko(config: RunConfig, _run: EndedRun) -> None:
    config.geko.enabled = False


def _halve_batch(config: RunConfig, _run: EndedRun) -> None:
    config.training.batch_size //= 2
    config.training.gradient_accumulation_steps *= 2


def _enable_checkpointing(config: RunConfig, _run: EndedRun) -> None:
    config.training.gradient_checkpointing = True


def _enable_lora(config: RunConfig, _run: EndedRun) -> None:
    config.lora.enabled = True
    if config.training.learning_rate == GEKOTrainingArgs().learning_rate:
        config.training.learning_rate = LORA_LEARNING_RATE


def _use_corrections(config: RunConfig, run: EndedRun) -> None:
    if run.corrected is None:
        return
    config.data.corrections = run.corrected.log
    if run.corrected.flags:
        config.data.row_flags, config.data.flag_action = run.corrected.flags, EXCLUDE


def _continue_with_corrections(config: RunConfig, run: EndedRun) -> None:
    if run.corrected is None:
        return
    _use_corrections(config, run)
    config.model.name, config.data.replay = run.corrected.model, run.corrected.run
    if config.training.finds_length and not config.data.eval:
        config.data.eval_ratio = HELD_OUT  # the same rows as before are held out, whatever the share
    config.data.replay_share = max(REPLAYED, config.data.replay_share)
    config.training.num_epochs, config.training.max_steps = EPOCHS, None
    config.training.learning_rate *= OF_RATE


VARIANTS: dict[str, Variant] = {
    "control": Variant(
        "Run the baseline",
        "The same run with the same seed and GEKO off: plain training, to compare with.",
        lambda run: run.end == "complete" and run.config.geko.enabled,
        _disable_geko,
    ),
    "corrected": Variant(
        "Retrain what changed",
        "Goes on from this run's model for two epochs at a tenth of its learning rate, on the edited rows and four times as many others; what was learned from deleted rows stays.",
        lambda run: run.corrected is not None and run.corrected.edited > 0 and bool(run.corrected.model),
        _continue_with_corrections,
    ),
    "corrected_anew": Variant(
        "Retrain anew",
        "The same run from its base model, on the corrected data: edited rows as they are now, without the deleted ones.",
        lambda run: (
            run.corrected is not None and not run.config.data.replay
        ),  # else its base model has learned these rows
        _use_corrections,
    ),
    "half": Variant(
        "Rerun with half the batch size",
        "Half the batch size and twice the accumulation steps: less memory, same result.",
        lambda run: _out_of_memory(run) and run.config.training.batch_size % 2 == 0,
        _halve_batch,
    ),
    "checkpointing": Variant(
        "Rerun with gradient checkpointing",
        "Activations are recomputed instead of stored: less memory, about a third more time.",
        lambda run: _out_of_memory(run) and not run.config.training.gradient_checkpointing,
        _enable_checkpointing,
    ),
    "lora": Variant(
        "Rerun with LoRA",
        f"Only small adapters are trained: much less memory for gradients and optimizer. A default learning rate becomes {LORA_LEARNING_RATE:g}.",
        lambda run: _out_of_memory(run) and not run.config.lora.enabled,
        _enable_lora,
    ),
}


def offered(run: EndedRun) -> list[dict[str, str]]:
    """The buttons below an ended run: name, label and why of each variant to offer."""
    return [
        {"name": name, "label": variant.label, "why": variant.why}
        for name, variant in VARIANTS.items()
        if variant.offered(run)
    ]


def changed(run: EndedRun, name: str) -> RunConfig:
    """A changed copy of a configuration.

    Args:
        run: the ended run.
        name: of the variant.

    Raises:
        RunError: there is no variant of that name.
    """
    if name not in VARIANTS:
        raise RunError(f"There is no way {name!r} to run this again: choose one of {', '.join(VARIANTS)}.")
    if name in CORRECTED and run.corrected is None:
        raise RunError("No row of this run is edited or deleted any more: review its samples first.")
    copy = RunConfig.from_dict(run.config.to_dict())
    VARIANTS[name].change(copy, run)
    copy.training.resume_from_checkpoint = None  # a variant starts from the beginning
    return copy
