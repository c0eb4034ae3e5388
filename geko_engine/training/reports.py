"""The loop's figures -> events and the report. Pure; knows no rule and no screen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.models.attention import attention_of
from geko_engine.models.precision import held_in
from geko_engine.models.quantization import count_parameters
from geko_engine.reporting.events import (
    EpochEnded,
    Evaluated,
    Event,
    Message,
    Partitioned,
    RetentionMeasured,
    RunStarted,
    StepCompleted,
)
from geko_engine.scoring.evaluation import SampleScores
from geko_engine.selection.epoch_plan import Plan, steps_per_epoch
from geko_engine.selection.policy import EpochSummary, SelectionPolicy
from geko_engine.training.engine import TrainingEngine
from geko_engine.training.state import TrainerState

OPEN_ENDS = {
    "num_epochs",
    "max_minutes",
    "early_stopping_patience",
}  # options of a run that may end before its last epoch
ROWS_SHOWN = 8  # numbers in one sentence


@dataclass(frozen=True)
class RunInfo:
    """What stays the same in a run. Tokens are real ones (no padding) of one epoch over all samples.

    Attributes:
        epochs: of the run; with max_steps, as many as these take without selection. max_steps: optimizer steps after
            which the run ends; 0 where the epochs decide.
        batch_size: samples per forward pass of one process. options: efficiency switches, for the header.
    """

    model: str
    samples: int
    eval_samples: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    tokens_per_epoch: int
    target_tokens_per_epoch: int
    parameters: int
    trainable_parameters: int
    device: str
    precision: str
    processes: int
    max_steps: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def plain_training_tokens(self, state: TrainerState) -> int:
        """Tokens that plain training would have forwarded by now (all of its run when this one ended by itself)."""
        if not OPEN_ENDS.isdisjoint(self.options):  # nobody knows how long the plain run would have been
            return round(state.plain_tokens)
        if self.max_steps:
            early = state.finished and state.step < self.max_steps
            whole = self.tokens_per_epoch * self.max_steps / self.steps_per_epoch
            return round(whole if early else state.plain_tokens)
        if state.finished:
            return self.tokens_per_epoch * self.epochs
        return round(self.tokens_per_epoch * state.epoch + (state.epoch_plain_tokens if state.planned else 0.0))


def run_info(
    model: nn.Module,
    name: str,
    samples: Any,
    eval_samples: int,
    args: GEKOTrainingArgs,
    engine: TrainingEngine,
    warmup_steps: int,
    options: dict[str, Any],
) -> RunInfo:
    """What a run is made of. `warmup_steps`: of the learning rate. `options`: more entries for the header."""
    total, trainable = count_parameters(model)
    steps = steps_per_epoch(len(samples), engine.step_size)
    return RunInfo(
        model=name,
        samples=len(samples),
        eval_samples=eval_samples,
        epochs=args.planned_epochs(steps),
        steps_per_epoch=steps,
        batch_size=args.batch_size,
        tokens_per_epoch=int(samples.lengths.sum()),
        target_tokens_per_epoch=int(samples.targets.sum()),
        parameters=total,
        trainable_parameters=trainable,
        device=str(engine.device),
        precision="fp32" if engine.precision == "no" else engine.precision,
        processes=engine.processes,
        max_steps=args.step_limit,
        options={
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            **({"max_tokens_per_batch": args.max_tokens_per_batch} if args.max_tokens_per_batch else {}),
            "gradient_checkpointing": args.gradient_checkpointing,
            "compile_model": engine.is_compiled,
            "weights": held_in(model),
            **({"attn_implementation": attention_of(model)} if attention_of(model) else {}),
            "optim": args.optimizer,
            "lr_scheduler_type": args.schedule,
            **({"average_weights": True} if args.average_weights else {}),
            "warmup_steps": warmup_steps,
            **options,
            **args.open_end,
        },
    )


@dataclass(frozen=True)
class StepFigures:
    """One optimizer step. loss: mean over its target tokens. progress: share of the run done, in [0, 1].

    gradient_norm: before clipping; None where it was not finite.
    """

    loss: float
    learning_rate: float
    samples: int
    progress: float
    gradient_norm: float | None


def run_started(info: RunInfo, state: TrainerState, policy: SelectionPolicy) -> RunStarted:
    """Model, data and device of the run."""
    summary = policy.summary()
    return RunStarted(
        **asdict(info),
        resumed_from_step=state.step,
        resumed_from_seq=state.events,
        mastery=summary["mastery"],
        mastery_reason=summary["mastery_reason"],
    )


def partitioned(plan: Plan, state: TrainerState, policy: SelectionPolicy) -> Partitioned:
    """The buckets before an epoch."""
    return Partitioned(
        epoch=state.epoch,
        step=state.step,
        planned=len(plan.order),
        replayed=plan.replayed,
        left_out=plan.left_out,
        suspects=plan.suspects,
        pruned=policy.pruned_count(),
        **asdict(policy.counts()),
    )


def plain_steps(info: RunInfo, state: TrainerState, policy: SelectionPolicy) -> float:
    """Steps that plain training would have done by now: this run's own with max_steps, and where its end is open."""
    if not OPEN_ENDS.isdisjoint(info.options):
        return state.step
    if info.max_steps:
        return info.max_steps if state.finished else state.step
    if state.finished:
        return info.steps_per_epoch * info.epochs
    done = policy.plan.share_done(state.step_in_plan) if state.planned and policy.plan is not None else 0.0
    return info.steps_per_epoch * (state.epoch + done)


