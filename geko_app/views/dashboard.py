"""A run's snapshot -> the texts and numbers that the dashboard draws. Pure; every label derives from the one snapshot."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Sequence
from typing import Any

from geko_app.form.values import field_of, groups_of, label_of
from geko_app.formatting import (
    BUCKET_LABELS,
    end_words,
    format_count,
    format_duration,
    format_eta,
    format_loss,
    format_number,
    format_percent,
    format_time,
    phase_title,
    run_name,
)
from geko_app.runs.curve import Point
from geko_app.runs.lanes import gpu_words
from geko_app.runs.live_state import BUCKETS, Evaluation, RunState, Snapshot
from geko_app.runs.queue import QUEUED
from geko_app.runs.store import RunEntry
from geko_app.views.answers import answers_table
from geko_app.views.charts import columns
from geko_app.views.run_summary import summary
from geko_engine.config.training_choices import AUTO
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.status import Status
from geko_engine.selection.explanation import in_past_tense

POINT_LIMIT = 2000  # points of a history that a tab draws at first
QUIET_SECONDS = 10  # without a heartbeat for longer, the page says so
EARLY = ("starting", "downloading", "tokenising")  # nothing is trained yet, so there is nothing to save
SAVING = "Saving a checkpoint: a large one may take up to an hour. End now does not wait for it."
STARTS_NEXT = "starts next"  # a queued run that waits for nothing
NOTHING: dict[str, Any] = {  # what a poll gets while there is no run to show
    "run": None,
    "phase": "ready",
    "running": False,
    "queued": False,
    "waiting": "",
    "stopping": False,
    "resumable": False,
    "progress": 0,
    "field": "",
    "status": {"title": "Ready", "detail": "", "life": ""},
}


@dataclasses.dataclass(frozen=True)
class Cursor:
    """What a tab has drawn already of the history `generation`: the points up to a step, so many evaluations and log lines.

    answers: the step of the newest round of answers, plus 1; 0 for none.
    """

    generation: int = 0
    points: int = 0
    evaluations: int = 0
    log: int = 0
    answers: int = 0


def with_status(snapshot: Snapshot, status: Status | None) -> Snapshot:
    """The snapshot, corrected by what only status.json knows: a run in the queue, and an end without an event."""
    if status is not None and status.phase == QUEUED:
        return dataclasses.replace(snapshot, phase=QUEUED, end="", reason="", field="", report=None, message="")
    if status is not None and (status.end == "interrupted" or (status.end == "stopped" and not status.pid)):
        return dataclasses.replace(snapshot, phase=status.end, end=status.end, reason=status.reason, message="")
    return snapshot


def payload(
    folder: RunFolder, state: RunState, cursor: Cursor, *, alive: bool, queued: tuple[int, str] = (0, "")
) -> dict[str, Any]:
    """What one poll of the page gets: the history after `cursor` (all of it if it was cut since), and all else anew.

    Args:
        folder: the run.
        state: its events, folded.
        cursor: what the tab has drawn already.
        alive: whether its worker is alive.
        queued: place in the queue of a run that waits there, and what it waits for in words, "" where it starts next.
    """
    status = folder.status()
    snapshot = with_status(state.snapshot(), status)
    same = cursor.generation == snapshot.generation and cursor.points <= snapshot.points
    had = cursor if same else Cursor(snapshot.generation, log=cursor.log)
    points = state.curve.since(had.points, POINT_LIMIT)
    answered = state.answers[-1]["step"] + 1 if state.answers else 0
    next_cursor = Cursor(snapshot.generation, snapshot.points, len(state.evaluations), state.logged, answered)
    return {
        "run": folder.id,
        "had": dataclasses.asdict(had),
        "next": dataclasses.asdict(next_cursor),
        "points": columns(points, Point._fields),
        "evaluations": columns(state.evaluations[had.evaluations :], Evaluation._fields),
        "answers": answers_table(state.answers) if answered != had.answers else None,
        "log": [[format_time(at), level, text] for at, level, text in state.log_since(had.log)],
        "phase": snapshot.phase,
        "running": alive and not snapshot.end,
        "queued": snapshot.phase == QUEUED,
        "stopping": alive and folder.stop_path.exists(),
        "resumable": bool(snapshot.end) and snapshot.end != "complete" and not alive,
        "field": snapshot.field if snapshot.end == "failed" else "",
        "group": "".join(groups_of([field_of(snapshot.field)])) if snapshot.end == "failed" else "",
        "reason": snapshot.reason,
        "status": queued_line(*queued)
        if snapshot.phase == QUEUED
        else status_line(snapshot, status, alive=alive, stopping=alive and folder.stop_path.exists()),
        "summary": summary(snapshot, folder) if snapshot.end else None,
        **_drawn(snapshot, state),
    }


def _drawn(snapshot: Snapshot, state: RunState) -> dict[str, Any]:
    """What the cards of the dashboard show, whatever the tab has drawn already."""
    return {
        "progress": round(snapshot.progress, 4),
        "stats": stats(snapshot),
        "buckets": bucket_rows(snapshot),
        "compute": compute_sentence(snapshot),
        "pace": pace_sentence(snapshot),
        "length": snapshot.length,
        "general": snapshot.general_loss is not None,
        "charts": {
            "evaluation": any(evaluation.loss is not None for evaluation in state.evaluations),
            "gradient": any(point.grad_norm is not None for point in state.curve.points),
        },
        "phases": state.phases,
        "step": snapshot.step,
        "mastery": mastery_sentence(snapshot),
        "settings": settings_line(snapshot),
    }


def mastery_sentence(snapshot: Snapshot) -> str:
    """What is skipped and why; before the end of the first epoch, what counts as mastered."""
    reason = snapshot.criterion or (snapshot.started or {}).get("mastery_reason", "")
    reason = in_past_tense(reason) if snapshot.end else reason
    return " ".join(filter(None, [reason, snapshot.predicted]))


def status_line(snapshot: Snapshot, status: Status | None, *, alive: bool, stopping: bool = False) -> dict[str, str]:
    """Title, detail and heartbeat of the status bar.

    Args:
        snapshot: the run.
        status: its status.json, for the heartbeat.
        alive: whether its worker is alive.
        stopping: whether a stop was requested.
    """
    detail = snapshot.reason if snapshot.end else snapshot.message
    if snapshot.end == "failed" and snapshot.field:
        detail = f"{label_of(snapshot.field)}: {detail}"
    if snapshot.total and not snapshot.end:
        detail = f"{detail + ' · ' if detail else ''}{snapshot.done:,} of {snapshot.total:,}"
    life = ""
    if alive and not snapshot.end and status is not None and status.heartbeat:
        age = max(0.0, time.time() - status.heartbeat)
        life = f"last update {age:.0f} s ago" if age < QUIET_SECONDS else f"no update for {age:.0f} s"
    title = phase_title(snapshot.phase)
    if snapshot.end:
        title, detail = end_words(snapshot.end, detail)
    if stopping and not snapshot.end:
        title, detail = "Stopping", "Ends in a moment." if snapshot.phase in EARLY else SAVING
    return {"title": title, "detail": detail, "life": life}


def queued_line(place: int, waits: str) -> dict[str, str]:
    """The status bar of a run at `place` of the queue, and what it waits for, such as "after NAME"."""
    return {"title": queued_title(place), "detail": waits or STARTS_NEXT, "life": ""}


def queued_title(place: int) -> str:
    """A queued run by its place in the queue, from 1; 0 where that is not known."""
    return f"{phase_title(QUEUED)} #{place}" if place else phase_title(QUEUED)


def queue_line(waiting: Sequence[str], active: int = 1) -> str:
    """How many runs are at work, where that are several, and which comes next; "" for one and an empty queue.

    Args:
        waiting: names of the queued runs.
        active: number of active runs.
    """
    more = f", then {len(waiting) - 1} more" if len(waiting) > 1 else ""
    following = f"Next in the queue: {waiting[0]}{more}." if waiting else ""
    return f"{active} runs at work. {following}".strip() if active > 1 else following


def queued_message(place: int, waits: str) -> str:
    """What the Start button says of a run that was queued, in Markdown.

    Args:
        place: in the queue, from 1.
        waits: what for, such as "after NAME"; "" where it starts next.
    """
    return f"*{queued_title(place)}, {waits or STARTS_NEXT}. It is listed on the Runs page.*"


def run_label(entry: RunEntry) -> str:
    """A run in a list to choose from: its name, or its date and model, and its state."""
    return f"{entry.name or run_name(entry.id)} · {'running' if entry.alive else phase_title(entry.phase).lower()}"


def with_gpus(settings: str, gpus: Collection[int]) -> str:
    """The line of the settings with the GPUs that the page gave the run, where it chose some."""
    return " · ".join(filter(None, [settings, gpu_words(gpus) if gpus else ""]))


def stats(snapshot: Snapshot) -> list[dict[str, str]]:
    """The seven stat boxes."""
    started = snapshot.started or {}
    epoch = min(snapshot.epoch + 1, started.get("epochs", 1))
    exact = f"{format_percent(snapshot.exact_match)} exact" if snapshot.exact_match is not None else ""
    planned = f"of {snapshot.steps_planned:,}" if snapshot.steps_planned else ""
    speed = format_number(snapshot.steps_per_second, ".2f")
    return [
        {"name": "Epoch", "value": f"{epoch if snapshot.step else 0}", "note": epochs_note(started)},
        {"name": "Step", "value": f"{snapshot.step:,}", "note": planned},
        {"name": "Compute saved", "value": format_percent(snapshot.compute_saved_ratio), "note": time_note(snapshot)},
        {"name": "Training loss", "value": format_loss(snapshot.average_loss), "note": "last 20 steps"},
        {"name": "Steps/s", "value": speed, "note": speed_note(snapshot)},
        time_box(snapshot),
        {"name": "Evaluation loss", "value": format_loss(snapshot.eval_loss), "note": exact},
    ]


def time_box(snapshot: Snapshot) -> dict[str, str]:
    """The time left of a run, or the time that it took."""
    if not snapshot.end:
        return {"name": "ETA", **format_eta(snapshot.eta_seconds)}
    return {"name": "Time", "value": format_duration((snapshot.report or {}).get("seconds")), "note": ""}


def epochs_note(started: dict[str, Any]) -> str:
    """Of how many epochs; a run that finds its length knows only a ceiling."""
    epochs, finds_length = started.get("epochs"), started.get("options", {}).get("num_epochs") == AUTO
    return f"of {'at most ' if finds_length else ''}{epochs}" if epochs else ""


def bucket_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Count and share of each bucket now, FREEZE first; unseen samples only while there are some."""
    total = max(1, sum(snapshot.buckets.values()))
    names = [*BUCKETS, "unseen"] if snapshot.buckets.get("unseen") else BUCKETS
    return [
        {
            "name": BUCKET_LABELS[name],
            "bucket": name,
            "count": f"{snapshot.buckets.get(name, 0):,}",
            "share": round(snapshot.buckets.get(name, 0) / total, 4),
        }
        for name in names
    ]


