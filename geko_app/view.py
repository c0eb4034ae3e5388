"""A snapshot -> the texts and numbers that the dashboard draws. Pure; every label derives from the one snapshot."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from geko_app.form import field_of, groups_of, label_of
from geko_app.run_queue import QUEUED
from geko_app.run_state import BUCKETS, RunState, Snapshot
from geko_app.run_store import RunEntry
from geko_app.variants import offered
from geko_engine.disk import tells_full
from geko_engine.run_folder import RunFolder, Status

POINT_LIMIT = 1500  # points of a history that a tab draws at first
QUIET_SECONDS = 10  # without a heartbeat for longer, the page says so
TITLES = {
    "queued": "Queued",
    "starting": "Starting",
    "downloading": "Loading model and data",
    "tokenising": "Tokenising",
    "scanning": "Looking at samples",
    "training": "Training",
    "evaluating": "Evaluating",
    "saving": "Saving",
    "complete": "Complete",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}
EARLY = ("starting", "downloading", "tokenising")  # nothing is trained yet, so there is nothing to save
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
    """What a tab has already: so many points, evaluations and log lines of the history `generation`."""

    generation: int = 0
    points: int = 0
    evaluations: int = 0
    log: int = 0


def merged(snapshot: Snapshot, status: Status | None) -> Snapshot:
    """The snapshot with what only the status knows: that it waits, and the end of one that had no worker to tell it."""
    if status is not None and status.phase == QUEUED:
        return dataclasses.replace(snapshot, phase=QUEUED, end="", reason="", field="", report=None, message="")
    if status is not None and (status.end == "interrupted" or (status.end == "stopped" and not status.pid)):
        return dataclasses.replace(snapshot, phase=status.end, end=status.end, reason=status.reason, message="")
    return snapshot


def payload(
    folder: RunFolder, state: RunState, cursor: Cursor, *, alive: bool, after: str | None = None
) -> dict[str, Any]:
    """What one poll of the page gets: only what came after `cursor`, all of it when the history was cut since.

    `after` is the run that a queued one waits for.
    """
    status = folder.status()
    snapshot = merged(state.snapshot(), status)
    same = cursor.generation == snapshot.generation and cursor.points <= snapshot.points
    had = cursor if same else Cursor(snapshot.generation, log=cursor.log)
    points = state.points_since(had.points, POINT_LIMIT)
    return {
        "run": folder.id,
        "had": dataclasses.asdict(had),
        "next": dataclasses.asdict(Cursor(snapshot.generation, snapshot.points, len(state.evaluations), state.logged)),
        "points": [[rounded(value) for value in point] for point in points],
        "evaluations": [[e[0], rounded(e[1]), e[3], rounded(e[4])] for e in state.evaluations[had.evaluations :]],
        "log": [[clock(at), level, text] for at, level, text in state.log_since(had.log)],
        "phase": snapshot.phase,
        "running": alive and not snapshot.end,
        "queued": snapshot.phase == QUEUED,
        "stopping": alive and folder.stop_path.exists(),
        "resumable": bool(snapshot.end) and snapshot.end != "complete" and not alive,
        "field": snapshot.field if snapshot.end == "failed" else "",
        "group": "".join(groups_of([field_of(snapshot.field)])) if snapshot.end == "failed" else "",
        "reason": snapshot.reason,
        "status": queued_line(after)
        if snapshot.phase == QUEUED
        else status_line(snapshot, status, alive=alive, stopping=alive and folder.stop_path.exists()),
        "progress": round(snapshot.progress, 4),
        "stats": stats(snapshot),
        "buckets": bucket_rows(snapshot),
        "compute": compute_sentence(snapshot),
        "pace": pace_sentence(snapshot),
        "phases": state.phases,
        "step": snapshot.step,
        "mastery": mastery_sentence(snapshot),
        "summary": summary(snapshot, folder) if snapshot.end else None,
        "settings": settings_line(snapshot),
    }


def mastery_sentence(snapshot: Snapshot) -> str:
    """What is left out and why; before the first epoch is done, what it takes for mastered."""
    told = snapshot.criterion or (snapshot.started or {}).get("mastery_reason", "")
    return " ".join(filter(None, [told, snapshot.predicted]))


def status_line(snapshot: Snapshot, status: Status | None, *, alive: bool, stopping: bool = False) -> dict[str, str]:
    """Title, detail and sign of life of the status bar."""
    detail = snapshot.reason if snapshot.end else snapshot.message
    if snapshot.end == "failed" and snapshot.field:
        detail = f"{label_of(snapshot.field)}: {detail}"
    if snapshot.total and not snapshot.end:
        detail = f"{detail + ' · ' if detail else ''}{snapshot.done:,} of {snapshot.total:,}"
    life = ""
    if alive and not snapshot.end and status is not None and status.heartbeat:
        age = max(0.0, time.time() - status.heartbeat)
        life = f"alive, {age:.0f} s ago" if age < QUIET_SECONDS else f"no sign of life for {age:.0f} s"
    title = TITLES.get(snapshot.phase, snapshot.phase)
    if stopping and not snapshot.end:
        title, detail = (
            "Stopping",
            "It ends in a moment." if snapshot.phase in EARLY else "A checkpoint is being saved.",
        )
    return {"title": title, "detail": detail, "life": life}


def queued_line(after: str | None) -> dict[str, str]:
    """The status bar of a run that waits for the run `after`."""
    return {"title": TITLES[QUEUED], "detail": f"after {run_name(after)}" if after else "begins next", "life": ""}


def queue_line(waiting: Sequence[str]) -> str:
    """Who comes next, for whoever looks at the run before; "" when nobody waits."""
    more = f", then {len(waiting) - 1} more" if len(waiting) > 1 else ""
    return f"Next in the queue: {run_name(waiting[0])}{more}." if waiting else ""


def run_name(run_id: str) -> str:
    """A run by when it was made, its model and the end of its id, which tells two of one minute apart."""
    made = re.fullmatch(r"\d{4}(\d\d)(\d\d)-(\d\d)(\d\d)\d\d-(.+)-(\w{4})", run_id)
    return f"{made[2]}.{made[1]}. {made[3]}:{made[4]} · {made[5]} · {made[6]}" if made else run_id


def run_label(entry: RunEntry) -> str:
    """A run in the list of runs: when it was started, the model, and where it stands."""
    return f"{run_name(entry.id)} · {'running' if entry.alive else TITLES.get(entry.phase, entry.phase).lower()}"


def stats(snapshot: Snapshot) -> list[dict[str, str]]:
    """The seven stat boxes."""
    started = snapshot.started or {}
    epochs, epoch = started.get("epochs"), min(snapshot.epoch + 1, started.get("epochs", 1))
    exact = f"{percent(snapshot.exact_match)} exact" if snapshot.exact_match is not None else ""
    ratio = snapshot.compute_saved_ratio
    return [
        {"name": "Epoch", "value": f"{epoch if snapshot.step else 0}", "note": f"of {epochs}" if epochs else ""},
        {
            "name": "Step",
            "value": f"{snapshot.step:,}",
            "note": f"of {snapshot.steps_planned:,}" if snapshot.steps_planned else "",
        },
        {
            "name": "Compute saved",
            "value": percent(ratio),
            "note": "against plain",
        },
        {"name": "Avg loss", "value": number(snapshot.average_loss, ".3f"), "note": "last 20 steps"},
        {"name": "Steps/sec", "value": number(snapshot.steps_per_second, ".2f"), "note": speed_note(snapshot)},
        {"name": "ETA", **remaining(snapshot.eta_seconds)},
        {"name": "Eval loss", "value": number(snapshot.eval_loss, ".3f"), "note": exact},
    ]


def bucket_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Count and share of each bucket now, FREEZE first; what was not seen yet only while there is such."""
    total = max(1, sum(snapshot.buckets.values()))
    names = [*BUCKETS, "unseen"] if snapshot.buckets.get("unseen") else BUCKETS
    return [
        {
            "name": "not seen" if name == "unseen" else name.upper(),
            "bucket": name,
            "count": f"{snapshot.buckets.get(name, 0):,}",
            "share": round(snapshot.buckets.get(name, 0) / total, 4),
        }
        for name in names
    ]


