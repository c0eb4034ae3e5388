"""Finds answers that are probably wrong where answers repeat (labels, short answers): find_label_issues.

    prompts -> features -> leave-one-out scores of every label -> noise model -> probability of being wrong -> grade

Before any training, on one core: seconds for a thousand rows, a minute or so for ten thousand. Where answers do not repeat,
or cannot be predicted from the words of the prompts, no row is judged and `reason` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.quality import noise_model
from geko_engine.quality.answer_classifier import RIDGES, LeaveOneOut, one_hot
from geko_engine.quality.noise_model import NoiseModel
from geko_engine.quality.text_features import prompt_features

FEWEST_OF_LABEL = 4  # rows with an answer, or it is not judged
FEWEST_ROWS = 50  # that can be judged
REPEATED = 0.5  # share of the rows whose answer must be repeated so often
MOST_CELLS = 50_000_000  # rows x labels: 200 MB
BETTER_THAN_GUESSING = 0.25  # of the rows that the most frequent answer gets wrong, so many must be predicted right
PRECISION = 0.9  # expected precision of LIKELY
MORE_LIKELY_THAN_NOT = 0.5
WORTH_A_LOOK = 0.1  # probability from which on a row is worth a look
LIKELY, LOOK = "likely_mislabeled", "worth_a_look"
GRADES = (LIKELY, LOOK)


@dataclass(frozen=True)
class LabelIssue:
    """One row whose answer may be wrong.

    Attributes:
        row: its position, from 0. grade: LIKELY or LOOK.
        given: its answer. suggested: the most likely other one.
        probability: of being wrong. self_confidence: of the given answer, by a classifier that has not seen the row.
    """

    row: int
    grade: str
    given: str
    suggested: str
    probability: float
    self_confidence: float


@dataclass(frozen=True)
class LabelIssues:
    """What `find_label_issues` found; iterating gives LabelIssue objects, the most suspicious first.

    Attributes:
        reason: why no row could be judged; "" otherwise.
        judged: mask [n] of the rows that were. The arrays below are nan, -1 or False for the others.
        labels: the distinct answers. given, suggested: positions in `labels`, [n].
        self_confidence: probability of the given answer, out of fold, [n].
        probability: of being wrong, [n].
        likely, look: masks [n] of the two grades.
        accuracy: share of the rows whose answer is predicted out of fold.
        pred_probs: probability of every label for the judged rows, out of fold, [judged rows, labels]; None without any.
        expected_precision: mean probability over `likely`; nan when it is empty.
    """

    reason: str
    judged: NDArray[Any]
    labels: list[str]
    given: NDArray[Any]
    suggested: NDArray[Any]
    self_confidence: NDArray[Any]
    probability: NDArray[Any]
    likely: NDArray[Any]
    look: NDArray[Any]
    accuracy: float = float("nan")
    pred_probs: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def expected_precision(self) -> float:
        return float(self.probability[self.likely].mean()) if self.likely.any() else float("nan")

    def __len__(self) -> int:
        return int(self.likely.sum() + self.look.sum())

    def __iter__(self) -> Iterator[LabelIssue]:
        listed = np.flatnonzero(self.likely | self.look)
        for row in listed[np.lexsort((self.self_confidence[listed], -self.probability[listed]))].tolist():
            yield LabelIssue(
                row,
                LIKELY if self.likely[row] else LOOK,
                self.labels[self.given[row]],
                self.labels[self.suggested[row]],
                float(self.probability[row]),
                float(self.self_confidence[row]),
            )


def find_label_issues(prompts: Sequence[str], answers: Sequence[str]) -> LabelIssues:
    """Find answers that are probably wrong among answers that repeat.

    Args:
        prompts, answers: of each row, [n].

    Returns:
        The two grades, and for every judged row its out-of-fold self-confidence and the most likely other answer.

    Example:
        >>> found = find_label_issues(prompts, answers)
        >>> for issue in found:
        ...     print(issue.row, issue.given, "->", issue.suggested, f"{issue.probability:.0%}")
    """
    labels, given = repeated_labels(prompts, answers)
    judged = given >= 0
    reason = _not_repeated(judged, len(labels))
    if reason:
        return _unjudged(len(prompts), reason)
    rows = np.flatnonzero(judged)
    try:
        model = LeaveOneOut(prompt_features([prompts[row] for row in rows.tolist()]))
    except ValueError:  # scikit-learn's empty vocabulary
        return _unjudged(len(prompts), "the prompts hold no words.")
    scores, noise = judge(model, given[rows], len(labels))
    predicted = scores.argmax(1) == given[rows]
    reason = _not_predicted(float(predicted.mean()), given[rows])
    if reason:
        return _unjudged(len(prompts), reason)
    return _found(len(prompts), rows, labels, given, scores, noise)


def repeated_labels(prompts: Sequence[str], answers: Sequence[str]) -> tuple[list[str], NDArray[Any]]:
    """The answers that stand in at least FEWEST_OF_LABEL rows, and of each row its position among them, or -1, [n]."""
    said = [" ".join(answer.split()) for answer in answers]
    asked = np.array([bool(prompt.strip()) for prompt in prompts], bool)
    counts = Counter(text for text, has_prompt in zip(said, asked.tolist(), strict=True) if text and has_prompt)
    labels = sorted(text for text, count in counts.items() if count >= FEWEST_OF_LABEL)
    places = {text: place for place, text in enumerate(labels)}
    given = np.array([places.get(text, -1) for text in said], np.int64)
    return labels, np.where(asked, given, -1)


def judge(model: LeaveOneOut, given: NDArray[Any], count: int) -> tuple[NDArray[Any], NoiseModel]:
    """Scores [n, count] of all labels for each row from the other rows, and the noise model fitted to them.

    Args:
        model: of the features of the rows. given: their labels in [0, count), [n].
    """
    targets = one_hot(given, count)
    fits = [(scores, noise_model.fit(scores, given)) for scores in (model.scores(targets, ridge) for ridge in RIDGES)]
    return max(fits, key=lambda fit: fit[1].log_likelihood)


def graded(probability: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Masks of the two grades: the longest list with an expected precision of PRECISION, and what is worth a look beside.

    Args:
        probability: of being wrong, [n].
    """
    order = np.argsort(-probability, kind="stable")
    expected = np.cumsum(probability[order]) / np.arange(1, len(order) + 1)
    count = int((expected >= PRECISION).sum())  # the mean of a falling sequence falls
    likely = np.zeros(len(probability), bool)
    likely[order[:count]] = True
    likely &= probability >= MORE_LIKELY_THAN_NOT
    return likely, (probability >= WORTH_A_LOOK) & ~likely


