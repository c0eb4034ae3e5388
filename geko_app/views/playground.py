"""What the Playground page draws: runs to choose from, answers, verdicts, token losses. Pure; knows no process."""

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
ENDS = {"end of text": "finished", "limit": "stopped at the token limit", "stopped": "stopped"}
GROUPS = {
    "hard": "Confidently wrong in training",
    "evaluation": "Evaluation data",
    "training": "Training data",
}
FREE_TEXT = 40  # characters: an expected answer that is longer is hardly ever written word for word
BOUNDS: dict[str, tuple[str, float, float]] = {  # name -> label, minimum, maximum
    "temperature": ("Temperature", 0.0, 2.0),
    "top_p": ("Top-p", 0.05, 1.0),
    "max_new_tokens": ("Max new tokens", 1, 1024),
}
LEVELS = (  # (largest loss of the level, its probabilities for the legend)
    (-math.log(0.9), "over 90 %"),
    (-math.log(0.5), "50 to 90 %"),
    (-math.log(0.1), "10 to 50 %"),
    (-math.log(0.01), "1 to 10 %"),
    (math.inf, "under 1 %"),
)


def generation_options(query: Any) -> dict[str, Any]:
    """The options of an answer, as a script sent them.

    Raises:
        RunError: one is not a number, or out of bounds.
    """
    options: dict[str, Any] = {}
    for name, (label, minimum, maximum) in BOUNDS.items():
        value = query.get(name) if isinstance(query, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
            raise RunError(f"{label}: give a number from {minimum:g} to {maximum:g}.")
        options[name] = int(value) if name == "max_new_tokens" else float(value)
    return options


def run_choice(entry: RunEntry, base: str, models: Sequence[str]) -> dict[str, Any]:
    """One run to choose.

    Args:
        entry: the run.
        base: name of the model that it started from.
        models: its models that can be asked.
    """
    return {
        "id": entry.id,
        "label": run_label(entry),
        "base": base,
        "complete": entry.phase == "complete" and FINAL in models,
        "models": [[name, model_label(name)] for name in models],
    }


def model_label(name: str) -> str:
    """A model of a run: "Final model", "Checkpoint at step 1,200"."""
    return "Final model" if name == FINAL else f"Checkpoint at step {int(name.split('-')[-1]):,}"


def default_run(choices: Sequence[Mapping[str, Any]]) -> str:
    """Id of the newest complete run, else of the newest one, else ""."""
    return next((c["id"] for c in choices if c["complete"]), choices[0]["id"] if choices else "")


def card(job: InferenceJob, drawn: Mapping[str, int]) -> dict[str, Any]:
    """The present state of a job, for the page's script.

    Args:
        job: of any kind.
        drawn: characters of each side's answer that the page has drawn already; they are not sent again.
    """
    common: dict[str, Any] = {"kind": job.kind, "running": not job.done, "error": job.error}
    if job.kind == "examples":
        return {**common, **examples(job)}
    common["asked"] = {**asdict(job.request), "pieces": ()} if job.request else None
    if job.kind == "losses":
        return {**common, "sides": [losses(job, side) for side in SIDES], "legend": [text for _, text in LEVELS]}
    prompt = job.parts.get("prompt", {})
    return {
        **common,
        "read": prompt.get("text", ""),
        "read_tokens": prompt.get("tokens", 0),
        "note": prompt.get("note", ""),
        "chat": prompt.get("chat"),
        "sides": [answer(job, side, drawn.get(side, 0)) for side in SIDES],
    }


def answer(job: InferenceJob, side: str, drawn: int) -> dict[str, Any]:
    """One model's answer: its text after `drawn` characters, its state, whether it is right, and its tokens once it ended."""
    part = job.parts.get(side, {})
    text = part.get("text", "")
    return {
        "side": side,
        "from": min(drawn, len(text)),
        "text": text[min(drawn, len(text)) :],
        "status": status(job, part),
        "error": part.get("error", ""),
        "writing": part.get("state") == "writing" and not job.done,
        "verdict": verdict(job, part),
        "tokens": [written_token(token) for token in part.get("written", [])],
    }


def written_token(token: Mapping[str, Any]) -> dict[str, Any]:
    """One token of an answer: its text, level on the color scale, probability, and the likeliest tokens at its place."""
    chance = token["probability"]
    return {
        "text": token["text"],
        "special": token["special"],
        "level": loss_level(-math.log(chance) if chance > 0 else math.inf),
        "chance": format_chance(chance),
        "alternatives": [[text, format_chance(share), share] for text, share in token["alternatives"]],
    }


def format_chance(share: float) -> str:
    """A probability in percent: "99.9 %", "0.02 %"; never 100 % unless it is."""
    percent = 100 * share
    return "under 0.01 %" if 0 < percent < 0.01 else f"{min(percent, 99.9) if percent < 100 else percent:.3g} %"


def status(job: InferenceJob, part: Mapping[str, Any]) -> str:
    """The state of one side, in one line."""
    state = part.get("state", "")
    if part.get("end"):
        return " · ".join([ENDS[part["end"]], *speed(part)])
    if state == "failed":
        return "failed"
    if job.done:
        return "" if job.error else "stopped"
    if state == "writing":
        return f"generating · {part.get('tokens', 0):,} tokens" if part.get("tokens") else "reading the prompt"
    return "loading the model" if state == "loading" else "waiting"


def speed(part: Mapping[str, Any]) -> list[str]:
    """Tokens, and tokens per second, of an ended answer."""
    count, seconds = part.get("tokens", 0), part.get("seconds", 0.0)
    tokens = f"{count:,} token" + ("" if count == 1 else "s")
    return [tokens, f"{count / seconds:,.0f} tokens/s"] if seconds > 0 and count > 1 else [tokens]


def verdict(job: InferenceJob, part: Mapping[str, Any]) -> str:
    """ "right" or "wrong" by exact match once the answer has ended; "" where none was expected, or only free text."""
    expected = job.request.answer.strip() if job.request else ""
    exact = job.parts.get("prompt", {}).get("exact", False)
    if not expected or not job.done or not exact or part.get("end") in (None, "stopped"):
        return ""
    if part.get("text", "").strip() == expected:
        return "right"
    return "wrong" if len(expected) <= FREE_TEXT and "\n" not in expected else ""


def losses(job: InferenceJob, side: str) -> dict[str, Any]:
    """One model's tokens as [text, level of its loss or None for context, tooltip]."""
    part = job.parts.get(side, {})
    tokens = part.get("list", [])
    known = [loss for _, loss in tokens if loss is not None]
    return {
        "side": side,
        "title": TITLES[side],
        "error": part.get("error", ""),
        "tokens": [[text, loss_level(loss), loss_tooltip(loss)] for text, loss in tokens],
        "mean": f"{sum(known) / len(known):.3f}" if known else "",
    }


def loss_level(loss: float | None) -> int | None:
    """Position of a loss on the colour scale, 0 for the lowest; None for None."""
    return None if loss is None else next(i for i, (limit, _) in enumerate(LEVELS) if loss <= limit)


def loss_tooltip(loss: float | None) -> str:
    """A token's loss: "loss 0.693, probability 50 %"."""
    return "context" if loss is None else f"loss {loss:.3f}, probability {100 * math.exp(-loss):.3g} %"


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
    found = [group for group in groups if group["rows"]]
    return {"groups": found, "notes": part.get("notes", []), "chat": part.get("chat"), "template": part.get("template")}
