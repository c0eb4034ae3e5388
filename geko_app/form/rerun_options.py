"""Runs to offer after a run: its plain baseline, training again with corrections or on fewer rows, and what helps if memory ran out.

Pure.
"""

from __future__ import annotations

import math
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
CORE_SET, RANDOM_SET = "core_set", "random_set"
SUBSETS = (CORE_SET, RANDOM_SET)
HELD_OUT = 0.05  # share of the rows, where the earlier run has found its length by itself


@dataclass(frozen=True)
class Corrected:
    """The corrections of a run, for training again.

    Attributes:
        run: its folder. model: of its result; "" without one. log: its corrections.jsonl.
        edited, deleted: rows that were edited, and those that were deleted or, once edited, flagged.
        flags: of flagged rows, which are left out with the deleted ones; "" for none.
    """

    run: str
    model: str
    log: str
    edited: int
    deleted: int
    flags: str = ""


@dataclass(frozen=True)
class Subset:
    """A part of the rows of a run, for training on it alone.

    Attributes:
        left_out: file of the rows that are left out, in the folder of the run: it holds out the same evaluation rows then.
        share: of the training rows that are kept, in (0, 1].
    """

    left_out: str
    share: float


@dataclass(frozen=True)
class EndedRun:
    """What decides which runs are offered.

    Attributes:
        config: of the run. end: how it ended. field: setting that a failure is blamed on, "" for none.
        corrected: its corrections; None where they change nothing. subset: rows of it to train on; None to train on all.
    """

    config: RunConfig
    end: str = ""
    field: str = ""
    corrected: Corrected | None = None
    subset: Subset | None = None


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
    rate = config.training.learning_rate * OF_RATE
    config.training.learning_rate = float(f"{rate:.6g}")  # 7e-05, not 7.000000000000001e-05


def can_begin_on_part(config: RunConfig) -> bool:
    """Whether a run with these settings can be run again on a part of its rows.

    One that went on from another run cannot, as its base model has learned its rows, nor one whose flags say which rows are
    never to be frozen, as there is one file of flags.
    """
    return not config.data.replay and not (config.data.row_flags and config.data.flag_action != EXCLUDE)


def _train_on_part(config: RunConfig, run: EndedRun) -> None:
    if run.subset is None:
        return
    _use_corrections(config, run)  # what an export of these rows holds
    config.data.row_flags, config.data.flag_action = run.subset.left_out, EXCLUDE
    if config.training.max_steps:
        config.training.max_steps = math.ceil(run.subset.share * config.training.max_steps)


def _offers_part(run: EndedRun) -> bool:
    return run.end == "complete" and run.subset is not None and can_begin_on_part(run.config)


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
    CORE_SET: Variant(
        "Train on the core set",
        "The same run from its base model on these rows alone, for as many epochs.",
        _offers_part,
        _train_on_part,
    ),
    RANDOM_SET: Variant(
        "Train on a random set",
        "The same on as many rows, drawn at random from those that the core set was chosen from: what it has to beat.",
        _offers_part,
        _train_on_part,
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


def _refusal_reason(run: EndedRun, name: str) -> str:
    """Why a run cannot be run again with its corrections, or on a part of its rows; "" where it can."""
    if name in SUBSETS:
        if run.subset is None:
            return "No rows are chosen for this run: choose them under Core set on the Samples page."
        if not can_begin_on_part(run.config):
            return (
                "This run cannot be run again on a part of its rows: it went on from another run (data.replay), or its row "
                "flags say which rows are never frozen."
            )
        return "" if run.end == "complete" else "This run is not complete yet: wait for its end, or resume it."
    if name not in CORRECTED:
        return ""
    if run.corrected is None:
        return "No row of this run is edited or deleted any more: review its samples first."
    if name == "corrected_anew" and run.config.data.replay:
        return (
            "This run went on from another run (data.replay), so its base model has learned the rows that were deleted since: "
            "retrain what changed instead."
        )
    if name == "corrected" and not run.corrected.edited:
        return "Rows of this run were only deleted or flagged, and going on does not unlearn them: retrain it anew instead."
    if name == "corrected" and not run.corrected.model:
        return "This run has no model to go on from: wait for its end, or retrain it anew instead."
    return ""


def changed(run: EndedRun, name: str) -> RunConfig:
    """A changed copy of a configuration.

    Args:
        run: the ended run.
        name: of the variant.

    Raises:
        RunError: there is no variant of that name, or it cannot be run in this way.
    """
    if name not in VARIANTS:
        raise RunError(f"There is no way {name!r} to run this again: choose one of {', '.join(VARIANTS)}.")
    if reason := _refusal_reason(run, name):
        raise RunError(reason)
    copy = RunConfig.from_dict(run.config.to_dict())
    VARIANTS[name].change(copy, run)
    copy.training.resume_from_checkpoint = None  # a variant starts from the beginning
    return copy
