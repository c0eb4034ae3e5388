"""The events of a preview -> the card that the page draws of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geko_app.form.values import label_of
from geko_app.formatting import (
    UNKNOWN,
    format_count,
    format_estimated_duration,
    format_memory,
    format_percent,
    phase_title,
)
from geko_engine.reporting.events import DataIssuesFound, Message

Event = Mapping[str, Any]
CHANGES_TRAINING = ("truncated", "empty", "masked", "unusable", "changed")  # kinds of findings
WORTH_A_WARNING = 0.1  # of the rows
MEMORY_PARTS = {
    "weights": "Weights",
    "gradients": "Gradients",
    "optimizer": "Optimizer",
    "activations": "Activations",
    "logits": "Logits",
    "average": "Average of the weights",
}


def card(events: Sequence[Event]) -> dict[str, Any]:
    """Everything that is known so far, for the page's script."""
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
            *(
                found["sentence"]
                for event in events
                if event["type"] == DataIssuesFound.__name__
                for found in event["findings"]
            ),
            *(event["text"] for event in events if event["type"] == Message.__name__),
        ],
        "warnings": warnings(checked),
        "memory": memory(step),
    }


def warnings(checked: Mapping[str, Event]) -> list[str]:
    """What changes the training of so many rows that it is said beside the Start button.

    Args:
        checked: the DataChecked event of each dataset, by its name.
    """
    data = checked.get("training", {"findings": [], "rows": 0})
    return [
        found["sentence"]
        for found in data["findings"]
        if found["kind"] in CHANGES_TRAINING and found["count"] > WORTH_A_WARNING * data["rows"]
    ]


def status(phase: Event | None) -> str:
    """What the worker is doing, with its counter."""
    if phase is None:
        return "Starting"
    counter = f" · {phase['done']:,} of {phase['total']:,}" if phase["total"] else ""
    return f"{'Estimating memory and time' if phase['phase'] == 'scanning' else phase_title(phase['phase'])}{counter}"


def error_text(end: Event) -> str:
    """Why a preview failed, with the label of the field to change."""
    return f"{label_of(end['field'])}: {end['reason']}" if end["field"] else str(end["reason"])


def data_figures(checked: Mapping[str, Event]) -> list[dict[str, str]]:
    """The stat boxes of the data."""
    train, held = checked.get("training"), checked.get("evaluation")
    if train is None:
        return []
    targets, tokens = train["target_tokens"], train["tokens"]
    return [
        {"name": "Samples", "value": f"{train['samples']:,}", "note": f"of {train['rows']:,} rows"},
        {
            "name": "Trained tokens",
            "value": format_percent(targets / max(1, tokens)),
            "note": f"{format_count(targets)} of {format_count(tokens)}",
        },
        {"name": "Longest sample", "value": f"{train['longest']:,}", "note": "tokens"},
        {
            "name": "Evaluation",
            "value": f"{held['samples']:,}" if held else UNKNOWN,
            "note": held["source"] if held else "no evaluation data",
        },
    ]


def step_figures(step: Event | None) -> list[dict[str, str]]:
    """The stat boxes of memory and time."""
    if step is None:
        return []
    return [
        {"name": "Memory", "value": f"≈ {format_memory(step['needed'])}", "note": f"of {format_memory(step['free'])}"},
        {"name": "Time", "value": format_estimated_duration(step["seconds"]), "note": "for training"},
    ]


def memory(step: Event | None) -> dict[str, Any] | None:
    """The estimated memory of a step, part by part."""
    if step is None:
        return None
    whole = max(1, sum(step["parts"].values()))
    parts = [
        {"part": name, "name": MEMORY_PARTS[name], "text": format_memory(size), "share": round(size / whole, 4)}
        for name, size in step["parts"].items()
    ]
    all_trained = step["trainable"] == step["parameters"]
    trained = "all trained" if all_trained else f"{format_count(step['trainable'])} trained"
    return {
        "verdict": step["verdict"],
        "sentence": step["sentence"],
        "parts": parts,
        "note": f"{format_count(step['parameters'])} parameters, {trained}. Estimated for the longest batch, which comes "
        "first, from the structure of the model, without loading it.",
    }