def compute_sentence(snapshot: Snapshot) -> str:
    """What the share of compute saved was counted from."""
    if not snapshot.tokens_uniform:
        return ""
    return (
        f"So far {compact(snapshot.tokens_forwarded)} tokens forwarded and {compact(snapshot.tokens_backwarded)} "
        f"backwarded, where plain training would have done {compact(snapshot.tokens_uniform)} of each. "
        f"Counted, not estimated: a forward pass is 1, a backward pass 2, scans included.{saved_seconds(snapshot)}"
    )


def saved_seconds(snapshot: Snapshot) -> str:
    """What the saved tokens would have taken at the present speed; this one is an estimate, and says so."""
    ratio = snapshot.compute_saved_ratio or 0.0
    if not 0 < ratio < 1:
        return ""
    seconds = snapshot.train_seconds * ratio / (1 - ratio)
    return (
        ""
        if seconds < 1
        else f" At this run's speed per token the rest would have taken about {duration(seconds)} more."
    )


def speed_note(snapshot: Snapshot) -> str:
    """Trained tokens per second beside the steps."""
    speed = snapshot.tokens_per_second
    return "last 20 steps" if speed is None else f"{compact(round(speed))} tokens/s"


def pace_sentence(snapshot: Snapshot) -> str:
    """The learning rate now, and the curriculum's phase where there is one."""
    if snapshot.learning_rate is None:
        return ""
    phase = f" The curriculum is in its phase {snapshot.curriculum}." if snapshot.curriculum else ""
    return f"Learning rate {snapshot.learning_rate:.2e} now. Tokens per second are trained ones, over 20 steps.{phase}"