def _not_repeated(judged: NDArray[Any], labels: int) -> str:
    share = float(judged.mean()) if len(judged) else 0.0
    if judged.sum() >= FEWEST_ROWS and share >= REPEATED and labels > 1:
        return "" if judged.sum() * labels <= MOST_CELLS else f"{labels:,} different answers are too many."
    if labels < 2 and share >= REPEATED:
        return "all answers are equal."
    return (
        f"only {100 * share:.0f} % of the rows have an answer that stands in at least {FEWEST_OF_LABEL} rows. A "
        "classifier needs answers that repeat, such as labels."
    )


def _not_predicted(accuracy: float, given: NDArray[Any]) -> str:
    guessed = float(np.bincount(given).max() / len(given))
    if accuracy - guessed >= BETTER_THAN_GUESSING * (1 - guessed):
        return ""
    return (
        f"the words of the prompts predict {100 * accuracy:.0f} % of the answers, and the most frequent answer alone is "
        f"right in {100 * guessed:.0f} %."
    )


def _unjudged(count: int, reason: str) -> LabelIssues:
    none, unknown = np.zeros(count, bool), np.full(count, np.nan)
    nothing = np.full(count, -1, np.int64)
    return LabelIssues(reason, none, [], nothing, nothing, unknown, unknown, none, none)


def _found(
    count: int,
    rows: NDArray[Any],
    labels: list[str],
    given: NDArray[Any],
    scores: NDArray[Any],
    noise: NoiseModel,
) -> LabelIssues:
    own = given[rows]
    pred_probs = noise.expected(scores)
    others = scores.copy()
    others[np.arange(len(rows)), own] = -np.inf
    likely, look = graded(noise.wrong(scores, own))

    def spread(values: NDArray[Any], empty: Any) -> NDArray[Any]:
        full = np.full(count, empty, values.dtype)
        full[rows] = values
        return full

    return LabelIssues(
        "",
        given >= 0,
        labels,
        given,
        spread(others.argmax(1), -1),
        spread(noise_model.own(pred_probs, own), np.nan),
        spread(noise.wrong(scores, own), np.nan),
        spread(likely, False),
        spread(look, False),
        float((scores.argmax(1) == own).mean()),
        pred_probs,
    )
