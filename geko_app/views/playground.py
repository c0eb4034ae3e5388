"""What the Try it page draws: runs to choose from, answers, verdicts, token losses. Pure; knows no process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from geko_app.runs.store import RunEntry
from geko_app.views.dashboard import run_label
from geko_app.workers.inference_jobs import FINAL, SIDES, InferenceJob
from geko_engine.exceptions import RunError

TITLES = {"base": "Base model", "tuned": "Tuned model"}
ENDS = {"end of text": "ended by itself", "limit": "cut at the longest answer", "stopped": "stopped"}
GROUPS = {
    "hard": "What it is confidently wrong about",
    "evaluation": "Evaluation data",
    "training": "Training data",
}
BOUNDS: dict[str, tuple[str, float, float]] = {  # name -> label, smallest, largest
    "temperature": ("Temperature", 0.0, 2.0),
    "top_p": ("Top-p", 0.05, 1.0),
    "max_new_tokens": ("Longest answer", 1, 1024),
}
LEVELS = (  # loss up to here -> what it means for the reader; the last one is open
    (-math.log(0.9), "over 90 %"),
    (-math.log(0.5), "50 to 90 %"),
    (-math.log(0.1), "10 to 50 %"),
    (-math.log(0.01), "1 to 10 %"),
    (math.inf, "under 1 %"),
)


def options_of(query: Any) -> dict[str, Any]:
    """The numbers of a question. Raises RunError for what is no number or out of bounds."""
    found: dict[str, Any] = {}
    for name, (label, smallest, largest) in BOUNDS.items():
        value = query.get(name) if isinstance(query, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not smallest <= value <= largest:
            raise RunError(f"{label}: give a number from {smallest:g} to {largest:g}.")
        found[name] = int(value) if name == "max_new_tokens" else float(value)
    return found


def run_choice(entry: RunEntry, base: str, models: Sequence[str]) -> dict[str, Any]:
    """One run of the picker, with what of it can be asked."""
    return {
        "id": entry.id,
        "label": run_label(entry),
        "base": base,
        "complete": entry.phase == "complete" and FINAL in models,
        "models": [[name, model_label(name)] for name in models],
    }


def model_label(name: str) -> str:
    """How a model of a run is called: "Final model", "Checkpoint at step 1,200"."""
    return "Final model" if name == FINAL else f"Checkpoint at step {int(name.split('-')[-1]):,}"


def default_run(choices: Sequence[Mapping[str, Any]]) -> str:
    """The newest complete run, else the newest that can be asked, else ""."""
    return next((c["id"] for c in choices if c["complete"]), choices[0]["id"] if choices else "")


def card(job: InferenceJob, had: Mapping[str, int]) -> dict[str, Any]:
    """What one look at a job gets, by its kind.

    Args:
        had: characters of each side's answer that the page has drawn already.
    """
    common: dict[str, Any] = {"kind": job.kind, "running": not job.done, "error": job.error}
    if job.kind == "examples":
        return {**common, **examples(job)}
    common["asked"] = {**asdict(job.request), "pieces": ()} if job.request else None
    if job.kind == "losses":
        return {**common, "sides": [losses(job, side) for side in SIDES], "legend": [text for _, text in LEVELS]}
    read = job.parts.get("prompt", {})
    return {
        **common,
        "read": read.get("text", ""),
        "read_tokens": read.get("tokens", 0),
        "note": read.get("note", ""),
        "sides": [answer(job, side, had.get(side, 0)) for side in SIDES],
    }


def answer(job: InferenceJob, side: str, had: int) -> dict[str, Any]:
    """One side's answer: what is new of it, how fast it came, how it ended, and whether it is right."""
    part = job.parts.get(side, {})
    text = part.get("text", "")
    return {
        "side": side,
        "from": min(had, len(text)),
        "text": text[min(had, len(text)) :],
        "status": status(job, part),
        "error": part.get("error", ""),
        "writing": part.get("state") == "writing" and not job.done,
        "verdict": verdict(job, part),
    }


def status(job: InferenceJob, part: Mapping[str, Any]) -> str:
    """Where one side stands, in one line."""
    state = part.get("state", "")
    if part.get("end"):
        return " · ".join([ENDS[part["end"]], *speed(part)])
    if state == "failed":
        return "could not be asked"
    if job.done:
        return "" if job.error else "stopped"
    if state == "writing":
        return f"writing · {part.get('tokens', 0):,} tokens" if part.get("tokens") else "reading the prompt"
    return "loading" if state == "loading" else "waiting"


def speed(part: Mapping[str, Any]) -> list[str]:
    """Tokens, and tokens a second, of an answer that has ended."""
    count, seconds = part.get("tokens", 0), part.get("seconds", 0.0)
    words = [f"{count:,} token" + ("" if count == 1 else "s")]
    return [*words, f"{count / seconds:,.0f} tokens/s"] if seconds > 0 and count > 1 else words


def verdict(job: InferenceJob, part: Mapping[str, Any]) -> str:
    """right or wrong by exact match, once both answers are there and one was expected; else ""."""
    expected = job.request.answer.strip() if job.request else ""
    ended = job.done and all(
        job.parts.get(side, {}).get("end") or job.parts.get(side, {}).get("error") for side in SIDES
    )
    exact = job.parts.get("prompt", {}).get("exact", False)
    if not expected or not ended or not exact or part.get("end") in (None, "stopped"):
        return ""
    return "right" if part.get("text", "").strip() == expected else "wrong"


def losses(job: InferenceJob, side: str) -> dict[str, Any]:
    """One side's tokens: [text, level of its loss or null where nothing is learnt, what the number says]."""
    part = job.parts.get(side, {})
    tokens = part.get("list", [])
    known = [loss for _, loss in tokens if loss is not None]
    return {
        "side": side,
        "title": TITLES[side],
        "error": part.get("error", ""),
        "tokens": [[text, level(loss), told(loss)] for text, loss in tokens],
        "mean": f"{sum(known) / len(known):.3f}" if known else "",
    }


def level(loss: float | None) -> int | None:
    """Step of the colour scale, from 0 for sure; None where nothing is learnt."""
    return None if loss is None else next(i for i, (limit, _) in enumerate(LEVELS) if loss <= limit)


def told(loss: float | None) -> str:
    """A token's loss in words."""
    return "read only" if loss is None else f"loss {loss:.3f}, chance {100 * math.exp(-loss):.3g} %"


def examples(job: InferenceJob) -> dict[str, Any]:
    """The rows to try, by group."""
    part = job.parts.get("examples", {})
    rows = part.get("list", [])
    names = ("ref", "prompt", "answer", "note", "earlier")
    groups = [
        {
            "title": title,
            "rows": [{name: row[name] for name in names} for row in rows if row["group"] == group],
        }
        for group, title in GROUPS.items()
    ]
    return {"groups": [group for group in groups if group["rows"]], "notes": part.get("notes", [])}