def plain_seconds(info: RunInfo, state: TrainerState, policy: SelectionPolicy) -> float | None:
    """Seconds that plain training would have spent on its steps by now.

    An estimate: the seconds that this run's steps took, and those of the steps and tokens that it left out, on the line
    through its own steps. None while that line is not known.
    """
    steps = plain_steps(info, state, policy) - state.step
    tokens = info.plain_training_tokens(state) - state.counter.backwarded
    return state.step_times.of_plain_training(state.train_seconds, steps, tokens)


def seconds_saved_ratio(info: RunInfo, state: TrainerState, policy: SelectionPolicy) -> float | None:
    """Share of plain training's seconds that steps and scans together did not take; see `plain_seconds`."""
    plain = plain_seconds(info, state, policy)
    return 1.0 - (state.train_seconds + state.scan_seconds) / plain if plain else None


def steps_planned(info: RunInfo, state: TrainerState, plan: Plan) -> int:
    """Optimizer steps of the run, as the present plan stands and without what may end it before."""
    later = (info.epochs - state.epoch - 1) * round(plan.steps / plan.share)
    return info.max_steps or state.step + plan.steps - state.step_in_plan + later


def step_completed(
    info: RunInfo, state: TrainerState, policy: SelectionPolicy, planned: int, figures: StepFigures
) -> StepCompleted:
    """The step that was just done; `planned`: steps of the run, as far as is known now."""
    counter, plain = state.counter, info.plain_training_tokens(state)
    phase = policy.phase(figures.progress)
    return StepCompleted(
        step=state.step,
        epoch=state.epoch,
        progress=figures.progress,
        steps_planned=planned,
        loss=figures.loss,
        learning_rate=figures.learning_rate,
        phase=phase.name if phase else "",
        samples=figures.samples,
        tokens_forwarded=counter.forwarded,
        tokens_backwarded=counter.backwarded,
        plain_training_tokens=plain,
        compute_saved_ratio=counter.saved_ratio(plain, state.backward_cost),
        backward_cost=state.backward_cost,
        seconds=state.seconds,
        train_seconds=state.train_seconds,
        grad_norm=figures.gradient_norm,
        seconds_saved_ratio=seconds_saved_ratio(info, state, policy),
        **asdict(policy.counts()),
    )


