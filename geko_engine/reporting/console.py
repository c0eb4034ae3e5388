"""Prints the events of a run on a terminal: header, progress bar, partitions, final table."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

from geko_engine.reporting.events import (
    PAUSED,
    Answered,
    CheckpointSaved,
    DataChecked,
    DataIssuesFound,
    DataPreviewed,
    Evaluated,
    Event,
    LengthChecked,
    Message,
    ModelSaved,
    Partitioned,
    PhaseChanged,
    RetentionMeasured,
    RunEnded,
    RunStarted,
    StepCompleted,
    StepEstimated,
)

WIDTH = 60
OPTION_NAMES = {
    "gradient_accumulation_steps": "Grad accum",
    "attn_implementation": "Attention",
    "max_tokens_per_batch": "Tokens per batch",
    "padding_free": "Padding-free",
    "gradient_checkpointing": "Grad checkpointing",
    "compile_model": "torch.compile",
    "use_8bit_optimizer": "8-bit optimizer",  # of version 1
    "weights": "Weights held in",
    "optim": "Optimizer",
    "lr_scheduler_type": "Schedule",
    "dataloader_workers": "DataLoader workers",
    "average_weights": "Averaged weights",
    "warmup_steps": "Warmup steps",
    "num_epochs": "Length",
    "max_minutes": "Time limit (min)",
    "early_stopping_patience": "Early stopping",
    "use_curriculum": "Curriculum",
}
BUCKETS = ("freeze", "light", "focus", "hard")


class Console:
    """A listener that prints events.

    Args:
        log_bucket_stats: print the bucket counts of each epoch.
        logging_steps: without a terminal, print the loss every N steps.
        stream: default standard error, so that standard output can be piped.
    """

    def __init__(
        self, log_bucket_stats: bool = True, logging_steps: int = 100, *, stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._log_bucket_stats, self._logging_steps = log_bucket_stats, logging_steps
        self._bar: Any = None
        self._bar_step = 0
        self._started: RunStarted | None = None
        self._epoch_seen = -1

    def __call__(self, event: Event) -> None:
        handler: Callable[[Any], None] | None = getattr(self, f"_on_{type(event).__name__}", None)
        if handler:
            handler(event)

    def _print(self, text: str = "") -> None:
        tqdm.write(text, file=self._stream)

    def _on_PhaseChanged(self, event: PhaseChanged) -> None:
        # During training the progress bar moves; before it, or while it waits, a line says what takes the time.
        if (self._started is None and event.done == 0) or event.phase == PAUSED:
            phase = "loading" if event.phase == "downloading" else event.phase  # it may be on this machine already
            self._print(f"[GEKO] {phase}: {event.message}")

    def _on_DataPreviewed(self, event: DataPreviewed) -> None:
        first = "".join(f"⟦{text}⟧" if learned else text for text, learned in event.samples[0])
        self._print(f"{event.shape}\nThe first sample, with the learned part in ⟦brackets⟧:\n\n{first}\n")

    def _on_DataChecked(self, event: DataChecked) -> None:
        share = 100 * event.target_tokens / max(1, event.tokens)
        self._print(
            f"{event.name.capitalize()} data {event.source}: {event.samples:,} samples from {event.rows:,} rows, "
            f"{event.tokens:,} tokens ({share:.1f} % learned), longest {event.longest:,}"
        )
        for finding in event.findings:
            self._print(f"  {finding['sentence']}")

    def _on_DataIssuesFound(self, event: DataIssuesFound) -> None:
        self._print("Issues of the training data:")
        for finding in event.findings:
            self._print(f"  {finding['sentence']}")

    def _on_StepEstimated(self, event: StepEstimated) -> None:
        self._print(f"{event.parameters:,} parameters, {event.trainable:,} trainable. {event.sentence}")
        for name, size in event.parts.items():
            self._print(f"  {name:<12} {size / 1e6:10,.1f} MB")
        self._print(
            f"{event.steps:,} steps in about {event.seconds:,.0f} s, less once samples are mastered; evaluation and answers come on top."
        )

    def _on_RunStarted(self, event: RunStarted) -> None:
        self._started = event
        share = 100 * event.trainable_parameters / max(1, event.parameters)
        self._print("=" * WIDTH + "\nGEKO Training\n" + "=" * WIDTH)
        for name, value in (
            ("Model", event.model),
            ("Samples", f"{event.samples:,}"),
            ("Evaluation", f"{event.eval_samples:,}"),
            ("Epochs", event.epochs),
            ("Batch size", event.batch_size),
            ("Steps per epoch", f"{event.steps_per_epoch:,}"),
            *([("Steps", f"{event.max_steps:,} (max_steps)")] if event.max_steps else []),
            ("Tokens per epoch", f"{event.tokens_per_epoch:,} ({event.target_tokens_per_epoch:,} targets)"),
            ("Parameters", f"{event.parameters:,} ({share:.4g}% trainable)"),
            ("Device", event.device + (f", {event.processes} processes" if event.processes > 1 else "")),
            ("Precision", event.precision.upper()),
            *(option(name, value) for name, value in event.options.items()),
        ):
            self._print(f"{name:<18}: {value}")
        if event.mastery_reason:
            self._print(f"{'Mastery':<18}: {event.mastery}. {event.mastery_reason}")
        self._print("=" * WIDTH)

    def _on_LengthChecked(self, event: LengthChecked) -> None:
        self._print(f"[GEKO] After {event.epochs:.1f} epochs: held-out loss {event.loss:.4f}. {event.sentence}")

    def _on_RetentionMeasured(self, event: RetentionMeasured) -> None:
        self._print(f"[GEKO] Loss on general rows: {event.loss:.4f}")

    def _on_Answered(self, event: Answered) -> None:
        exact = [answer["exact"] for answer in event.answers if answer["exact"] is not None]
        right = f", {sum(exact)} of {len(exact)} exactly" if exact else ""
        self._print(f"[GEKO] {len(event.answers)} prompts answered{right} ({event.seconds:.1f} s)")

    def _on_Partitioned(self, event: Partitioned) -> None:
        self._close_bar()
        if not self._log_bucket_stats:
            return
        total = max(1, event.freeze + event.light + event.focus + event.hard + event.unseen)
        parts = [
            f"{name.upper()}: {getattr(event, name):,} ({100 * getattr(event, name) / total:.1f}%)" for name in BUCKETS
        ]
        extra = f" | replayed {event.replayed:,}" if event.replayed else ""
        extra += f" | left out {event.left_out:,}" if event.left_out else ""
        extra += f" | pruned {event.pruned:,}" if event.pruned else ""
        if event.unseen < total:
            self._print(f"[GEKO] Partition before epoch {event.epoch + 1}: {' | '.join(parts)}")
        self._print(f"[GEKO] Epoch {event.epoch + 1} plans {event.planned:,} of {total:,} samples{extra}")

    def _on_StepCompleted(self, event: StepCompleted) -> None:
        if event.epoch != self._epoch_seen or self._bar is None:
            self._open_bar(event)
        total = max(1, event.freeze + event.light + event.focus + event.hard + event.unseen)
        shares = " ".join(f"{name[:2].upper()} {100 * getattr(event, name) / total:.0f}%" for name in BUCKETS)
        phase = f" {event.phase}" if event.phase else ""
        self._bar.set_postfix_str(
            f"loss {event.loss:.3f}{phase} | {shares} | saved {100 * event.compute_saved_ratio:.1f}%", refresh=False
        )
        self._bar.update(event.step - self._bar_step)
        self._bar_step = event.step
        if not self._stream.isatty() and event.step % self._logging_steps == 0:
            self._print(
                f"[GEKO] step {event.step:,}: loss {event.loss:.4f}, saved {100 * event.compute_saved_ratio:.1f}%"
            )

    def _open_bar(self, event: StepCompleted) -> None:
        self._close_bar()
        started = self._started
        epochs = max(started.epochs, event.epoch + 1) if started else 0  # max_steps may take more than were planned
        remaining_epochs = max(0, epochs - event.epoch - 1)
        per_epoch = (event.steps_planned - event.step + 1) // (remaining_epochs + 1)
        self._bar = tqdm(
            total=per_epoch,
            desc=f"Epoch {event.epoch + 1}/{epochs or '?'}",
            file=self._stream,
            mininterval=0.2,
            disable=not self._stream.isatty(),
            dynamic_ncols=True,
        )
        self._bar_step, self._epoch_seen = event.step - 1, event.epoch

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _on_Evaluated(self, event: Evaluated) -> None:
        when = "before training" if event.step == 0 else f"at step {event.step:,}"
        self._print(f"[GEKO] Evaluation {when}: loss {event.eval_loss:.4f}, exact match {100 * event.exact_match:.1f}%")

    def _on_CheckpointSaved(self, event: CheckpointSaved) -> None:
        self._print(f"[GEKO] Checkpoint saved to {event.path}")

    def _on_ModelSaved(self, event: ModelSaved) -> None:
        self._print(f"[GEKO] Model saved to {event.path} ({event.bytes / 1e6:.1f} MB)")

    def _on_Message(self, event: Message) -> None:
        prefix = "[GEKO] Warning: " if event.level == "warning" else "[GEKO] "
        self._print(event.text if event.text.startswith(("[GEKO]", "  ")) else prefix + event.text)

    def _on_RunEnded(self, event: RunEnded) -> None:
        self._close_bar()
        if not event.report:
            self._print(f"{event.field + ': ' if event.field else ''}{event.reason}")
        elif event.end != "failed":
            print_table(report_rows(event.report), self._stream)


def option(name: str, value: Any) -> tuple[str, str]:
    """(label, value) of one option, for the header."""
    shown = ("ON" if value else "OFF") if isinstance(value, bool) else value if isinstance(value, str) else f"{value:,}"
    return OPTION_NAMES.get(name, name), shown


def report_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The final table as (name, value) pairs, from the content of report.json."""

    def number(name: str, form: str = ",.0f", scale: float = 1.0, unit: str = "") -> str:
        value = report.get(name)
        return "–" if value is None else f"{value * scale:{form}}{unit}"

    def pair(name: str, form: str, scale: float = 1.0, unit: str = "") -> str:
        return f"{number(name + '_before', form, scale, unit)} → {number(name + '_after', form, scale, unit)}"

    end = ("End", f"{report['end']}: {report['reason']}")
    if not report.get("steps"):
        return [end]
    final = report.get("final_buckets", {})
    rows = [
        end,
        ("Samples", number("samples")),
        ("Epochs", f"{report.get('epochs_done', 0)} of {report.get('epochs', 0)}"),
        ("Steps", number("steps")),
        ("Forward tokens", number("tokens_forwarded")),
        ("Backward tokens", number("tokens_backwarded")),
        ("Plain training", number("plain_training_tokens") + " tokens, forward and backward"),
        (
            "Compute saved",
            number("compute_saved_ratio", ".2f", 100, " %")
            + f" (forward 1, backward {report.get('backward_cost', 2):.3g}, scans counted)",
        ),
        ("Time saved", time_saved(report)),
        ("Seconds", number("seconds", ".1f")),
        ("Train loss", number("train_loss", ".4f") + " (trained samples of the last epoch)"),
        ("Evaluation loss", pair("eval_loss", ".4f")),
        ("Exact match", pair("exact_match", ".1f", 100, " %")),
    ]
    for entry in report.get("buckets", []):
        if entry["unseen"] < report.get("samples", 0):
            rows.append((f"Before epoch {entry['epoch'] + 1}", _bucket_text(entry)))
    rows.append(("At the end", _bucket_text(final) if final else "–"))
    if report.get("model_path"):
        rows.append(("Model", report["model_path"]))
    return rows


