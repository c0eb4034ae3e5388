"""What a training run says about wrong labels, against the list that GEKO makes before it: the trained arms of label_errors.

python -m benchmarks.trained_label_errors --data FOLDER [--repetitions 5] [--small]

One run of GEKO for each set of labels. banking77-25: 3,000 rows of which 5 % have another label (uniform, confusable; see
label_errors), four epochs. GSM8K: 1,000 rows of which 5 % end in another number, or have the answer of another row, three epochs.
The demo: 4,000 rows, 3 % of them wrong as it makes them. Long answers: as many, 5 % with the answer of another row. The decoder has
a million parameters and knew nothing of the real rows, and half of the made ones. Rankings, each cut at as many rows as are wrong:

- highest loss of the trained model: mean over the answer's tokens, of the last weights, on the rows that they were trained on;
- loss of the record, mean over the epochs: what GEKO wrote down at the visit of each epoch, before the step was taken;
- area under the margin: the mean over the epochs of the answer's margin. A token's margin is its logit less the largest other
  one, after the end of each epoch, in a forward pass of its own (Pleiss and others, 2020, take it in the training pass, of
  classes). An answer of several tokens has the smallest of theirs, or their mean: both are given.

A repetition is a seed. One record a run goes to results/trained_label_errors.jsonl; what is there is not run again.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from transformers.utils import logging

from benchmarks.common import arguments, command, print_table, printed_tables, read_lines, results_path, write_lines
from benchmarks.datasets import MIXES
from benchmarks.label_errors import (
    BOTH,
    CONFUSABLE,
    FEW,
    LIKELY,
    UNIFORM,
    Found,
    confused_with,
    flipped,
    measured,
    row_of,
)
from benchmarks.real_data import VARIABLE
from benchmarks.single_run import COLUMNS, Trial, set_up
from geko_engine import GEKOConfig, GEKOTrainer
from geko_engine.data.batches import IGNORE_INDEX
from geko_engine.data.tokenization import tokenise
from geko_engine.quality.issues import MEDIUM, DataIssues, find_data_issues
from geko_engine.reporting.events import EpochEnded, Event
from geko_engine.scoring.evaluation import in_id_order
from geko_engine.selection.policy import SampleSignals, When
from scripts.demo_tasks import Row

SEEDS, SMALL_SEEDS, SMALL_SAMPLES = 5, 1, 600
SHARE, BATCH = 0.05, 64
BANKING, GSM8K, DEMO, LONG = "banking77, 25 intents", "gsm8k", "demo", "long"
NUMBER, SWAPPED, OWN = "another final number", "answers of other rows", "as the demo makes them"
KINDS = {BANKING: (UNIFORM, CONFUSABLE), GSM8K: (NUMBER, SWAPPED), DEMO: (OWN,), LONG: (SWAPPED,)}
NAME = "trained_label_errors"
ISSUES = "GEKO, all issues of high and medium severity"
SUSPECTS = "GEKO, suspects of the run"
SCANNED = "the same with final_scan, all samples scored once more"
BEFORE = "the same before they were scored once more"
FINAL = "highest loss of the trained model"
RECORD = "loss of the record, mean over the epochs"
SMALLEST = "area under the margin, smallest of the answer's tokens"
MEAN = "area under the margin, mean of the answer's tokens"
TOGETHER = "GEKO's probability and that margin, mean of the ranks"
Record = dict[str, Any]


def spoilt(rows: Sequence[Row], kind: str, seed: int) -> tuple[list[Row], NDArray[Any]]:
    """The rows with wrong answers among them, and which these are, bool [n]."""
    if kind in KINDS[BANKING]:
        names, labels = np.unique([row["completion"] for row in rows], return_inverse=True)
        confused = confused_with([row["prompt"] for row in rows], labels) if kind == CONFUSABLE else None
        given = flipped(labels, confused, FEW, SHARE, seed)
        return [{**row, "completion": str(names[at])} for row, at in zip(rows, given, strict=True)], given != labels
    if kind == OWN:
        return list(rows), np.array([bool(row["wrong"]) for row in rows])
    chosen = random.Random(seed).sample(range(len(rows)), round(SHARE * len(rows)))
    found, wrong = list(rows), np.zeros(len(rows), bool)
    for at, other in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        answer = rows[other]["completion"] if kind == SWAPPED else another_number(rows[at]["completion"], seed + at)
        found[at] = {**rows[at], "completion": answer}
        wrong[at] = answer != rows[at]["completion"]
    return found, wrong


def another_number(answer: str, seed: int) -> str:
    """A worked solution whose number after #### is off by one to ten; the solution itself stays as it is."""
    shift = random.Random(seed).choice([n for n in range(-10, 11) if n])
    return re.sub(r"(?<=#### )-?[\d,]+", lambda found: str(int(found[0].replace(",", "")) + shift), answer)


