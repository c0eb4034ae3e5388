"""A snapshot -> the texts and numbers that the dashboard draws. Pure; every label derives from the one snapshot."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from geko_app.form import label_of
from geko_app.run_state import BUCKETS, RunState, Snapshot
from geko_engine.run_folder import RunFolder, Status

POINT_LIMIT = 1500
TITLES = {
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


def merged(snapshot: Snapshot, status: Status | None) -> Snapshot:
    """The snapshot with the end that only the status knows: a killed worker writes no event."""
    if status is not None and status.end == "interrupted":
        return dataclasses.replace(snapshot, phase="interrupted", end="interrupted", reason=status.reason, message="")
    return snapshot


def payload(folder: RunFolder, state: RunState, *, since: int, generation: int, alive: bool) -> dict[str, Any]:
    """What one poll of the page gets: only points from `since` on, all of them when the history was cut."""
    status = folder.status()
    snapshot = merged(state.snapshot(), status)
    first = since if generation == snapshot.generation and since <= snapshot.points else 0
    return {
        "run": folder.id,
        "generation": snapshot.generation,
        "since": first,
        "next": snapshot.points,
        "points": [[round(value, 5) for value in point] for point in state.points_since(first, POINT_LIMIT)],
        "evaluations": [[step, round(loss, 5)] for step, loss, _ in state.evaluations],
        "phase": snapshot.phase,
        "running": alive,
        "resumable": bool(snapshot.end) and snapshot.end != "complete" and not alive,
        "status": status_line(snapshot, status, alive),
        "progress": round(snapshot.progress, 4),
        "stats": stats(snapshot),
        "buckets": bucket_rows(snapshot),
        "compute": compute_sentence(snapshot),
        "summary": summary(snapshot, folder) if snapshot.end else None,
        "log": [[clock(at), level, text] for at, level, text in state.log],
        "settings": settings_line(snapshot),
    }


def status_line(snapshot: Snapshot, status: Status | None, alive: bool) -> dict[str, str]:
    """Title, detail and sign of life of the status bar."""
    detail = snapshot.reason if snapshot.end else snapshot.message
    if snapshot.end == "failed" and snapshot.field:
        detail = f"{label_of(snapshot.field)}: {detail}"
    if snapshot.total and not snapshot.end:
        detail = f"{detail + ' · ' if detail else ''}{snapshot.done:,} of {snapshot.total:,}"
    life = ""
    if alive and status is not None and status.heartbeat:
        age = max(0.0, time.time() - status.heartbeat)
        life = "alive" if age < 10 else f"no sign of life for {age:.0f} s"
    return {"title": TITLES.get(snapshot.phase, snapshot.phase), "detail": detail, "life": life}


def stats(snapshot: Snapshot) -> list[dict[str, str]]:
    """The seven stat boxes."""
    started = snapshot.started or {}
    epochs, epoch = started.get("epochs"), min(snapshot.epoch + 1, started.get("epochs", 1))
    exact = f"{100 * snapshot.exact_match:.1f} % exact" if snapshot.exact_match is not None else ""
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
            "value": f"{100 * ratio:.1f} %" if ratio is not None else "–",
            "note": "vs. plain",
        },
        {"name": "Avg loss", "value": number(snapshot.average_loss, ".3f"), "note": "last 20 steps"},
        {"name": "Steps/sec", "value": number(snapshot.steps_per_second, ".2f"), "note": "last 20 steps"},
        {"name": "ETA", **remaining(snapshot.eta_seconds)},
        {"name": "Eval loss", "value": number(snapshot.eval_loss, ".3f"), "note": exact},
    ]


def bucket_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Count and share of each bucket now, FREEZE first."""
    total = max(1, sum(snapshot.buckets.values()))
    return [
        {
            "name": name.upper(),
            "count": f"{snapshot.buckets.get(name, 0):,}",
            "share": round(snapshot.buckets.get(name, 0) / total, 4),
        }
        for name in BUCKETS
    ]


def compute_sentence(snapshot: Snapshot) -> str:
    """What the share of compute saved was counted from."""
    if not snapshot.tokens_uniform:
        return ""
    return (
        f"{snapshot.tokens_forwarded:,} tokens forwarded and {snapshot.tokens_backwarded:,} backwarded; plain training "
        f"would have done {snapshot.tokens_uniform:,} of each by now. Forward counts 1, backward 2."
    )


def summary(snapshot: Snapshot, folder: RunFolder) -> dict[str, Any]:
    """The card at the end: figures, where the model is, and how to load it."""
    report = snapshot.report or {}
    rows: list[tuple[str, str]] = []
    if report.get("steps"):
        exact = [report.get(f"exact_match_{when}") for when in ("before", "after")]
        rows = [
            (
                "Evaluation loss",
                f"{number(report['eval_loss_before'], '.3f')} → {number(report['eval_loss_after'], '.3f')}",
            ),
            ("Exact match", " → ".join(f"{100 * e:.1f} %" if e is not None else "–" for e in exact)),
            ("Compute saved", f"{100 * report['compute_saved_ratio']:.1f} %"),
            ("Final loss (trained samples)", number(report["train_loss"], ".3f")),
            ("Steps", f"{report['steps']:,}"),
            ("Tokens trained", f"{report['tokens_backwarded']:,} of {report['tokens_uniform']:,}"),
            ("Time", duration(report["seconds"])),
        ]
    model = str(folder.model_path.resolve()) if folder.model_path.is_dir() else ""
    kind = (
        "AutoPeftModelForCausalLM"
        if model and (folder.model_path / "adapter_config.json").exists()
        else "AutoModelForCausalLM"
    )
    package = "peft" if kind.startswith("AutoPeft") else "transformers"
    code = f'from {package} import {kind}\n\nmodel = {kind}.from_pretrained("{model}")' if model else ""
    return {
        "end": snapshot.end,
        "title": TITLES[snapshot.end],
        "reason": snapshot.reason,
        "rows": rows,
        "folder": str(folder.path.resolve()),
        "model": model,
        "code": code,
    }


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


def number(value: float | None, form: str) -> str:
    """A figure, or a dash where nothing is known."""
    return "–" if value is None else f"{value:{form}}"


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
