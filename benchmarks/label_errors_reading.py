"""How many of the rows that GEKO lists in banking77 as it is published are wrong, by a reading.

python -m benchmarks.label_errors_reading --data FOLDER [--repetitions 5] [--small]

results/label_errors_verdicts.jsonl has the verdicts: the row (from 0, in banking77-train.csv), the given and the suggested label, and
whether the given one is wrong, right, or could be meant as well as another one ("either"); `suggestion` says the same of the
suggested label. It holds none of the texts: read the rows yourself to check a verdict. One reader, a language model, read them,
knew which label was given and which was suggested, and compared with other rows of both labels. No second reader has looked.

First the lists on the unchanged labels of all 77 intents; then the lists of label_errors on changed labels, where rows of the
unchanged ones count as wrong if the reading says so, and rows that were not read as right. A repetition is a seed. About three
minutes on one core.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, arguments, print_table, write_results
from benchmarks.label_errors import ALL, CONFUSABLE, SEEDS, SMALL_SEEDS, UNIFORM, confused_with, flipped, spread
from benchmarks.real_data import VARIABLE, banking77
from geko_engine.quality import noise_model
from geko_engine.quality.answer_classifier import LeaveOneOut
from geko_engine.quality.label_issues import LabelIssues, find_label_issues, graded, judge
from geko_engine.quality.text_features import prompt_features

VERDICTS = RESULTS / "label_errors_verdicts.jsonl"
TOP = 50
WRONG, EITHER, RIGHT, UNREAD = "wrong", "either", "right", "not read"
Verdict = dict[str, Any]


def read_verdicts() -> dict[int, Verdict]:
    """By row."""
    found = map(json.loads, VERDICTS.read_text(encoding="utf-8").splitlines())
    return {verdict["row"]: verdict for verdict in found}


def ranked(found: LabelIssues) -> list[int]:
    """All rows, the most suspicious first."""
    return np.lexsort((found.self_confidence, -found.probability)).tolist()


def lists(found: LabelIssues) -> dict[str, list[int]]:
    """The rows of each list; cleanlab's where it is installed, on the same probabilities."""
    made = {
        f"GEKO, the {TOP} most suspicious": ranked(found)[:TOP],
        "GEKO, likely mislabeled": np.flatnonzero(found.likely).tolist(),
        "GEKO, both grades": [issue.row for issue in found],
    }
    try:
        from cleanlab.filter import find_label_issues as by_cleanlab
    except ImportError:
        return made
    assert found.pred_probs is not None, "banking77 can be judged"
    pred_probs = found.pred_probs.astype(np.float64)
    pred_probs /= pred_probs.sum(1, keepdims=True)
    for how in ("self_confidence", "normalized_margin"):
        rows = by_cleanlab(found.given, pred_probs, n_jobs=1, return_indices_ranked_by=how)
        made[f"cleanlab, its first {TOP} by {how}"] = rows[:TOP].tolist()
    return made


def counted(rows: Sequence[int], verdicts: dict[int, Verdict]) -> dict[str, int]:
    """How many rows have each verdict, and for how many wrong ones the suggested label is right."""
    said = [verdicts.get(row, {"verdict": UNREAD}) for row in rows]
    counts = {kind: sum(verdict["verdict"] == kind for verdict in said) for kind in (WRONG, EITHER, RIGHT, UNREAD)}
    helped = [verdict for verdict in said if verdict["verdict"] == WRONG and verdict["suggestion"] == RIGHT]
    return {"listed": len(rows), **counts, "suggestion_right": len(helped)}