class Watch:
    """Listens to a run: after each epoch it keeps the record's losses and the margins of every answer.

    Attributes:
        losses, smallest, means: sums over the epochs, [n]; of an answer's tokens the smallest margin and their mean.
        suspects, last: of the record at the end of the last epoch: bool, and the loss, [n].
    """

    def __init__(self, count: int) -> None:
        self.losses, self.smallest, self.means = (np.zeros(count) for _ in range(3))
        self.suspects, self.last = np.zeros(count, bool), np.zeros(count)
        self.trainer: GEKOTrainer | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochEnded) and self.trainer is not None:
            self.losses += self.trainer.states.loss
            self.suspects, self.last = self.trainer.states.suspects(), self.trainer.states.loss.copy()
            smallest, means = margins(self.trainer)
            self.smallest += smallest
            self.means += means


@torch.no_grad()
def margins(trainer: GEKOTrainer) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of each sample's targets the smallest margin and the mean one, in logits, [n] each."""
    samples, model = trainer.samples, trainer.model
    training, order = model.training, np.argsort(trainer.samples.lengths, kind="stable")
    found = np.zeros((2, len(order)))
    model.eval()
    for start in range(0, len(order), BATCH):
        ids = order[start : start + BATCH]
        batch = trainer.engine.collate([samples[int(i)] for i in ids])
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
        labels = batch["labels"][:, 1:]
        is_target = labels != IGNORE_INDEX
        at = labels.clamp(min=0)[..., None]
        own = logits.gather(-1, at)
        margin = (own - logits.scatter(-1, at, float("-inf")).amax(-1, keepdim=True))[..., 0]
        found[0, ids] = margin.masked_fill(~is_target, float("inf")).amin(1)
        found[1, ids] = margin.masked_fill(~is_target, 0).sum(1) / is_target.sum(1)
    model.train(training)
    return found[0], found[1]


def one_run(data: str, kind: str, seed: int, samples: int) -> Record:
    """One run of GEKO on spoilt rows, and what each list and ranking makes of them."""
    mix = MIXES[data]
    with tempfile.TemporaryDirectory() as folder:
        trial = set_up(data, seed, samples, mix.epochs, folder)
        rows, wrong = spoilt(trial.rows, kind, seed)
        tokens = tokenise(rows, COLUMNS, trial.tokenizer, mix.longest)
        watch = Watch(len(tokens))
        trainer = trained(replace(trial, data=tokens), watch)
    wrong = wrong[tokens.rows]
    issues = find_data_issues([row["prompt"] for row in rows], [row["completion"] for row in rows])
    found = from_run(trainer, watch, wrong) | from_texts(issues, wrong, tokens.rows)
    if not issues.labels.reason:
        ranks = rankdata(probabilities(issues)[tokens.rows]) + rankdata(-watch.smallest)
        found[TOGETHER] = as_many(ranks, wrong)
    return {"data": data, "kind": kind, "seed": seed, "samples": samples, "arms": found}


def trained(trial: Trial, watch: Watch) -> GEKOTrainer:
    """The trainer after GEKO's run at its defaults."""
    given = (trial.model, trial.data, trial.tokenizer, None, GEKOConfig(), trial.args)
    watch.trainer = trainer = GEKOTrainer(*given, on_event=watch)
    trainer.train()
    return trainer