def compute_sentence(snapshot: Snapshot) -> str:
    """What the share of compute saved was counted from."""
    if not snapshot.plain_training_tokens:
        return ""
    done, costs, are = ("In total", "cost", "were") if snapshot.end else ("So far", "costs", "are")
    return (
        f"{done} {format_count(snapshot.tokens_forwarded)} tokens in forward passes and "
        f"{format_count(snapshot.tokens_backwarded)} in backward passes; plain training would have processed "
        f"{format_count(snapshot.plain_training_tokens)} in each. These are counts, not estimates: a forward pass {costs} 1 "
        f"per token, a backward pass {snapshot.backward_cost:.3g}, and scoring passes {are} included."
        f"{saved_seconds(snapshot)}"
    )


def saved_seconds(snapshot: Snapshot) -> str:
    """The time saved: the only estimate among the figures."""
    ratio = snapshot.seconds_saved_ratio
    if ratio is None or ratio >= 1:
        return ""
    seconds = snapshot.train_seconds * ratio / (1 - ratio)
    if abs(seconds) < 1:
        return ""
    return (
        f" Time {'saved' if seconds > 0 else 'lost'}: about {format_duration(abs(seconds))} of training, an estimate from the "
        "steps of this run, each of which takes a fixed time and a time for each token."
    )


