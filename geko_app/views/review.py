"""The review of a run's samples, one after the other: the queue, a sample with what could replace its answer, bulk actions. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_app.samples.corrections import can_edit, editable, one_of_each_row
from geko_app.samples.store import Samples
from geko_app.samples.suggested_answers import new_answer, new_answers, spaced
from geko_app.views.corrections import MARKS, mark_of
from geko_app.views.sample_filters import Query, matching, ordered
from geko_app.views.samples import issues_of
from geko_engine.data.corrections import DELETE, KEEP, REPLACE, Correction
from geko_engine.quality.issues import CONFLICT, NEAR_DUPLICATE
from geko_engine.quality.label_issues import LIKELY, LOOK
from geko_engine.runs.sample_pairs import prompt_and_answer

NEXT = 3  # samples sent at a time: the one to decide, and those after it so that they appear at once
ACCEPT = "accept"  # the bulk action that replaces answers by those that the label check suggests
Decided = Mapping[int, Correction]


def queue(samples: Samples, query: Query, flagged: set[int], decided: Decided, skipped: set[int]) -> dict[str, Any]:
    """The next samples to decide, and how far the review of this filter and search is.

    Decisions, what a bulk action would decide and suggestions are counted in rows, as the log counts them; all else in samples.

    Args:
        query: its filter and search select the samples; its order is not used, the most severe come first.
        decided: by id.
        skipped: ids that this tab has passed over; they come no more until it asks for them again.
    """
    reviewed = sum(index in decided for index in matching(samples, query, flagged, kept=True).tolist())
    left = undecided(samples, query, flagged, decided)
    shown = [index for index in left.tolist() if index not in skipped]
    rows = samples.facts["row"]
    by_row = {row: decided[index] for index, row in enumerate(rows.tolist()) if index in decided}
    counts = Counter(MARKS[found.action] for found in by_row.values())
    return {
        "cards": [card(samples, index, decided) for index in shown[:NEXT]],
        "waiting": len(shown),
        "skipped": len(left) - len(shown),
        "left_rows": len(np.unique(rows[left])),
        "total": len(left) + reviewed,
        "reviewed": reviewed,
        "decided": {mark: counts[mark] for mark in MARKS.values()},
        "newest": max((found.at for found in decided.values()), default=""),
        "suggestions": len(new_answers(samples, left.tolist())),
    }


def undecided(samples: Samples, query: Query, flagged: set[int], decided: Decided) -> NDArray[Any]:
    """Ids of the samples that a filter and a search select and nobody has decided, the most severe first, [n]."""
    ids = matching(samples, query, flagged)
    left = ids[~np.isin(ids, list(decided))]
    return ordered(samples, left, Query(sort="severity", down=True))


def card(samples: Samples, index: int, decided: Decided) -> dict[str, Any]:
    """One sample to decide: its texts, its issues, and the answers that it could get instead."""
    fixed, made = can_edit(samples, index), decided.get(index)
    prompt, answer = shown_texts(samples, index) if fixed else editable(samples, index)
    new = new_answer(samples, index)
    return {
        "id": index,
        "row": int(samples.facts["row"][index]),
        "prompt": prompt,  # whole, as an editor saves what it was given
        "answer": answer,
        "fixed": fixed,
        "issues": issues_of(samples, index),
        "decision": mark_of(decided, index),
        "asks": bool(prompt.strip()) and not fixed,
        "replaced": _replaced(made, prompt, answer) if made is not None and made.action == REPLACE else None,
        "suggested": {"answer": new} if new else None,
        "similar": None if fixed else similar(samples, index, answer, decided),
    }


def _replaced(made: Correction, prompt: str, answer: str) -> dict[str, str]:
    """The new texts of an edited sample, so that its editor goes on from them."""
    return {
        "prompt": prompt if made.prompt is None else made.prompt,
        "answer": answer if made.answer is None else made.answer,
    }


def shown_texts(samples: Samples, index: int) -> tuple[str, str]:
    """Prompt and answer of a sample that cannot be edited."""
    return prompt_and_answer(samples.texts.one(index), samples.texts.layout)


@dataclass(frozen=True)
class Asked:
    """What a model is asked to answer a sample anew: the last prompt, what was said before it, the system's words."""

    prompt: str
    turns: tuple[tuple[str, str], ...] = ()
    system: str = ""


