"""How well wrong labels are found before any training, against cleanlab on the same out-of-fold probabilities.

python -m benchmarks.label_errors --data FOLDER [--repetitions 5] [--small]

banking77 with all its intents and with 25 of them; 2, 5 and 10 % of the labels are changed, to any other label (uniform) or to
one that a naive Bayes classifier confuses with the right one (confusable). A repetition is a seed. Prints a table and writes
results/label_errors.jsonl. Counted, not timed; about a minute a seed on one core.

cleanlab (AGPL) is no dependency of GEKO and not fetched: its rows are there if it is installed.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from benchmarks.common import arguments, print_table, write_results
from benchmarks.real_data import VARIABLE, banking77
from geko_engine.quality import noise_model
from geko_engine.quality.answer_classifier import LeaveOneOut
from geko_engine.quality.label_issues import graded, judge
from geko_engine.quality.text_features import prompt_features

SEEDS, SMALL_SEEDS = 5, 2
SHARES = (0.0, 0.02, 0.05, 0.10)
UNIFORM, CONFUSABLE = "uniform", "confusable"
LIKELY, BOTH = "GEKO, likely mislabeled", "GEKO, both grades"
LOGISTIC = "self-confidence of logistic regression, 5 folds, as many"
ALONE = "self-confidence, as many as are wrong"
CLEANLAB = "cleanlab"
FEW, ALL = 25, 77  # intents
LOGISTIC_SEEDS = 2  # it takes longer than everything else
Found = dict[str, float]


def flipped(labels: NDArray[Any], confused: NDArray[Any] | None, count: int, share: float, seed: int) -> NDArray[Any]:
    """The labels with a share of them changed.

    Args:
        labels: in [0, count), [n]. confused: of each row the label that it is changed to, [n]; None for any other one.
    """
    random = np.random.default_rng(seed)
    changed = random.permutation(len(labels))[: round(share * len(labels))]
    found = labels.copy()
    other = (labels + random.integers(1, count, len(labels))) % count
    found[changed] = (other if confused is None else confused)[changed]
    return found


def confused_with(prompts: Sequence[str], labels: NDArray[Any]) -> NDArray[Any]:
    """Of each row the most likely label but its own, by naive Bayes on its words, out of fold: not GEKO's classifier."""
    words = CountVectorizer(binary=True).fit_transform(prompts)
    probabilities = cross_val_predict(MultinomialNB(alpha=0.1), words, labels, cv=5, method="predict_proba")
    probabilities[np.arange(len(labels)), labels] = -1
    return np.asarray(probabilities.argmax(1))


def measured(listed: NDArray[Any], wrong: NDArray[Any], score: NDArray[Any]) -> Found:
    """Average precision of a ranking, and how many a list holds, and how many of these are wrong."""
    precision = float(average_precision_score(wrong, score)) if wrong.any() else float("nan")
    return {
        "ap": precision,
        "listed": int(listed.sum()),
        "right": int((listed & wrong).sum()),
        "wrong": int(wrong.sum()),
    }


def one_trial(model: LeaveOneOut, given: NDArray[Any], wrong: NDArray[Any], count: int) -> dict[str, Found]:
    """Every arm on one set of labels."""
    scores, noise = judge(model, given, count)
    probability = noise.wrong(scores, given)
    likely, look = graded(probability)
    pred_probs = noise.expected(scores)
    confidence = noise_model.own(pred_probs, given)
    as_many = np.zeros(len(given), bool)
    as_many[np.argsort(confidence, kind="stable")[: int(wrong.sum())]] = True
    found = {
        LIKELY: measured(likely, wrong, probability),
        BOTH: measured(likely | look, wrong, probability),
        ALONE: measured(as_many, wrong, -confidence),
    }
    found[LIKELY]["expected"] = float(probability[likely].mean()) if likely.any() else float("nan")
    return found | by_cleanlab(pred_probs.astype(np.float64), given, wrong)


