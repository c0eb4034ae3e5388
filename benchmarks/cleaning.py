"""What cleaning a dataset is worth: banking77 with a tenth of its labels changed, left as it is, cleaned, and right from the start.

python -m benchmarks.cleaning --data FOLDER [--repetitions 5] [--small]

25 intents; the labels are changed to those that a naive Bayes classifier confuses with the right ones. The lists are those of
geko_engine.find_label_issues, made before any training. Every arm takes as many optimizer steps, so that they spend the same
compute, but for "retrained": it goes on from the model of "as it is" with the corrected rows and a share of the others, as the
page's "Retrain what changed" does; and once more at the whole learning rate, with a fifth replayed. Two lists of others are deleted for
comparison: cleanlab's own cut on the same probabilities (if it is installed), and the rows with the highest loss of the model of
"as it is", as many as GEKO's two grades list. Plain training without GEKO's skipping, one record an arm and seed in
results/cleaning.jsonl; seeds that the last results have are not run again.
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import logging

from benchmarks.baselines import OFF
from benchmarks.common import arguments, print_table, read_lines, results_path, write_results
from benchmarks.datasets import MIXES
from benchmarks.held_out import held_out_figures
from benchmarks.label_errors import FEW, confused_with, flipped, spread
from benchmarks.real_data import VARIABLE
from benchmarks.single_run import COLUMNS, Trial, set_up
from geko_app.form.rerun_options import EPOCHS as RETRAINING_EPOCHS
from geko_app.form.rerun_options import OF_RATE, REPLAYED
from geko_engine import GEKOTrainer
from geko_engine.data.tokenization import tokenise
from geko_engine.quality.label_issues import LabelIssues, find_label_issues
from geko_engine.scoring.evaluation import in_id_order
from scripts.demo_tasks import Row

MIX, SAMPLES, EPOCHS, SHARE = "banking77, 25 intents", 3000, 4, 0.10
SEEDS, SMALL_SEEDS = 5, 1
NAME = "cleaning"
AS_IS, RIGHT = "as it is", "all labels right"
RETRAINED = "retrained: the suggestions, from the model of “as it is”"
RETRAINED_FAST = "the same at the whole learning rate, a fifth replayed"
RETRAINING = {  # share of its rows that are replayed, factor of the learning rate, epochs
    RETRAINED: (REPLAYED, OF_RATE, RETRAINING_EPOCHS),
    RETRAINED_FAST: (0.2, 1.0, EPOCHS),
}
DELETED, DELETED_BOTH = "likely mislabeled deleted", "both grades deleted"
BY_CLEANLAB, BY_LOSS = "cleanlab's list deleted", "highest loss of “as it is” deleted, as many as both grades"
SUGGESTED, CORRECTED = "likely mislabeled: suggestion accepted", "likely mislabeled: corrected by hand"
Record = dict[str, Any]


def labelled(rows: Sequence[Row], answers: Sequence[str]) -> list[Row]:
    """The rows with other answers."""
    return [{**row, "completion": answer} for row, answer in zip(rows, answers, strict=True)]


def cleaned(rows: Sequence[Row], true: Sequence[str], found: LabelIssues) -> dict[str, list[Row]]:
    """The rows of each arm that begins at the base model.

    Args:
        rows: with the labels as they are. true: the right ones.
    """
    likely, both = found.likely, found.likely | found.look
    given = [row["completion"] for row in rows]
    suggested = [
        found.labels[place] if place >= 0 else answer for place, answer in zip(found.suggested, given, strict=True)
    ]
    picked = [s if is_likely else g for s, g, is_likely in zip(suggested, given, likely, strict=True)]
    by_hand = [t if is_likely else g for t, g, is_likely in zip(true, given, likely, strict=True)]
    listed = by_cleanlab(found)
    return {
        AS_IS: list(rows),
        DELETED: without(rows, likely),
        DELETED_BOTH: without(rows, both),
        **({} if listed is None else {BY_CLEANLAB: without(rows, listed)}),
        SUGGESTED: labelled(rows, picked),
        CORRECTED: labelled(rows, by_hand),
        RIGHT: labelled(rows, true),
    }


def without(rows: Sequence[Row], listed: NDArray[Any]) -> list[Row]:
    """The rows that are not on a list, which is bool [n]."""
    return [row for row, out in zip(rows, listed, strict=True) if not out]


def by_cleanlab(found: LabelIssues) -> NDArray[Any] | None:
    """cleanlab's own cut on the same probabilities, bool [n]; None where it is not installed. Every row must be judged."""
    try:
        from cleanlab.filter import find_label_issues as cut
    except ImportError:
        return None
    assert found.pred_probs is not None and found.judged.all()
    pred_probs = found.pred_probs.astype(np.float64)
    return np.asarray(cut(found.given, pred_probs / pred_probs.sum(1, keepdims=True), n_jobs=1))


def highest_loss(trainer: GEKOTrainer, rows: int, count: int) -> NDArray[Any]:
    """The `count` rows of highest loss after a run on them, bool [rows]."""
    ids = np.arange(rows)
    scores = in_id_order(trainer.engine.score_samples(trainer.samples, ids, lambda: False, lambda done, total: None))
    listed = np.zeros(rows, bool)
    listed[np.argsort(-scores.loss, kind="stable")[:count]] = True
    return listed


