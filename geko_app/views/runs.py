"""Facts and curves of runs -> what the Runs page draws, and which lines of its list are new to a tab.

Pure but for RunTable, which asks the supervisor. Knows no layout.
"""

from __future__ import annotations

import json
import secrets
import shlex
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from geko_app.formatting import (
    UNKNOWN,
    end_words,
    format_count,
    format_date,
    format_duration,
    format_loss,
    format_percent,
    phase_title,
    short_run_name,
)
from geko_app.runs.live_state import RunState
from geko_app.runs.queue import QUEUED
from geko_app.runs.summary import FactsReader, RunFacts
from geko_app.views.charts import AXES, columns
from geko_app.views.dashboard import STARTS_NEXT, queued_title
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import RunError

CURVE_POINTS = 600  # drawn of one run
NOTE_CHARACTERS = 80  # shown of a note's first line
COLUMNS = (  # key and heading of each
    ("name", "Run"),
    ("status", "Status"),
    ("model", "Model and data"),
    ("samples", "Samples"),
    ("loss", "Evaluation loss"),
    ("exact", "Exact match"),
    ("saved", "Compute saved"),
    ("seconds", "Time"),
    ("size", "Size"),
    ("when", "Created"),
)

Cell = dict[str, Any]


class RunTable:
    """The list of all runs. Every line has the number of its last change; a tab asks for the changes since its last.

    Args:
        supervisor: of the runs.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor, self.reader = supervisor, FactsReader()
        self._generation = secrets.token_hex(4)  # the numbers of an earlier server process mean nothing here
        self._number, self._listed = 0, 0
        self._rows: dict[str, tuple[int, dict[str, Any]]] = {}
        self._ids: list[str] = []
        self._lock = threading.Lock()

    def changes(self, generation: str, since: int) -> dict[str, Any]:
        """The rows that changed.

        Args:
            generation: the one that `since` belongs to.
            since: number of the last change that the tab has.

        Returns:
            `generation`, `number` (of the last change), `rows`, and `ids`: all of them, newest first, if a
            run came or went, else None.
        """
        with self._lock:
            self._refresh()
            since = since if generation == self._generation and since <= self._number else -1
            return {
                "generation": self._generation,
                "number": self._number,
                "ids": self._ids if self._listed > since else None,
                "rows": [row for changed, row in self._rows.values() if changed > since],
            }

    def _refresh(self) -> None:
        facts = {run_id: known for run_id in self.supervisor.store.ids() if (known := self._facts(run_id))}
        twins = baselines(facts.values())
        found = {run_id: run_row(known, self._place(known), twins.get(run_id, "")) for run_id, known in facts.items()}
        ids = sorted(found, key=lambda run_id: (facts[run_id].made, run_id), reverse=True)
        changed = [run_id for run_id in ids if self._rows.get(run_id, (0, None))[1] != found[run_id]]
        if ids == self._ids and not changed:
            return
        self._number += 1
        self._listed = self._number if ids != self._ids else self._listed
        self._ids = ids
        self._rows = {i: (self._number, found[i]) if i in changed else self._rows[i] for i in ids}

    def _facts(self, run_id: str) -> RunFacts | None:
        try:
            folder = self.supervisor.store.folder(run_id)
            if self._rows.get(run_id, (0, {"ended": False}))[1]["ended"] is False:
                self.supervisor.attach_or_close(run_id)  # a command line may have started it, or its process is gone
            return self.reader.facts(folder)
        except RunError:
            return None  # just deleted

    def _place(self, facts: RunFacts) -> tuple[int, str]:
        try:
            return self.supervisor.queue_place(facts.id) if facts.phase == QUEUED else (0, "")
        except RunError:
            return 0, ""


def baselines(runs: Iterable[RunFacts]) -> dict[str, str]:
    """Which runs are the plain baseline of another one: the same settings with GEKO off.

    Returns:
        id of the baseline -> id of its run: the newest one that was created before it, else the oldest one.
    """
    with_geko: dict[str, list[RunFacts]] = {}
    plain = []
    for facts in sorted(runs, key=lambda facts: (facts.made, facts.id)):
        if facts.twin and facts.plain:
            plain.append(facts)
        elif facts.twin:
            with_geko.setdefault(facts.twin, []).append(facts)
    found = {}
    for facts in plain:
        twins = with_geko.get(facts.twin, [])
        before = [twin for twin in twins if (twin.made, twin.id) < (facts.made, facts.id)]
        if twins:
            found[facts.id] = (before[-1] if before else twins[0]).id
    return found


def run_row(facts: RunFacts, place: tuple[int, str] = (0, ""), baseline_of: str = "") -> dict[str, Any]:
    """One row of the list, with a cell for each column but the size.

    Args:
        facts: of the run.
        place: in the queue, and the name of the run before it.
        baseline_of: id of the run that this one is the plain baseline of.
    """
    title, detail = run_status(facts, place)
    count = epochs(facts)
    in_words = "" if count == UNKNOWN else f"{count} epoch{'' if facts.epochs == 1 else 's'}"
    note = facts.note.split("\n")[0][:NOTE_CHARACTERS]
    cells = {
        "name": cell(facts.name or short_run_name(facts.id), facts.shown_name.lower(), note, full=facts.note),
        "status": cell(title, title, detail, full=detail),
        "model": cell(
            short_name(facts.model), facts.model.lower(), short_name(facts.data), full=f"{facts.model}\n{facts.data}"
        ),
        "samples": cell("all" if facts.samples is None else f"{facts.samples:,}", facts.samples, in_words),
        "loss": change_cell(facts.eval_loss_before, facts.eval_loss_after, format_loss),
        "exact": change_cell(facts.exact_match_before, facts.exact_match_after, format_percent),
        "saved": cell(format_percent(facts.compute_saved_ratio), facts.compute_saved_ratio),
        "seconds": cell(format_duration(facts.seconds), facts.seconds),
        "when": cell(format_date(facts.made), facts.made),
    }
    return {
        "id": facts.id,
        "name": facts.shown_name,
        "own_name": facts.name,
        "tags": list(facts.tags),
        "baseline_of": baseline_of,
        "phase": facts.phase,
        "going": not facts.end and facts.phase != QUEUED,
        "ended": bool(facts.end),
        "cells": cells,
    }


def change_cell(before: float | None, after: float | None, shown: Callable[[float | None], str]) -> Cell:
    """A figure at the end of a run, and below it what it was before; sorted by the first."""
    return cell(shown(after), after, "" if before is None else f"from {shown(before)}")


def cell(text: str, order: Any, second: str = "", full: str = "") -> Cell:
    """One cell.

    Args:
        text: the first line.
        order: what the column is sorted by; None sorts last.
        second: the second line.
        full: shown as the tooltip.
    """
    return {"text": text, "order": order, "second": second, "full": full if full != text else ""}


def run_status(facts: RunFacts, place: tuple[int, str] = (0, "")) -> tuple[str, str]:
    """Title and detail of a run's state; `place` is its place in the queue, and what it waits for."""
    if facts.phase == QUEUED:
        number, waits = place
        return queued_title(number), waits or STARTS_NEXT
    if facts.end:
        return end_words(facts.phase, facts.reason)
    title = phase_title(facts.phase)
    return f"{title} {100 * facts.progress:.0f} %" if facts.progress is not None else title, ""


