"""The events of a look -> the card that the page draws of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geko_app.form.values import label_of
from geko_app.views.formatting import TITLES, compact, percent
from geko_engine.reporting.events import Message

PARTS = {
    "weights": "Weights",
    "gradients": "Gradients",
    "optimizer": "Optimizer",
    "activations": "Activations",
    "logits": "Logits",
}


def card(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is known by now; the page draws what is there."""
    last = {event["type"]: event for event in events}
    checked = {event["name"]: event for event in events if event["type"] == "DataChecked"}
    end, preview, step = last.get("RunEnded"), last.get("DataPreviewed"), last.get("StepEstimated")
    failed = end is not None and end["end"] == "failed"
    return {
        "running": end is None,
        "status": "" if end else status(last.get("PhaseChanged")),
        "error": error_text(end) if end and failed else "",
        "field": end["field"] if end and failed else "",
        "shape": preview["shape"] if preview else "",
        "samples": preview["samples"] if preview else [],
        "figures": [*data_figures(checked), *step_figures(step)],
        "lengths": checked["training"]["lengths"] if "training" in checked else [],
        "findings": [
            *(
                f"{name.capitalize()}: {found['sentence']}"
                for name, data in checked.items()
                for found in data["findings"]
            ),
            *(event["text"] for event in events if event["type"] == Message.__name__),
        ],
        "memory": memory(step),
    }


def status(phase: dict[str, Any] | None) -> str:
    """What is being done, with its counter."""
    if phase is None:
        return "Starting"
    counter = f" · {phase['done']:,} of {phase['total']:,}" if phase["total"] else ""
    title = "Adding up memory and time" if phase["phase"] == "scanning" else TITLES.get(phase["phase"], phase["phase"])
    return f"{title}{counter}"


def error_text(end: dict[str, Any]) -> str:
    """The reason of a failed look, with the label of its field."""
    return f"{label_of(end['field'])}: {end['reason']}" if end["field"] else str(end["reason"])


def data_figures(checked: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """The large figures of the data."""
    train, held = checked.get("training"), checked.get("evaluation")
    if train is None:
        return []
    share = train["target_tokens"] / max(1, train["tokens"])
    figures = [
        {"name": "Samples", "value": f"{train['samples']:,}", "note": f"of {train['rows']:,} rows"},
        {
            "name": "Tokens learnt",
            "value": percent(share),
            "note": f"{compact(train['target_tokens'])} of {compact(train['tokens'])}",
        },
        {"name": "Longest sample", "value": f"{train['longest']:,}", "note": "tokens"},
    ]
    note = held["source"] if held else "no evaluation data"
    return [*figures, {"name": "Evaluation", "value": f"{held['samples']:,}" if held else "–", "note": note}]


def step_figures(step: dict[str, Any] | None) -> list[dict[str, str]]:
    """The large figures of memory and time."""
    if step is None:
        return []
    return [
        {"name": "Memory", "value": f"≈ {gigabytes(step['needed'], 0)}", "note": f"of {gigabytes(step['free'])} free"},
        {"name": "Time", "value": about(step["seconds"]), "note": "or less"},
    ]


def memory(step: dict[str, Any] | None) -> dict[str, Any] | None:
    """The estimate by part."""
    if step is None:
        return None
    whole = max(1, sum(step["parts"].values()))
    parts = [
        {"part": name, "name": PARTS[name], "text": gigabytes(size), "share": round(size / whole, 4)}
        for name, size in step["parts"].items()
    ]
    trained = "all trained" if step["trainable"] == step["parameters"] else f"{compact(step['trainable'])} trained"
    return {
        "verdict": step["verdict"],
        "sentence": step["sentence"],
        "parts": parts,
        "note": f"{compact(step['parameters'])} parameters, {trained}. At the longest batch, which comes first; counted "
        "on the model's structure without loading it.",
    }


def gigabytes(count: int, decimals: int = 1) -> str:
    """Bytes for a person; `decimals` of megabytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.{decimals}f} MB"


def about(seconds: float) -> str:
    """A duration in one figure: it is an estimate."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"≈ {seconds / size:.0f} {unit}" if seconds >= 3 * size else f"≈ {seconds / size:.1f} {unit}"
    return f"≈ {max(1, round(seconds))} s"
