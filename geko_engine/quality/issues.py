"""One list of everything that a person should look at in a dataset: find_data_issues.

Puts together what the other files of this package find, each as one issue of one row with its kind and severity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from geko_engine.exceptions import Stopped
from geko_engine.quality.answer_checks import cut_off, placeholders, refusals, unusual_lengths
from geko_engine.quality.label_issues import LIKELY, LOOK, LabelIssues, find_label_issues
from geko_engine.quality.languages import other_languages
from geko_engine.quality.near_duplicates import first_near, normalized
from geko_engine.quality.personal_data import personal_data

CONFLICT, LEAK, PERSONAL, PLACEHOLDER = "conflict", "leak", "personal_data", "placeholder"
CUT_OFF, REFUSAL, LANGUAGE = "cut_off", "refusal", "language"
NEAR_DUPLICATE, DUPLICATE, LENGTH = "near_duplicate", "duplicate", "length"
HIGH, MEDIUM, LOW = 3, 2, 1
SEVERITY = {
    LIKELY: HIGH,
    CONFLICT: HIGH,
    LEAK: HIGH,
    PERSONAL: HIGH,
    PLACEHOLDER: HIGH,
    LOOK: MEDIUM,
    CUT_OFF: MEDIUM,
    REFUSAL: MEDIUM,
    LANGUAGE: MEDIUM,
    NEAR_DUPLICATE: LOW,
    DUPLICATE: LOW,
    LENGTH: LOW,
}
KINDS = tuple(SEVERITY)
SHORT_ANSWER = (
    80  # characters: two such answers to nearly the same prompt contradict each other, longer ones may just differ
)
MOST_ROWS = 100_000  # of a dataset are looked at
NOT_LOOKED_AT = "Only the first {:,} of {:,} rows were checked for issues."
Pairs = tuple[Sequence[str], Sequence[str]]  # prompts and answers


@dataclass(frozen=True)
class Issue:
    """One issue of one row.

    Attributes:
        row: its position, from 0. kind: one of KINDS.
        score: in [0, 1], how sure it is; sorts the issues of one severity.
        other: position of the row that it is a duplicate of or contradicts; of an evaluation row for LEAK; -1 for none.
        note: what was found, in a few words: the suggested answer, the kind of personal data, a length.
    """

    row: int
    kind: str
    score: float = 1.0
    other: int = -1
    note: str = ""

    @property
    def severity(self) -> int:
        """HIGH, MEDIUM or LOW."""
        return SEVERITY[self.kind]


@dataclass(frozen=True)
class DataIssues:
    """What `find_data_issues` found; iterating gives the issues, the most severe first.

    Attributes:
        issues: all of them. labels: what the label check found, or why it judged no row.
        notes: what was not looked at, one sentence each.
    """

    issues: list[Issue]
    labels: LabelIssues
    notes: list[str]

    def __len__(self) -> int:
        return len(self.issues)

    def __iter__(self) -> Iterator[Issue]:
        return iter(sorted(self.issues, key=lambda issue: (-issue.severity, -issue.score, issue.row)))

    def counts(self) -> dict[str, int]:
        """How many rows have each kind of issue; kinds without any are left out."""
        found = Counter(issue.kind for issue in self.issues)
        return {kind: found[kind] for kind in KINDS if found[kind]}


def find_data_issues(
    prompts: Sequence[str],
    answers: Sequence[str],
    evaluation: Pairs | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> DataIssues:
    """Look for label errors, conflicts, duplicates, leaks, broken answers and personal data.

    Args:
        prompts, answers: of the training rows, [n] each. Rows of plain text have "" as their prompt.
        evaluation: prompts and answers of the evaluation rows, to find those that are training rows, too.
        should_stop: asked between the checks.

    Raises:
        Stopped: when should_stop says so.
    """
    notes = [NOT_LOOKED_AT.format(MOST_ROWS, len(prompts))] if len(prompts) > MOST_ROWS else []
    given, said = list(prompts[:MOST_ROWS]), list(answers[:MOST_ROWS])
    prompts, answers = without_frame(given), without_frame(said)
    found: list[Issue] = []
    for check in (_broken_answers, _languages, _personal, _repeated):
        if should_stop():
            raise Stopped
        found += check(prompts, answers)
    if evaluation is not None:
        found += _leaks((given, said), evaluation)
    if should_stop():
        raise Stopped
    labels = find_label_issues(prompts, answers)
    found += [Issue(e.row, e.grade, e.probability, note=e.suggested) for e in labels]
    return DataIssues(found, labels, notes)


def without_frame(texts: Sequence[str]) -> list[str]:
    """The texts without what all of them begin and end with: a template says nothing about a row."""
    if len(set(texts)) < 2:
        return list(texts)
    low, high = min(texts), max(texts)
    begin = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    while begin and low[begin - 1].isalnum():
        begin -= 1  # a whole word, or none of it
    rest = [text[begin:] for text in texts]
    turned = [text[::-1] for text in rest]
    low, high = min(turned), max(turned)
    end = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    while end and low[end - 1].isalnum():
        end -= 1
    return [text[: len(text) - end] for text in rest]


def _broken_answers(prompts: Sequence[str], answers: Sequence[str]) -> list[Issue]:
    lengths = unusual_lengths(answers) if len(set(answers)) > len(answers) / 2 else np.zeros(len(answers))
    masks = {PLACEHOLDER: placeholders(answers), CUT_OFF: cut_off(answers), REFUSAL: refusals(answers)}
    found = [Issue(row, kind) for kind, mask in masks.items() for row in np.flatnonzero(mask).tolist()]
    for row in np.flatnonzero(lengths).tolist():
        kind = "much longer" if lengths[row] > 0 else "much shorter"
        found.append(Issue(row, LENGTH, min(1.0, abs(float(lengths[row])) / 20), note=kind))
    return found


def _languages(prompts: Sequence[str], answers: Sequence[str]) -> list[Issue]:
    found = other_languages(prompts, answers)
    return [Issue(row, LANGUAGE, probability, note=note) for row, (probability, note) in found.items()]


def _personal(prompts: Sequence[str], answers: Sequence[str]) -> list[Issue]:
    found = []
    for row, texts in enumerate(zip(prompts, answers, strict=True)):
        if kinds := personal_data("\n".join(texts)):
            found.append(Issue(row, PERSONAL, note=", ".join(kinds)))
    return found


def _repeated(prompts: Sequence[str], answers: Sequence[str]) -> list[Issue]:
    """Duplicates, near-duplicates, and the same prompt with different answers."""
    asked = asked_of(prompts, answers)
    words, said = [normalized(text) for text in asked], [normalized(answer) for answer in answers]
    equal: dict[str, list[int]] = {}
    for row, text in enumerate(words):
        equal.setdefault(text, []).append(row)
    issues = []
    for text, rows in equal.items():
        if text and len(rows) > 1:
            issues += _of_equal_prompts(rows, said, has_prompt=bool(prompts[rows[0]].strip()))
    near = first_near(asked)
    for row in np.flatnonzero(near >= 0).tolist():
        other = int(near[row])
        if words[row] != words[other] and (said[row] == said[other] or not prompts[row].strip()):
            issues.append(Issue(row, NEAR_DUPLICATE, other=other))
    return issues


def _of_equal_prompts(rows: list[int], said: Sequence[str], *, has_prompt: bool) -> list[Issue]:
    """Conflicts of the rows with one prompt, or the duplicates among them."""
    first = rows[0]
    different = next((row for row in rows if said[row] != said[first]), None) if has_prompt else None
    if different is None:
        return [Issue(row, DUPLICATE, other=first) for row in rows[1:]]
    return [Issue(row, CONFLICT, other=different if said[row] == said[first] else first) for row in rows]


def asked_of(prompts: Sequence[str], answers: Sequence[str]) -> list[str]:
    """What rows are compared by: their prompts; the text itself where there is none."""
    return [prompt if prompt.strip() else answer for prompt, answer in zip(prompts, answers, strict=True)]


def _leaks(training: Pairs, evaluation: Pairs) -> list[Issue]:
    """Training rows that are evaluation rows, too."""
    held = asked_of(*evaluation)[:MOST_ROWS]
    near = first_near(without_frame([*held, *asked_of(*training)]))[len(held) :]
    leaked = np.flatnonzero((near >= 0) & (near < len(held)))
    return [Issue(row, LEAK, other=int(near[row])) for row in leaked.tolist()]
