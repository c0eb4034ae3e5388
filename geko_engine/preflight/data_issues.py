"""What is wrong with the rows before a run, as findings of the preview: label errors, conflicts, duplicates and more.

The checks are in geko_engine/quality. Here the samples become prompts and answers, and issues become sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from geko_engine.data.findings import Finding, finding
from geko_engine.data.preparation import PreparedDataset
from geko_engine.quality import issues as kinds
from geko_engine.quality.issues import DataIssues, find_data_issues
from geko_engine.quality.label_issues import LIKELY, LOOK
from geko_engine.runs.sample_pairs import of_rendering

WHAT = {
    LIKELY: "likely mislabeled",
    kinds.CONFLICT: "with a prompt that has another answer elsewhere",
    kinds.LEAK: "with nearly the prompt of an evaluation row, so the evaluation flatters",
    kinds.PERSONAL: "with what looks like personal data",
    kinds.PLACEHOLDER: "with a placeholder as the answer",
    LOOK: "whose answer is worth a look",
    kinds.CUT_OFF: "whose answer seems to be cut off",
    kinds.REFUSAL: "whose answer declines to answer",
    kinds.LANGUAGE: "whose answer is in another language than most",
    kinds.NEAR_DUPLICATE: "nearly equal to an earlier one",
    kinds.LENGTH: "with an answer of unusual length",
}
KNOWN_BEFORE = (kinds.DUPLICATE,)  # preparation reports equal rows


def issue_findings(parts: Sequence[PreparedDataset], should_stop: Callable[[], bool]) -> list[Finding]:
    """The issues of the training data, one finding for each kind, the most severe first.

    Args:
        parts: the training data, and the evaluation data where there is any.
        should_stop: asked often.

    Raises:
        Stopped: when should_stop says so.
    """
    training = parts[0]
    pairs = [pairs_of(part) for part in parts]
    issues = find_data_issues(*pairs[0], pairs[1] if len(pairs) > 1 else None, should_stop=should_stop)
    rows = training.data.rows
    found = []
    for kind in kinds.KINDS:
        numbers = sorted({int(rows[issue.row]) for issue in issues.issues if issue.kind == kind})
        if numbers and kind not in KNOWN_BEFORE:
            found.append(finding(kind, numbers, f"{WHAT[kind]}{_precision(kind, issues)}", training.rendered.names))
    return [*found, *(Finding("labels", [], sentence) for sentence in about(issues))]


def pairs_of(part: PreparedDataset) -> tuple[list[str], list[str]]:
    """The prompts and the answers of the samples of a dataset."""
    chosen = zip(part.data.rows.tolist(), part.data.parts.tolist(), strict=True)
    pairs = [of_rendering(part.rendered[row][place], part.rendered.format.layout) for row, place in chosen]
    return [prompt for prompt, _ in pairs], [answer for _, answer in pairs]


def about(issues: DataIssues) -> list[str]:
    """What was checked and what was not, one sentence each, without a full stop as in other findings."""
    labels = issues.labels
    said = (
        f"Labels are not checked: {labels.reason}"
        if labels.reason
        else f"Labels checked in {int(labels.judged.sum()):,} rows with {len(labels.labels):,} different answers; a text "
        f"classifier predicts {100 * labels.accuracy:.0f} % of them from the prompts"
    )
    return [text.removesuffix(".") for text in (said, *issues.notes)]


def _precision(kind: str, issues: DataIssues) -> str:
    return f" (expected precision {100 * issues.labels.expected_precision:.0f} %)" if kind == LIKELY else ""
