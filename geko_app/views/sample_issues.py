"""Issues of samples -> chips and sentences of the Samples page. Pure."""

from __future__ import annotations

from typing import Any

from geko_app.samples.issues import ALL_KINDS, SEVERITIES, TRUNCATED
from geko_app.samples.store import Samples
from geko_engine.quality import issues as kinds
from geko_engine.quality.issues import HIGH, LOW, MEDIUM, Issue
from geko_engine.quality.label_issues import LIKELY, LOOK

LABELS = {
    LIKELY: "Likely mislabeled",
    kinds.CONFLICT: "Conflicting answer",
    kinds.LEAK: "In the evaluation data",
    kinds.PERSONAL: "Personal data",
    kinds.PLACEHOLDER: "Placeholder answer",
    LOOK: "Worth a look",
    kinds.CUT_OFF: "Cut-off answer",
    kinds.REFUSAL: "Refusal",
    kinds.LANGUAGE: "Other language",
    TRUNCATED: "Truncated",
    kinds.NEAR_DUPLICATE: "Near-duplicate",
    kinds.DUPLICATE: "Duplicate",
    kinds.LENGTH: "Unusual length",
}
SEVERITY_NAMES = {HIGH: "high", MEDIUM: "medium", LOW: "low"}
assert set(LABELS) == set(ALL_KINDS)


def chip(issue: Issue) -> dict[str, str]:
    """An issue in a line of the table."""
    return {
        "kind": issue.kind,
        "label": LABELS[issue.kind],
        "severity": SEVERITY_NAMES[SEVERITIES[issue.kind]],
        "note": _note(issue),
    }


def chips_of(samples: Samples, index: int) -> list[dict[str, str]]:
    """The issues of one sample, the most severe first."""
    return [chip(issue) for issue in samples.issues.of(index)]


def _note(issue: Issue) -> str:
    if issue.kind in (LIKELY, LOOK) and issue.note:
        return f"{100 * issue.score:.0f} % likely to be wrong; expected: {issue.note}"
    return issue.note


def explained(samples: Samples, index: int, guard: str) -> list[dict[str, Any]]:
    """The issues of one sample with a sentence each, and the id of the other sample that it is about, or None.

    Args:
        guard: the reason of the noise guard for suspecting it; "" for none.
    """
    found = [
        {**chip(issue), "sentence": sentence(samples, issue), "other": issue.other if issue.other >= 0 else None}
        for issue in samples.issues.of(index)
    ]
    for entry in found:
        if entry["kind"] in (LIKELY, LOOK) and guard:
            entry["sentence"] = f"{entry['sentence']} {guard}".strip()
    return found


def sentence(samples: Samples, issue: Issue) -> str:
    """What an issue means, with its numbers."""
    other = int(samples.facts["row"][issue.other]) if issue.other >= 0 else 0
    tokens = int(samples.facts["tokens"][issue.row])
    if issue.kind in (LIKELY, LOOK):
        return (
            f"A text classifier that has not seen this row expects “{issue.note}”: the answer is wrong with a "
            f"probability of {100 * issue.score:.0f} %."
            if issue.note
            else ""
        )
    return {
        kinds.CONFLICT: f"Row {other:,} has the same prompt with a different answer.",
        kinds.LEAK: "An evaluation row has nearly the same prompt, so the evaluation flatters.",
        kinds.PERSONAL: f"It seems to contain personal data: {issue.note}.",
        kinds.PLACEHOLDER: "The answer is empty or a placeholder.",
        kinds.CUT_OFF: "The answer seems to end in the middle of a sentence or a code block.",
        kinds.REFUSAL: "The answer declines to answer.",
        kinds.LANGUAGE: f"The answer is {issue.note}.",
        TRUNCATED: f"Truncated to {tokens:,} tokens (max_length): the rest is not trained on.",
        kinds.NEAR_DUPLICATE: f"Nearly the same as row {other:,}.",
        kinds.DUPLICATE: f"Duplicate of row {other:,}.",
        kinds.LENGTH: f"The answer is {issue.note} than the others.",
    }[issue.kind]


def check_sentence(samples: Samples, state: str) -> str:
    """What is known about the check of the texts, for the top of the page.

    Args:
        state: of the process that checks them: running, waiting, failed; "" when it is done.
    """
    checked = samples.checked
    if checked is None:
        return {
            "running": "Checking the texts for label errors, duplicates and personal data.",
            "waiting": "The texts of this run are checked next.",
            "failed": "The texts could not be checked for issues.",
        }.get(state, "")
    return " ".join([_label_sentence(checked.labels), *checked.notes]).strip()


def _label_sentence(labels: dict[str, Any]) -> str:
    if labels.get("reason"):
        return f"Labels not checked: {labels['reason']}"
    precision = labels.get("expected_precision")
    expected = f" Expected precision of “Likely mislabeled”: {100 * precision:.0f} %." if precision else ""
    return f"Labels checked in {labels.get('judged', 0):,} rows with {labels.get('classes', 0):,} answers.{expected}"
