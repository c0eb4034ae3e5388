"""What a trainer tells of itself: its events and its report, from counted figures only. Changes nothing but the bucket history."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from geko_engine.models.quantization import count_parameters
from geko_engine.reporting.events import EpochEnded, Evaluated, Event, Message, Partitioned, RunStarted, StepCompleted
from geko_engine.scoring.evaluation import Scan
from geko_engine.selection.epoch_plan import Plan
from geko_engine.selection.explanation import criterion_sentence, predicted_sentence
from geko_engine.selection.mastery import MASTERIES

if TYPE_CHECKING:
    from geko_engine.training.trainer import GEKOTrainer


def run_started(trainer: GEKOTrainer) -> RunStarted:
    """Model, data and device of the run."""
    total, trainable = count_parameters(trainer.model)
    return RunStarted(
        model=trainer.model_name,
        samples=len(trainer.samples),
        eval_samples=len(trainer.eval_samples or ()),
        epochs=trainer.args.num_epochs,
        steps_per_epoch=trainer.steps_per_epoch,
        batch_size=trainer.machine.step_size,
        tokens_per_epoch=trainer.tokens_per_epoch,
        target_tokens_per_epoch=int(trainer.samples.targets.sum()),
        parameters=total,
        trainable_parameters=trainable,
        device=str(trainer.machine.device),
        precision="fp32" if trainer.machine.precision == "no" else trainer.machine.precision,
        resumed_from_step=trainer.progress.step,
        processes=trainer.machine.processes,
        mastery=trainer.config.mastery if trainer.config.enabled else "",
        mastery_reason=MASTERIES[trainer.config.mastery].reason if trainer.config.enabled else "",
        options=options(trainer),
    )


def options(trainer: GEKOTrainer) -> dict[str, Any]:
    """The efficiency switches as they are, for the header."""
    args = trainer.args
    return {
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "gradient_checkpointing": args.gradient_checkpointing,
        "compile_model": trainer.machine.collate.multiple > 1,
        "use_8bit_optimizer": args.use_8bit_optimizer,
        "dataloader_workers": trainer.loader.workers,
        "warmup_steps": round(trainer.warmup * trainer.steps_per_epoch * args.num_epochs),
        "use_curriculum": trainer.config.enabled and trainer.config.use_curriculum,
    }


def partitioned(trainer: GEKOTrainer, plan: Plan) -> Partitioned:
    """The buckets before a pass, which are also kept for the report."""
    progress, counts = trainer.progress, asdict(trainer.states.counts())
    progress.buckets.append({"epoch": progress.epoch, "planned": len(plan.order), **counts})
    return Partitioned(
        epoch=progress.epoch,
        step=progress.step,
        planned=len(plan.order),
        replayed=plan.replayed,
        left_out=plan.left_out,
        suspects=plan.suspects,
        pruned=trainer.get_pruned_count(),
        **counts,
    )


def step_completed(trainer: GEKOTrainer, plan: Plan) -> StepCompleted:
    """The step that was just done."""
    progress, counter = trainer.progress, trainer.progress.counter
    later = (trainer.args.num_epochs - progress.epoch - 1) * round(plan.steps / plan.share)
    uniform, phase = trainer.tokens_uniform, trainer.phase()
    return StepCompleted(
        step=progress.step,
        epoch=progress.epoch,
        progress=trainer.share_done,
        steps_planned=progress.step + plan.steps - progress.step_in_plan + later,
        loss=trainer.last_loss,
        learning_rate=trainer.learning_rate,
        phase=phase.name if phase else "",
        samples=trainer.last_samples,
        tokens_forwarded=counter.forwarded,
        tokens_backwarded=counter.backwarded,
        tokens_uniform=uniform,
        compute_saved_ratio=counter.saved_ratio(uniform),
        seconds=progress.seconds,
        train_seconds=progress.train_seconds,
        **asdict(trainer.states.counts()),
    )


def evaluated(trainer: GEKOTrainer, found: Scan, seconds: float) -> Evaluated:
    """What the evaluation set came to."""
    progress = trainer.progress
    return Evaluated(
        progress.step,
        progress.epoch,
        found.mean_loss,
        found.exact_match,
        len(found.ids),
        progress.counter.backwarded,
        seconds,
    )


def epoch_ended(trainer: GEKOTrainer) -> list[Event]:
    """What there is to say at the end of an epoch."""
    progress = trainer.progress
    predicted, left_out = progress.predicted[-1], criterion(trainer)
    told: list[Event] = [
        EpochEnded(
            progress.epoch,
            progress.step,
            progress.train_loss or 0.0,
            predicted_left_out=predicted["left_out"],
            predicted_met=predicted["met"],
            predicted_right=predicted["right"],
            criterion=left_out,
        ),
        Message(f"Epoch {progress.epoch}: average loss {progress.train_loss:.4f}"),
    ]
    if predicted["left_out"]:
        sentence = predicted_sentence(predicted["left_out"], predicted["met"], predicted["right"])
        told.append(Message(f"Epoch {progress.epoch}: {sentence}"))
    if trainer.config.enabled and not progress.finished:
        found = trainer.states.counts().freeze > 0 or progress.epoch > 1  # a warning once is enough
        told.append(Message(f"Epoch {progress.epoch}: {left_out}", "info" if found else "warning"))
    return told


def criterion(trainer: GEKOTrainer) -> str:
    """What is left out as the record stands now, and why."""
    states = trainer.states
    return criterion_sentence(trainer.config, states.counts(), int(states.suspects().sum()), trainer.progress.churn)


def efficiency_report(trainer: GEKOTrainer, end: str) -> dict[str, Any]:
    """The content of report.json."""
    progress, counter = trainer.progress, trainer.progress.counter
    first, last = (progress.evaluations[0], progress.evaluations[-1]) if progress.evaluations else ({}, {})
    if len(progress.evaluations) < 2:
        last = {}
    return {
        "end": end,
        "reason": progress.reason or ("All epochs are done." if end == "complete" else ""),
        "samples": len(trainer.samples),
        "epochs": trainer.args.num_epochs,
        "epochs_done": progress.epoch,
        "steps": progress.step,
        "tokens_forwarded": counter.forwarded,
        "tokens_backwarded": counter.backwarded,
        "tokens_scanned": counter.scanned,
        "tokens_padding": counter.padding,
        "tokens_uniform": trainer.tokens_uniform,
        "compute_saved_ratio": counter.saved_ratio(trainer.tokens_uniform),
        "seconds": progress.seconds,
        "train_seconds": progress.train_seconds,
        "train_loss": progress.train_loss,
        "eval_loss_before": first.get("eval_loss"),
        "eval_loss_after": last.get("eval_loss"),
        "exact_match_before": first.get("exact_match"),
        "exact_match_after": last.get("exact_match"),
        "buckets": progress.buckets,
        "predicted": progress.predicted,
        "churn": progress.churn,
        "final_buckets": asdict(trainer.states.counts()),
        "pruned": trainer.get_pruned_count(),
        "mastery": trainer.config.mastery if trainer.config.enabled else "",
        "mastery_reason": MASTERIES[trainer.config.mastery].reason if trainer.config.enabled else "",
        "criterion": criterion(trainer),
    }