def by_cleanlab(pred_probs: NDArray[Any], given: NDArray[Any], wrong: NDArray[Any]) -> dict[str, Found]:
    """cleanlab's own cut and ranking on the same probabilities, with its defaults; nothing if it is not installed."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return {}
    pred_probs = pred_probs / pred_probs.sum(1, keepdims=True)
    listed = find_label_issues(given, pred_probs, n_jobs=1)
    quality = get_label_quality_scores(given, pred_probs)
    return {CLEANLAB: measured(np.asarray(listed), wrong, -quality)}


def by_logistic_regression(prompts: Sequence[str], given: NDArray[Any], wrong: NDArray[Any]) -> dict[str, Found]:
    """Another classifier: logistic regression on TF-IDF of words and word pairs, five folds; as many as are wrong."""
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    pred_probs = cross_val_predict(model, prompts, given, cv=folds, method="predict_proba")
    confidence = noise_model.own(pred_probs, given)
    as_many = np.zeros(len(given), bool)
    as_many[np.argsort(confidence, kind="stable")[: int(wrong.sum())]] = True
    return {LOGISTIC: measured(as_many, wrong, -confidence)}


def on_intents(intents: int, seeds: int) -> dict[str, list[dict[str, Found]]]:
    """Trials by "kind share", one for each seed."""
    rows = banking77("train", intents)
    prompts, answers = [row["prompt"] for row in rows], [row["completion"] for row in rows]
    labels = np.unique(answers, return_inverse=True)[1]
    model, confused = LeaveOneOut(prompt_features(prompts)), confused_with(prompts, labels)
    found = {}
    for share in SHARES:
        for kind, to in ((UNIFORM, None), (CONFUSABLE, confused)) if share else (("none", None),):
            trials = []
            for seed in range(seeds if share else 1):
                given = flipped(labels, to, intents, share, seed)
                trial = one_trial(model, given, given != labels, intents)
                if share and intents == FEW and seed < LOGISTIC_SEEDS:
                    trial |= by_logistic_regression(prompts, given, given != labels)
                trials.append(trial)
            found[f"{kind} {100 * share:g} %"] = trials
            print(f"{intents} intents, {kind} {100 * share:g} %: done", flush=True)
    return found


def row_of(data: str, flips: str, arm: str, trials: Sequence[Found]) -> tuple[str, ...]:
    """One line of the table: means over the seeds, the smallest and the largest in parentheses."""
    precision = [100 * t["right"] / t["listed"] for t in trials if t["listed"]]
    recall = [100 * t["right"] / t["wrong"] for t in trials if t["wrong"]]
    expected = [100 * t["expected"] for t in trials if t.get("expected") == t.get("expected") and "expected" in t]
    listed = statistics.fmean(t["listed"] for t in trials)
    cells = [spread([t["ap"] for t in trials if t["wrong"]], ".3f"), f"{listed:.0f}"]
    return (data, flips, arm, *cells, *(spread(values, ".0f") for values in (precision, expected, recall)))


def spread(values: Sequence[float], form: str) -> str:
    """Mean, smallest and largest."""
    if not values:
        return "–"
    return f"{statistics.fmean(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "", SEEDS, SMALL_SEEDS, real_data=True)
    os.environ[VARIABLE] = options.data
    results = {
        f"{intents} intents": on_intents(intents, options.repetitions)
        for intents in ((FEW,) if options.small else (FEW, ALL))
    }
    rows = [
        row_of(
            data if trials is next(iter(found.values())) else "",
            flips,
            arm,
            [trial[arm] for trial in trials if arm in trial],
        )
        for data, found in results.items()
        for flips, trials in found.items()
        for arm in trials[0]
    ]
    header = (
        "banking77",
        "labels changed",
        "list",
        "average precision",
        "listed",
        "precision %",
        "expected %",
        "recall %",
    )
    print_table(f"Mean of {options.repetitions} seeds (smallest–largest)", header, rows)
    write_results(
        "label_errors", {"seeds": options.repetitions, "cleanlab": "cleanlab" in sys.modules}, results, options
    )


if __name__ == "__main__":
    main()
