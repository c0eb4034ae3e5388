"""Answers that a model gave while it was trained -> the card that shows them side by side. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geko_app.formatting import format_duration

ROWS = 24  # prompts shown
MEASURES = (("exact", "exact"), ("contains", "contain the reference"), ("numeric", "with the right number"))


def answers_table(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answers by prompt and round, and for each round what the measures say of them.

    Args:
        rounds: events Answered, in order. They come from a file, so what is in `answers` may be anything.
    """
    read = [[_answer(answer) for answer in answered["answers"][:ROWS]] for answered in rounds]
    prompts = read[-1] if read else []
    return {
        "rounds": [_round(answered) for answered in rounds],
        "prompts": [
            {
                "prompt": first["prompt"],
                "reference": first["reference"],
                "answers": [
                    {"text": answers[number]["answer"], "right": answers[number]["exact"]}
                    if number < len(answers)
                    else {"text": "", "right": None}
                    for answers in read
                ],
            }
            for number, first in enumerate(prompts)
        ],
    }


def _answer(found: Any) -> dict[str, Any]:
    values = found if isinstance(found, dict) else {}
    texts = {name: str(values.get(name, "")) for name in ("prompt", "reference", "answer")}
    exact = values.get("exact")
    return {**texts, "exact": exact if isinstance(exact, bool) else None}


def _round(answered: Mapping[str, Any]) -> dict[str, str]:
    """The name of a round, and its measures in words."""
    found = [answer for answer in answered["answers"] if isinstance(answer, dict)]
    parts = []
    for name, words in MEASURES:
        judged = [answer[name] for answer in found if isinstance(answer.get(name), bool)]
        if judged:
            parts.append(f"{sum(judged)} of {len(judged)} {words}")
    epoch = answered["epoch"]
    return {
        "name": f"After epoch {epoch}" if epoch else "Before training",
        "note": f"{', '.join(parts)}{' · ' if parts else ''}generated in {format_duration(answered['seconds'])}",
    }