def on_changed_labels(labels: NDArray[Any], prompts: Sequence[str], seeds: int) -> dict[str, list[dict[str, float]]]:
    """Of each seed's *likely mislabeled*: shares that are changed, and that are wrong by the reading as well."""
    verdicts = read_verdicts()
    strict, loose, known = (np.zeros(len(labels), bool) for _ in range(3))
    for row, verdict in verdicts.items():
        known[row], strict[row] = True, verdict["verdict"] == WRONG
        loose[row] = verdict["verdict"] in (WRONG, EITHER)
    model, confused = LeaveOneOut(prompt_features(prompts)), confused_with(prompts, labels)
    found: dict[str, list[dict[str, float]]] = {}
    for share in (0.02, 0.05, 0.10):
        for kind, to in ((UNIFORM, None), (CONFUSABLE, confused)):
            for seed in range(seeds):
                given = flipped(labels, to, ALL, share, seed)
                scores, noise = judge(model, given, ALL)
                probability, changed = noise.wrong(scores, given), given != labels
                likely, _ = graded(probability)
                shares = {
                    "expected": float(probability[likely].mean()),
                    "changed": float(changed[likely].mean()),
                    "or_wrong": float((changed | strict)[likely].mean()),
                    "or_either": float((changed | loose)[likely].mean()),
                    "unread": int((~changed & ~known)[likely].sum()),
                }
                found.setdefault(f"{kind} {100 * share:g} %", []).append({"listed": int(likely.sum())} | shares)
    return found


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "", SEEDS, SMALL_SEEDS, real_data=True)
    os.environ[VARIABLE] = options.data
    rows, verdicts = banking77("train", ALL), read_verdicts()
    prompts, answers = [row["prompt"] for row in rows], [row["completion"] for row in rows]
    found = find_label_issues(prompts, answers)
    unchanged = {name: counted(listed, verdicts) for name, listed in lists(found).items()}
    labels = np.unique(answers, return_inverse=True)[1]
    changed = on_changed_labels(labels, prompts, options.repetitions)
    noise_model.BLUR = 1.0  # one temperature for all rows, as it was before there were verdicts
    before = on_changed_labels(labels, prompts, options.repetitions)
    print_lists(unchanged)
    print_changed("77 intents with changed labels: precision of “likely mislabeled”", changed)
    print_changed("The same without the blur of the noise model (BLUR = 1)", before)
    print_reading(ranked(found)[:TOP], verdicts, found)
    write_results(
        "label_errors_reading",
        {"seeds": options.repetitions},
        {"unchanged": unchanged, "changed": changed, "without_blur": before},
        options,
    )


def print_lists(unchanged: dict[str, dict[str, int]]) -> None:
    """The lists on the labels as they are published."""
    header = ("list", "rows", WRONG, EITHER, RIGHT, UNREAD, "suggestion right, of the wrong")
    lines = [(name, *(str(count) for count in counts.values())) for name, counts in unchanged.items()]
    print_table("banking77, 77 intents, as published: what the reading says of each list", header, lines)


def print_changed(title: str, changed: dict[str, list[dict[str, float]]]) -> None:
    """The lists on changed labels."""
    lines = [
        (
            flips,
            f"{np.mean([t['listed'] for t in trials]):.0f}",
            *(
                spread([100 * t[name] for t in trials], ".0f")
                for name in ("expected", "changed", "or_wrong", "or_either")
            ),
            f"{np.mean([t['unread'] for t in trials]):.1f}",
        )
        for flips, trials in changed.items()
    ]
    header = (
        "labels changed",
        "likely mislabeled",
        "expected %",
        "changed %",
        "changed or wrong %",
        "changed, wrong or either %",
        "rows not read",
    )
    print_table(f"{title}, mean (smallest–largest)", header, lines)


def print_reading(rows: Sequence[int], verdicts: dict[int, Verdict], found: LabelIssues) -> None:
    """The verdict on each of the most suspicious rows."""
    lines = []
    for row in rows:
        verdict = verdicts.get(row, {"verdict": UNREAD, "suggestion": ""})
        given, suggested = found.labels[found.given[row]], found.labels[found.suggested[row]]
        probability = f"{found.probability[row]:.2f}"
        lines.append(
            (
                str(row),
                given,
                suggested,
                probability,
                verdict["verdict"],
                verdict["suggestion"],
                verdict.get("note", ""),
            )
        )
    header = ("row", "given", "suggested", "probability", "the given label is", "the suggested one is", "why")
    print_table(f"The {TOP} most suspicious rows, the first at the top", header, lines)


if __name__ == "__main__":
    main()