def trained(trial: Trial, rows: Sequence[Row], *, steps: int | None = None, epochs: int = EPOCHS) -> GEKOTrainer:
    """A plain run on `rows`; with `steps` it has as many as those and goes through the rows as often as that takes."""
    data = tokenise(rows, COLUMNS, trial.tokenizer, MIXES[MIX].longest)
    args = replace(trial.args, num_epochs=epochs, max_steps=steps)
    trainer = GEKOTrainer(trial.model, data, trial.tokenizer, None, OFF, args, on_event=lambda event: None)
    trainer.train()
    return trainer


def figures(trainer: GEKOTrainer, trial: Trial, whole: float) -> Record:
    """Test loss and exact match, and the compute as a share of `whole` tokens."""
    counter = trainer.progress.counter
    cost = (counter.forwarded + 2 * counter.backwarded) / (3 * whole)
    return {"cost": cost, **held_out_figures(trainer, trial.evaluation, trial.held_out)}


def one_seed(seed: int) -> list[Record]:
    """Every arm on one set of labels."""
    with tempfile.TemporaryDirectory() as folder:
        base = set_up(MIX, seed, SAMPLES, EPOCHS, folder)
        true = [row["completion"] for row in base.rows]
        names, labels = np.unique(true, return_inverse=True)
        confused = confused_with([row["prompt"] for row in base.rows], labels)
        given = names[flipped(labels, confused, FEW, SHARE, seed)].tolist()
        rows = labelled(base.rows, given)
        found = find_label_issues([row["prompt"] for row in rows], given)
        steps = EPOCHS * -(-len(rows) // base.args.batch_size)
        whole = float(base.data.lengths.sum()) * EPOCHS
        arms = cleaned(rows, true, found)
        records: list[Record] = []

        def ended(arm: str, trial: Trial, trainer: GEKOTrainer) -> None:
            records.append({"arm": arm, "seed": seed, **figures(trainer, trial, whole)})
            print(f"seed {seed}, {arm}: {records[-1]}", flush=True)

        def run_arm(arm: str, mine: Sequence[Row]) -> tuple[Trial, GEKOTrainer]:
            trial = set_up(MIX, seed, SAMPLES, EPOCHS, folder)
            trainer = trained(trial, mine, steps=steps, epochs=2 * EPOCHS)
            ended(arm, trial, trainer)
            return trial, trainer

        trial, trainer = run_arm(AS_IS, arms.pop(AS_IS))
        arms[BY_LOSS] = without(rows, highest_loss(trainer, len(rows), len(found)))
        for how, again in retrained(trial, arms[SUGGESTED], found, seed):
            ended(how, trial, again)
        for arm, mine in arms.items():
            run_arm(arm, mine)
    return records


def retrained(trial: Trial, rows: Sequence[Row], found: LabelIssues, seed: int) -> Iterator[tuple[str, GEKOTrainer]]:
    """Goes on from the trained model of `trial` with the rows that were changed, and a share of the others."""
    state = copy.deepcopy(trial.model.state_dict())
    changed = [row for row, is_likely in zip(rows, found.likely, strict=True) if is_likely]
    others = [row for row, listed in zip(rows, found.likely | found.look, strict=True) if not listed]
    for how, (share, factor, epochs) in RETRAINING.items():
        trial.model.load_state_dict(state)
        replayed = random.Random(seed).sample(others, round(share / (1 - share) * len(changed)))
        args = replace(trial.args, learning_rate=factor * trial.args.learning_rate)
        yield how, trained(replace(trial, args=args), [*changed, *replayed], epochs=epochs)


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "", SEEDS, SMALL_SEEDS, real_data=True)
    os.environ[VARIABLE] = options.data
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # the model is small: more threads wait for one another
    records = recorded(options)
    done = {record["seed"] for record in records}
    records += [record for seed in range(options.repetitions) if seed not in done for record in one_seed(seed)]
    arms = dict.fromkeys(record["arm"] for record in records)
    rows = [row_of(arm, [record for record in records if record["arm"] == arm]) for arm in arms]
    header = ("the rows", "compute", "test loss", "exact match %")
    print_table(f"Mean of {options.repetitions} seeds (smallest–largest)", header, rows)
    write_results(NAME, {"seeds": options.repetitions}, {"records": records}, options)


def recorded(options: argparse.Namespace) -> list[Record]:
    """What the last results have of the seeds that are asked for; these are not run again."""
    lines = read_lines(results_path(NAME, options))
    found: list[Record] = lines[-1]["results"]["records"] if lines else []
    return [record for record in found if record["seed"] < options.repetitions]


def row_of(arm: str, records: Sequence[Record]) -> tuple[str, ...]:
    """One line of the table."""
    exact = [100 * record["exact_match"] for record in records]
    cost = statistics.fmean(record["cost"] for record in records)
    return (arm, f"{cost:.2f}", spread([record["eval_loss"] for record in records], ".4f"), spread(exact, ".1f"))


if __name__ == "__main__":
    main()
