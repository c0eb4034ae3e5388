"""What a core set is worth: banking77 on all rows, on those that a first run says carried its training, and on as many others.

python -m benchmarks.core_set --data FOLDER [--repetitions 3] [--small]

25 intents. A plain run on all rows gives the record; then every arm begins anew at the base model, with as many epochs as that
run, so that its compute is its share of the rows. The core set is chosen as the page chooses it (geko_engine.selection.core_set),
"highest loss" has the rows with the largest loss at their last visit, and "random" as many of the rows that the core set was
chosen from. "fewer steps" is the run on all rows again, ended at that compute and its learning rate decayed by then. One record
an arm and seed in results/core_set.jsonl.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import logging

from benchmarks.baselines import OFF
from benchmarks.common import arguments, print_table, write_results
from benchmarks.held_out import held_out_figures
from benchmarks.label_errors import spread
from benchmarks.real_data import VARIABLE
from benchmarks.single_run import Trial, set_up
from geko_engine import GEKOTrainer
from geko_engine.quality.issues import NEAR_DUPLICATE, find_data_issues
from geko_engine.quality.label_issues import LIKELY
from geko_engine.selection.core_set import CoreSet, LearningRecord, choose_core_set, random_set

MIX, SAMPLES, EPOCHS = "banking77, 25 intents", 3000, 4
SHARES, SMALL_SHARES = (0.50, 0.25, 0.75), (0.50,)
SEEDS, SMALL_SEEDS = 3, 1
ALL, CORE, RANDOM, HIGHEST, SHORTER = "all rows", "core set", "random", "highest loss", "all rows, fewer steps"
Record = dict[str, Any]


def trained(trial: Trial, ids: NDArray[Any] | None = None, share: float = 1.0) -> GEKOTrainer:
    """A plain run on the samples `ids`, all by default, for EPOCHS epochs; or for `share` of their steps."""
    data = trial.data if ids is None else trial.data.subset(ids)
    whole = EPOCHS * -(-len(data) // trial.args.batch_size)
    args = trial.args if share == 1.0 else replace(trial.args, max_steps=round(share * whole))
    trainer = GEKOTrainer(trial.model, data, trial.tokenizer, None, OFF, args, on_event=lambda event: None)
    trainer.train()
    return trainer


def figures(trainer: GEKOTrainer, trial: Trial) -> Record:
    """Test loss and exact match, and the compute as a share of that on all rows."""
    counter = trainer.progress.counter
    cost = (counter.forwarded + 2 * counter.backwarded) / (3 * float(trial.data.lengths.sum()) * EPOCHS)
    return {"cost": cost, **held_out_figures(trainer, trial.evaluation, trial.held_out)}


def core_set_of(trainer: GEKOTrainer, trial: Trial, share: float) -> CoreSet:
    """As the page chooses it from the record of a run."""
    prompts, answers = ([row[name] for row in trial.rows] for name in ("prompt", "completion"))
    issues = find_data_issues(prompts, answers)
    states = trainer.states
    kinds = {LIKELY: states.suspects(), NEAR_DUPLICATE: np.zeros(len(trial.data), bool)}
    for issue in issues:
        if issue.kind in kinds:
            kinds[issue.kind][issue.row] = True
    record = LearningRecord.of(states, trainer.history.arrays)
    copies = np.unique(trial.data.digests, return_inverse=True)[1]
    return choose_core_set(
        record, left_out=kinds[LIKELY], copy_of=copies, near_duplicate=kinds[NEAR_DUPLICATE], share=share
    )


def one_seed(seed: int, shares: Sequence[float]) -> list[Record]:
    """All rows, and every arm at every share."""
    records: list[Record] = []

    def enter(arm: str, share: float, trainer: GEKOTrainer, trial: Trial, rows: int) -> None:
        records.append({"arm": arm, "share": share, "seed": seed, "rows": rows, **figures(trainer, trial)})
        print(f"seed {seed}, {arm}, {share:.2f}: {records[-1]}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        trial = set_up(MIX, seed, SAMPLES, EPOCHS, folder)
        first = trained(trial)
        enter(ALL, 1.0, first, trial, len(trial.data))
        by_loss = np.argsort(-first.states.loss, kind="stable")
        for share in shares:
            chosen = core_set_of(first, trial, share)
            size = len(chosen.ids)
            arms = {
                CORE: chosen.ids,
                RANDOM: random_set(chosen.candidates, size, seed),
                HIGHEST: np.sort(by_loss[:size]),
                SHORTER: None,
            }
            for arm, ids in arms.items():
                again = set_up(MIX, seed, SAMPLES, EPOCHS, folder)
                trainer = trained(again, ids, share if ids is None else 1.0)
                enter(arm, share, trainer, again, size if ids is not None else len(again.data))
    return records


def row_of(arm: str, share: float, records: Sequence[Record]) -> tuple[str, ...]:
    """One line of the table."""
    cost, rows = (statistics.fmean(record[name] for record in records) for name in ("cost", "rows"))
    exact = [100 * record["exact_match"] for record in records]
    losses = [record["eval_loss"] for record in records]
    return (f"{100 * share:.0f} %", arm, f"{rows:,.0f}", f"{cost:.2f}", spread(losses, ".4f"), spread(exact, ".1f"))


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "", SEEDS, SMALL_SEEDS, real_data=True)
    os.environ[VARIABLE] = options.data
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # the model is small: more threads wait for one another
    shares = SMALL_SHARES if options.small else SHARES
    records = [record for seed in range(options.repetitions) for record in one_seed(seed, shares)]
    kinds = sorted({(record["share"], record["arm"]) for record in records}, key=lambda kind: (-kind[0], kind[1]))
    lines = [row_of(arm, share, [r for r in records if (r["share"], r["arm"]) == (share, arm)]) for share, arm in kinds]
    header = ("size", "the rows", "rows", "compute", "test loss", "exact match %")
    print_table(f"Mean of {options.repetitions} seeds (smallest–largest)", header, lines)
    write_results("core_set", {"seeds": options.repetitions, "shares": shares}, {"records": records}, options)


if __name__ == "__main__":
    main()