def time_saved(report: dict[str, Any]) -> str:
    """The seconds of steps and scans beside those that plain training is estimated to take."""
    ratio, plain = report.get("seconds_saved_ratio"), report.get("plain_train_seconds")
    if ratio is None or plain is None:
        return "–"
    spent = report["train_seconds"] + report.get("scan_seconds", 0.0)
    return f"about {100 * ratio:.0f} % ({spent:,.0f} s of training; plain training, estimated from these steps: {plain:,.0f} s)"


def _bucket_text(counts: dict[str, int]) -> str:
    return "  ".join(f"{name.upper()} {counts[name]:,}" for name in BUCKETS)


def print_table(rows: list[tuple[str, str]], stream: TextIO) -> None:
    """Print two columns between rules; with rich, if it is installed and `stream` is a terminal."""
    if importlib.util.find_spec("rich") and stream.isatty():
        from rich import box
        from rich.console import Console as RichConsole
        from rich.table import Table

        table = Table("GEKO", "", box=box.SIMPLE_HEAVY, title_justify="left")
        for name, value in rows:
            table.add_row(name, value)
        RichConsole(file=stream).print(table)
        return
    print("=" * WIDTH, file=stream)
    for name, value in rows:
        print(f"{name:<18}: {value}", file=stream)
    print("=" * WIDTH, file=stream)