def summary(snapshot: Snapshot, folder: RunFolder) -> dict[str, Any]:
    """The card at the end: figures, where the model is, and how to load it."""
    model = str(folder.model_path.resolve()) if folder.model_path.is_dir() else ""
    return {
        "end": snapshot.end,
        "title": TITLES[snapshot.end],
        "reason": snapshot.reason,
        "rows": figures_at_the_end(snapshot),
        "folder": str(folder.path.resolve()),
        "model": model,
        "code": loading_code(model, adapter=(folder.model_path / "adapter_config.json").exists()) if model else "",
        "variants": [] if tells_full(snapshot.reason) else offered(folder.config(), snapshot.end, snapshot.field),
        "room": tells_full(snapshot.reason),
    }


def figures_at_the_end(snapshot: Snapshot) -> list[tuple[str, str]]:
    """(name, text) pairs from the report; from what was seen last where a killed worker wrote none."""
    report = snapshot.report or {}
    if not snapshot.step and not report.get("steps"):
        return []
    saved = report.get("compute_saved_ratio", snapshot.compute_saved_ratio)
    rows = [
        ("Evaluation loss", before_after(report, "eval_loss", snapshot.eval_loss, lambda v: f"{v:.3f}")),
        ("Exact match", before_after(report, "exact_match", snapshot.exact_match, lambda v: f"{100 * v:.1f} %")),
        ("Compute saved", percent(saved)),
        ("Loss on trained samples", number(report.get("train_loss") or snapshot.average_loss, ".3f")),
        ("Steps", f"{report.get('steps', snapshot.step):,}"),
        (
            "Tokens trained",
            f"{compact(report.get('tokens_backwarded', snapshot.tokens_backwarded))} of "
            f"{compact(report.get('tokens_uniform', snapshot.tokens_uniform))}",
        ),
    ]
    return rows + ([("Time", duration(report["seconds"]))] if report.get("seconds") is not None else [])


def before_after(report: dict[str, Any], name: str, last: float | None, shown: Callable[[float], str]) -> str:
    """ "before → after" of an evaluated figure, or the last one known."""
    before, after = report.get(f"{name}_before"), report.get(f"{name}_after")
    if before is None or after is None:
        value = last if after is None else after
        return "–" if value is None else shown(value)
    return f"{shown(before)} → {shown(after)}"


def loading_code(model: str, *, adapter: bool) -> str:
    """Three lines of Python that load what was trained."""
    package, kind = ("peft", "AutoPeftModelForCausalLM") if adapter else ("transformers", "AutoModelForCausalLM")
    imports = f"from {package} import {kind}\nfrom transformers import AutoTokenizer" if adapter else ""
    return (
        f"{imports or 'from transformers import AutoModelForCausalLM, AutoTokenizer'}\n"
        f"model = {kind}.from_pretrained({model!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({model!r})"
    )


def settings_line(snapshot: Snapshot) -> str:
    """What is being trained, in one line."""
    started = snapshot.started
    if not started:
        return ""
    trained = started["trainable_parameters"] / max(1, started["parameters"])
    share = "" if trained == 1 else f" ({100 * trained:.2g} % trained)"
    return (
        f"{started['model']} · {started['parameters'] / 1e6:.3g} M parameters{share} · {started['samples']:,} samples · "
        f"{started['device']} · {started['precision']}"
    )


def rounded(value: float | None) -> float | None:
    """A figure as precise as a chart shows it."""
    return None if value is None else float(f"{value:.6g}")


def number(value: float | None, form: str) -> str:
    """A figure, or a dash where nothing is known."""
    return "–" if value is None else f"{value:{form}}"


def percent(ratio: float | None) -> str:
    """A share in per cent."""
    return "–" if ratio is None else f"{100 * ratio:.1f} %"


def compact(count: int) -> str:
    """A count as people write it: 812, 41.2 k, 3.05 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count}"


def remaining(seconds: float | None) -> dict[str, str]:
    """The time left, short enough for a stat box: value and unit."""
    if seconds is None:
        return {"value": "–", "note": ""}
    whole = round(seconds)
    if whole < 60:
        return {"value": f"{whole} s", "note": "left"}
    if whole < 3600:
        return {"value": f"{whole // 60}:{whole % 60:02d}", "note": "min left"}
    return {"value": f"{whole // 3600}:{whole % 3600 // 60:02d}", "note": "h left"}


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(at: float) -> str:
    """Time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at))
