"""Facts and curves of runs -> what the Runs page draws. Pure; knows no file and no process."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from geko_app.runs.live_state import RunState
from geko_app.runs.queue import QUEUED
from geko_app.runs.summary import RunFacts
from geko_app.views.formatting import TITLES, compact, duration, number, percent, rounded, run_name

CURVE_POINTS = 600  # of one run that are drawn
COLUMNS = (
    ("when", "Run"),
    ("model", "Model"),
    ("data", "Data"),
    ("status", "Status"),
    ("samples", "Samples"),
    ("epochs", "Epochs"),
    ("saved", "Compute saved"),
    ("loss", "Evaluation loss"),
    ("exact", "Exact match"),
    ("seconds", "Time"),
    ("size", "Size"),
    ("note", "Note"),
)
Cell = dict[str, Any]


def row(facts: RunFacts, after: str | None = None) -> dict[str, Any]:
    """One line of the list: for each column but the size its text, a second line, and what it is sorted by."""
    title, reason = where_it_stands(facts, after)
    cells = {
        "when": cell(when(facts), facts.made, suffix(facts.id)),
        "model": cell(tail(facts.model), facts.model.lower(), full=facts.model),
        "data": cell(tail(facts.data), facts.data.lower(), full=facts.data),
        "status": cell(title, title, reason, full=reason),
        "samples": cell("all" if facts.samples is None else f"{facts.samples:,}", facts.samples),
        "epochs": cell(epochs(facts), facts.epochs),
        "saved": cell(percent(facts.compute_saved_ratio), facts.compute_saved_ratio),
        "loss": cell(*before_after(facts.eval_loss_before, facts.eval_loss_after, lambda v: f"{v:.3f}")),
        "exact": cell(*before_after(facts.exact_match_before, facts.exact_match_after, lambda v: f"{100 * v:.1f} %")),
        "seconds": cell(duration(facts.seconds), facts.seconds),
        "note": cell(facts.note.split("\n")[0][:80], facts.note.lower(), full=facts.note),
    }
    return {
        "id": facts.id,
        "name": run_name(facts.id),
        "phase": facts.phase,
        "going": not facts.end and facts.phase != QUEUED,
        "ended": bool(facts.end),
        "cells": cells,
    }


def cell(text: str, order: Any, second: str = "", full: str = "") -> Cell:
    """`order` None sorts last; `full` is shown where the mouse rests."""
    return {"text": text, "order": order, "second": second, "full": full if full != text else ""}


def where_it_stands(facts: RunFacts, after: str | None = None) -> tuple[str, str]:
    """Title and second line of the status."""
    title = TITLES.get(facts.phase, facts.phase)
    if facts.phase == QUEUED:
        return title, f"after {run_name(after)}" if after else "begins next"
    if not facts.end and facts.progress is not None:
        return f"{title} {100 * facts.progress:.0f} %", ""
    return title, facts.reason


def when(facts: RunFacts) -> str:
    """Date and time of day, with the year where it is another one."""
    made = time.localtime(facts.made)
    return time.strftime("%d.%m. %H:%M" if made.tm_year == time.localtime().tm_year else "%d.%m.%Y %H:%M", made)


def suffix(run_id: str) -> str:
    """The end of an id, which tells two runs of one minute apart; the whole id where it was named otherwise."""
    return run_id.rsplit("-", 1)[-1] if run_name(run_id) != run_id else run_id


def tail(name: str) -> str:
    """The last part of a path or Hub id, which is what people know it by."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def epochs(facts: RunFacts) -> str:
    """Epochs asked for, with those done where it did not get to the end."""
    if facts.epochs is None:
        return "–"
    done = facts.epochs_done
    return f"{facts.epochs}" if done is None or done >= facts.epochs else f"{done} of {facts.epochs}"


def before_after(before: float | None, after: float | None, shown: Any) -> tuple[str, float | None]:
    """Text of a figure that was measured before and after; it is ordered by the latter."""
    if before is None and after is None:
        return "–", None
    text = " → ".join("–" if value is None else shown(value) for value in (before, after))
    return text, after


def megabytes(size: int) -> str:
    """Bytes as people say them."""
    if size >= 1e9:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


def command(config_path: str) -> str:
    """The command that repeats a run."""
    return f"geko-train {shlex.quote(config_path)}"


def figures(facts: RunFacts) -> list[tuple[str, str]]:
    """(name, text) pairs of one run's figures."""
    loss, _ = before_after(facts.eval_loss_before, facts.eval_loss_after, lambda v: f"{v:.3f}")
    exact, _ = before_after(facts.exact_match_before, facts.exact_match_after, lambda v: f"{100 * v:.1f} %")
    return [
        ("Evaluation loss", loss),
        ("Exact match", exact),
        ("Compute saved", percent(facts.compute_saved_ratio)),
        ("Loss on trained samples", number(facts.train_loss, ".3f")),
        ("Samples", "all" if facts.samples is None else f"{facts.samples:,}"),
        ("Epochs", epochs(facts)),
        ("Steps", "–" if facts.steps is None else f"{facts.steps:,}"),
        ("Tokens trained", "–" if facts.tokens is None else compact(facts.tokens)),
        ("Time", duration(facts.seconds)),
    ]


def end_figures(chosen: Sequence[RunFacts]) -> list[list[str]]:
    """The figures of the chosen runs side by side: one line each, its name first."""
    status = ["Status", *(where_it_stands(facts)[0] for facts in chosen)]
    names = [name for name, _ in figures(chosen[0])] if chosen else []
    columns = [dict(figures(facts)) for facts in chosen]
    return [status, *([name, *(column[name] for column in columns)] for name in names)]


def differences(configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The settings that are not the same in all of the flat `configs`: dotted key, then a value for each."""
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = ([key, *(setting(config.get(key)) for config in configs)] for key in keys)
    return [line for line in rows if len(set(line[1:])) > 1]


def setting(value: Any) -> str:
    """A value of a configuration as text."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def curve(state: RunState) -> dict[str, list[float | None]]:
    """The history of one run by steps, trained tokens and seconds, thinned; evaluations are all there."""
    points = state.points_since(0, CURVE_POINTS)
    evaluations = state.evaluations
    return {
        "steps": [point[0] for point in points],
        "tokens": [point[7] for point in points],
        "seconds": [rounded(point[8]) for point in points],
        "train": [rounded(point[2]) for point in points],
        "eval_steps": [evaluation[0] for evaluation in evaluations],
        "eval_tokens": [evaluation[3] for evaluation in evaluations],
        "eval_seconds": [rounded(evaluation[4]) for evaluation in evaluations],
        "eval": [rounded(evaluation[1]) for evaluation in evaluations],
    }