def from_run(trainer: GEKOTrainer, watch: Watch, wrong: NDArray[Any]) -> dict[str, Found]:
    """What the run says."""
    ids = np.arange(len(wrong))
    final = in_id_order(trainer.engine.score_samples(trainer.samples, ids, lambda: False, lambda done, total: None))
    found = {
        SUSPECTS: measured(trainer.states.suspects(), wrong, trainer.states.loss),
        BEFORE: measured(watch.suspects, wrong, watch.last),
        FINAL: as_many(final.loss, wrong),
        RECORD: as_many(watch.losses, wrong),
        SMALLEST: as_many(-watch.smallest, wrong),
        MEAN: as_many(-watch.means, wrong),
    }
    policy, states = trainer.policy, trainer.states
    policy.config = replace(policy.config, final_scan=True)
    request = policy.scan_request(When.RUN_END)
    assert request is not None
    seen = SampleSignals(final.loss, final.correct, final.confidence, final.min_target_probability, final.probability)
    policy.scanned(request, seen)
    return found | {SCANNED: measured(states.suspects(), wrong, states.loss)}


def from_texts(issues: DataIssues, wrong: NDArray[Any], rows: NDArray[Any]) -> dict[str, Found]:
    """What GEKO lists before the run; the two grades where answers repeat."""
    severity = np.zeros(int(rows.max()) + 1)
    for issue in issues:
        severity[issue.row] = max(severity[issue.row], issue.severity + issue.score)
    found = {ISSUES: measured(severity[rows] >= MEDIUM, wrong, severity[rows])}
    labels = issues.labels
    if labels.reason:
        return found
    likely, probability = labels.likely[rows], probabilities(issues)[rows]
    found[LIKELY] = measured(likely, wrong, probability)
    found[BOTH] = measured(likely | labels.look[rows], wrong, probability)
    return found


def probabilities(issues: DataIssues) -> NDArray[Any]:
    """Of each row the probability of being wrong; 0 where it could not be judged."""
    return np.nan_to_num(issues.labels.probability)


def as_many(score: NDArray[Any], wrong: NDArray[Any]) -> Found:
    """A ranking cut at the true number of wrong rows."""
    listed = np.zeros(len(wrong), bool)
    listed[np.argsort(-score, kind="stable")[: int(wrong.sum())]] = True
    return measured(listed, wrong, score)


def run_all(options: argparse.Namespace) -> list[Record]:
    """Every run that is not recorded yet; the file is written after each."""
    path = results_path(NAME, options)
    records = read_lines(path)
    done = {(r["data"], r["kind"], r["seed"]) for r in records}
    for seed in range(options.repetitions):
        for data in (BANKING,) if options.small else KINDS:
            for kind in KINDS[data]:
                if (data, kind, seed) in done:
                    continue
                samples = SMALL_SAMPLES if options.small else MIXES[data].samples
                records.append(one_run(data, kind, seed, samples))
                write_lines(path, records)
                print(f"{data}, {kind}, seed {seed}: done", flush=True)
    return records


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "", SEEDS, SMALL_SEEDS, real_data=True)
    os.environ[VARIABLE] = options.data
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # the model is small: more threads wait for one another
    show(run_all(options))
    path = results_path(NAME, options)
    tables = "\n\n".join(printed_tables())
    path.with_suffix(".md").write_text(f"`{command(NAME, options)}`\n\n{tables}\n", encoding="utf-8")


def show(records: Sequence[Record]) -> None:
    """The table of all runs."""
    rows = []
    for data, kinds in KINDS.items():
        for kind in kinds:
            mine = [record["arms"] for record in records if (record["data"], record["kind"]) == (data, kind)]
            for arm in mine[0] if mine else ():
                what = (data, f"{kind} ({len(mine)})") if arm == next(iter(mine[0])) else ("", "")
                rows.append(row_of(*what, arm, [arms[arm] for arms in mine]))
    header = (
        "data",
        "answers changed (seeds)",
        "list",
        "average precision",
        "rows",
        "precision %",
        "expected %",
        "recall %",
    )
    print_table("Mean of the seeds (smallest–largest), 5 % of the answers changed, of the demo 3 %", header, rows)


if __name__ == "__main__":
    main()