def skipped_sentence(samples: Any, ids: NDArray[Any], loss_sum: NDArray[Any], step: int) -> str:
    """Which samples of a step made its gradient useless.

    Args:
        ids: of the step [n]. loss_sum: of each, nats [n]; where all are finite, the gradient alone was not.
    """
    wrong = ~np.isfinite(loss_sum)
    named = ids[wrong] if wrong.any() else ids
    rows = getattr(samples, "rows", None)
    numbers = np.sort(named if rows is None else rows[named] + 1)
    shown = ", ".join(f"{number:,}" for number in numbers[:ROWS_SHOWN]) + (", …" if len(numbers) > ROWS_SHOWN else "")
    what = "loss" if wrong.any() else "gradient"
    kind = "row" if rows is not None else "sample"
    return f"The {what} of step {step:,} is not finite, so its update was skipped ({kind}s {shown})."


def evaluated(state: TrainerState, found: SampleScores, seconds: float) -> Evaluated:
    """What the evaluation set came to."""
    return Evaluated(
        state.step,
        state.epoch,
        found.mean_loss,
        found.exact_match,
        len(found.ids),
        state.counter.backwarded,
        seconds,
    )


def retention(state: TrainerState, found: SampleScores, seconds: float) -> RetentionMeasured:
    """The loss on the rows that show whether the model forgets."""
    return RetentionMeasured(
        state.step, state.epoch, found.mean_loss, len(found.ids), state.counter.backwarded, seconds
    )


def forgetting_sentence(before: float, now: float) -> str:
    """What to say of a model whose loss on general rows has risen from `before` to `now`, in nats."""
    return (
        f"The model forgets: its loss on general rows rose from {before:.3f} to {now:.3f} ({100 * (now / before - 1):.0f} %). "
        "A lower learning rate, fewer epochs or LoRA forget less, and so does mixing rows of general use into the data."
    )


def epoch_ended(state: TrainerState, summary: EpochSummary) -> list[Event]:
    """What there is to say at the end of an epoch."""
    ended = EpochEnded(
        state.epoch,
        state.step,
        state.train_loss or 0.0,
        predicted_left_out=summary.predicted_left_out,
        predicted_met=summary.predicted_met,
        predicted_right=summary.predicted_right,
        criterion=summary.criterion,
    )
    lines = [("info", f"average loss {state.train_loss:.4f}"), *summary.messages]
    return [ended, *(Message(f"Epoch {state.epoch}: {text}", level) for level, text in lines)]


def efficiency_report(info: RunInfo, state: TrainerState, policy: SelectionPolicy, end: str) -> dict[str, Any]:
    """The content of report.json."""
    counter, plain = state.counter, info.plain_training_tokens(state)
    first, last = (state.evaluations[0], state.evaluations[-1]) if state.evaluations else ({}, {})
    if len(state.evaluations) < 2:
        last = {}
    return {
        "end": end,
        "reason": state.reason or (_all_is_done(info) if end == "complete" else ""),
        "samples": info.samples,
        "epochs": info.epochs,
        "epochs_done": state.epoch,
        "steps": state.step,
        "tokens_forwarded": counter.forwarded,
        "tokens_backwarded": counter.backwarded,
        "tokens_scanned": counter.scanned,
        "tokens_padding": counter.padding,
        "plain_training_tokens": plain,
        "backward_cost": state.backward_cost,
        "compute_saved_ratio": counter.saved_ratio(plain, state.backward_cost),
        "seconds": state.seconds,
        "train_seconds": state.train_seconds,
        "scan_seconds": state.scan_seconds,
        "plain_train_seconds": plain_seconds(info, state, policy),
        "seconds_saved_ratio": seconds_saved_ratio(info, state, policy),
        "train_loss": state.train_loss,
        "eval_loss_before": first.get("eval_loss"),
        "eval_loss_after": last.get("eval_loss"),
        "exact_match_before": first.get("exact_match"),
        "exact_match_after": last.get("exact_match"),
        "general_loss_before": state.general_losses[0] if state.general_losses else None,
        "general_loss_after": state.general_losses[-1] if len(state.general_losses) > 1 else None,
        "best_step": state.best_step,
        **policy.summary(),
    }


def _all_is_done(info: RunInfo) -> str:
    return f"All {info.max_steps:,} steps are done." if info.max_steps else "All epochs are done."