def asked(samples: Samples, index: int) -> Asked:
    """The prompt of a sample as the playground asks it."""
    values = samples.texts.one(index)
    messages = json.loads(values["messages"]) if values.get("messages") else []
    said = [(str(turn.get("role")), str(turn.get("content") or "")) for turn in messages]
    before = [turn for turn in said[:-1] if turn[0] != "system"]
    if not before:
        return Asked(editable(samples, index)[0])
    return Asked(before[-1][1], tuple(before[:-1]), "\n".join(text for role, text in said if role == "system"))


def similar(samples: Samples, index: int, answer: str, decided: Decided) -> dict[str, Any] | None:
    """The other answer of the row that this one contradicts or nearly repeats; None where that is the same or deleted."""
    kinds = (CONFLICT, NEAR_DUPLICATE)
    other = next((i.other for i in samples.issues.of(index) if i.kind in kinds and i.other >= 0), None)
    if other is None:
        return None
    found = decided.get(other)
    if found is not None and found.action == DELETE:
        return None
    changed = found.answer if found is not None else None
    text = (shown_texts(samples, other)[1] if changed is None else changed).strip()
    row = int(samples.facts["row"][other])
    return None if text in ("", answer.strip()) else {"answer": spaced(text, answer), "row": row}


# ---------------------------------------------------------------- bulk actions


@dataclass(frozen=True)
class Bulk:
    """What a bulk action would do.

    Attributes:
        ids: of the samples that it decides, one of each row: a decision holds for the whole row.
        key: changes with them and with what they would get, so that a confirmation never means anything else than was shown.
        sentence: for the person who confirms.
    """

    ids: list[int]
    key: str
    sentence: str


def bulk(samples: Samples, ids: list[int], action: str) -> Bulk:
    """What `action` (KEEP, DELETE or ACCEPT) would do with the undecided samples of a filter.

    Args:
        ids: of those samples.
    """
    answers = new_answers(samples, ids) if action == ACCEPT else {}
    ids = list(answers) if action == ACCEPT else ids
    key = blake2b(json.dumps([ids, list(answers.values())]).encode(), key=action.encode(), digest_size=8).hexdigest()
    one_of_each = one_of_each_row(samples, ids)
    return Bulk(one_of_each, key, f"{_would(len(one_of_each), action)} {_expected(samples, ids, action)}".strip())


def _would(count: int, action: str) -> str:
    what = {
        DELETE: "would be deleted.",
        KEEP: "would be kept as they are, and would not be asked about again.",
        ACCEPT: "would get the answer that the label check suggests.",
    }[action]
    if count == 1:
        what = what.replace("they are", "it is")
    return f"{count:,} {'row' if count == 1 else 'rows'} {what}"


def _expected(samples: Samples, ids: list[int], action: str) -> str:
    """How many of the answers as they are now are wrong, by the probabilities of the label check."""
    known = [p for p in (wrong_probability(samples, index) for index in ids) if p is not None]
    if not ids:
        return ""
    if not known:
        return "There is no measured precision for this kind of issue."
    unknown = len(ids) - len(known)
    rest = f" For the other {unknown:,} there is no measured precision." if unknown else ""
    said = _of_one if len(known) == 1 else _of_several
    return f"{said(known, action, bool(unknown))}{rest}"


def _of_one(known: list[float], action: str, are_more: bool) -> str:
    which = "One answer" if are_more else "The old answer" if action == ACCEPT else "The answer"
    unmeasured = "; whether the suggestion is right was not measured" if action == ACCEPT else ""
    return f"{which} is wrong with a probability of {100 * known[0]:.0f} %{unmeasured}."


def _of_several(known: list[float], action: str, are_more: bool) -> str:
    wrong = sum(known)
    precision = f"{100 * wrong / len(known):.0f} %"
    answers = f"the {len(known):,} answers with a probability" if are_more else "these answers"
    if action == KEEP:
        return f"Expected: {_about(wrong, answers)} wrong."
    if action == ACCEPT:  # the probability is that the old answer is wrong: it says nothing of the new one
        old = _about(wrong, "the old answers")
        return f"{old[0].upper()}{old[1:]} wrong (expected precision {precision}); how many suggestions are right was not measured."
    right = len(known) - wrong
    return (
        f"Expected precision {precision}: {_about(right, answers)} right as {'it is' if right < 1.5 else 'they are'}."
    )


def _about(count: float, what: str) -> str:
    number = "less than one" if count < 1 else f"about {count:,.0f}"
    return f"{number} of {what} {'is' if count < 1.5 else 'are'}"


def wrong_probability(samples: Samples, index: int) -> float | None:
    """How probable it is that the answer is wrong, by the label check; None where that has not judged it."""
    found = (issue.score for issue in samples.issues.of(index) if issue.kind in (LIKELY, LOOK) and issue.note)
    return next(found, None)