def short_name(name: str) -> str:
    """The last part of a path or Hub id."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def epochs(facts: RunFacts) -> str:
    """Epochs of a run: "3", or "1 of 3" if it has not done them all."""
    if facts.epochs is None:
        return UNKNOWN
    done = facts.epochs_done
    return f"{facts.epochs}" if done is None or done >= facts.epochs else f"{done} of {facts.epochs}"


def before_after(before: float | None, after: float | None, shown: Callable[[float | None], str]) -> str:
    """ "before → after" of an evaluated figure, with a dash for a missing one."""
    return UNKNOWN if before is None and after is None else f"{shown(before)} → {shown(after)}"


def rerun_command(config_path: str) -> str:
    """The command that runs a configuration again."""
    return f"geko-train {shlex.quote(config_path)}"


def figures(facts: RunFacts) -> list[tuple[str, str]]:
    """(name, text) pairs of one run's figures."""
    return [
        ("Evaluation loss", before_after(facts.eval_loss_before, facts.eval_loss_after, format_loss)),
        ("Exact match", before_after(facts.exact_match_before, facts.exact_match_after, format_percent)),
        ("Compute saved", format_percent(facts.compute_saved_ratio)),
        ("Training loss", format_loss(facts.train_loss)),
        ("Samples", "all" if facts.samples is None else f"{facts.samples:,}"),
        ("Epochs", epochs(facts)),
        ("Steps", UNKNOWN if facts.steps is None else f"{facts.steps:,}"),
        ("Trained tokens", UNKNOWN if facts.tokens is None else format_count(facts.tokens)),
        ("Time", format_duration(facts.seconds)),
    ]


def compared_figures(chosen: Sequence[RunFacts]) -> list[list[str]]:
    """The figures of several runs side by side: rows of a name and one text for each run."""
    status = ["Status", *(run_status(facts)[0] for facts in chosen)]
    names = [name for name, _ in figures(chosen[0])] if chosen else []
    columns = [dict(figures(facts)) for facts in chosen]
    return [status, *([name, *(column[name] for column in columns)] for name in names)]


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The settings in which configurations differ: rows of a dotted key and one text for each.

    Args:
        configs: flat configurations by dotted key.
    """
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = ([key, *(setting_text(config.get(key)) for config in configs)] for key in keys)
    return [row for row in rows if len(set(row[1:])) > 1]


def setting_text(value: Any) -> str:
    """The value of a setting as text."""
    if value is None:
        return UNKNOWN
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def curve(state: RunState) -> dict[str, dict[str, list[float | None]]]:
    """The history of one run as columns, thinned; evaluations are all there."""
    return {
        "points": columns(state.curve.since(0, CURVE_POINTS), (*AXES, "smoothed")),
        "evaluations": columns(state.evaluations, (*AXES, "loss")),
    }