def time_note(snapshot: Snapshot) -> str:
    """What the compute saved is in time, below it."""
    ratio = snapshot.seconds_saved_ratio
    return "vs. plain" if ratio is None else f"≈ {100 * ratio:.0f} % of time"


def speed_note(snapshot: Snapshot) -> str:
    """Trained tokens per second, below the steps per second."""
    speed = snapshot.tokens_per_second
    return "last 20 steps" if speed is None else f"{format_count(round(speed))} tokens/s"


def pace_sentence(snapshot: Snapshot) -> str:
    """The present learning rate, and the phase of the curriculum if there is one."""
    if snapshot.learning_rate is None:
        return ""
    phase = f" Curriculum phase: {snapshot.curriculum}." if snapshot.curriculum else ""
    value = f"{snapshot.learning_rate:.2e}"
    rate = f"Last learning rate: {value}." if snapshot.end else f"Current learning rate: {value}."
    return f"{rate} Tokens per second: trained tokens, averaged over 20 steps.{phase}"


def settings_line(snapshot: Snapshot) -> str:
    """What is being trained, in one line."""
    started = snapshot.started
    if not started:
        return ""
    trained = started["trainable_parameters"] / max(1, started["parameters"])
    share = "" if trained == 1 else f" ({100 * trained:.2g} % trained)"
    return (
        f"{started['model']} · {format_count(started['parameters'])} parameters{share} · "
        f"{started['samples']:,} samples · {started['device']} · {started['precision']}"
    )
