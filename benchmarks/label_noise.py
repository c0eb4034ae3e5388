"""Which samples the noise guard holds for wrong, and how many of them are, epoch by epoch.

python -m benchmarks.label_noise [--repetitions 5] [--small] [--large]

A repetition is a seed. Prints a table and writes results/label_noise.jsonl. Counted, not timed; about 20 s a run on one core.
"""

from __future__ import annotations

import statistics
import tempfile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import logging

from benchmarks.common import arguments, print_table, write_results
from benchmarks.datasets import MIXES
from benchmarks.report import write_page
from benchmarks.single_run import SMALL_SAMPLES, SMALL_SEEDS, set_up
from benchmarks.tables import FEWEST_SEEDS
from geko_engine import GEKOConfig, GEKOTrainer
from geko_engine.reporting.events import EpochEnded, Event
from geko_engine.selection.label_noise import suspected

DEFAULT = ("demo", "wrong", "new", "duplicates", "long", "long wrong")
SHORT = ("demo", "wrong")
WITH, WITHOUT = "all", "HARD twice in a row"
Found = dict[str, list[dict[str, int]]]


def one_run(mix: str, seed: int, samples: int) -> Found:
    """Suspects after each epoch of GEKO's run, and how many of them have a wrong answer."""
    with tempfile.TemporaryDirectory() as folder:
        trial = set_up(mix, seed, samples, MIXES[mix].epochs, folder)
        wrong = np.array([bool(trial.rows[int(row)]["wrong"]) for row in trial.data.rows])
        found: Found = {WITH: [], WITHOUT: []}

        def look(event: Event) -> None:
            if isinstance(event, EpochEnded):
                states = trainer.states
                twice = suspected(
                    states.bucket, states.hard_streak, np.zeros_like(states.loss_outlier), states.min_target_probability
                )
                found[WITH].append(counted(states.suspects(), wrong))
                found[WITHOUT].append(counted(twice, wrong))

        trainer = GEKOTrainer(trial.model, trial.data, trial.tokenizer, None, GEKOConfig(), trial.args, on_event=look)
        trainer.train()
    return found


def counted(suspects: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> dict[str, int]:
    """How many are listed, how many of these are wrong, and how many are wrong at all."""
    return {"listed": int(suspects.sum()), "right": int((suspects & wrong).sum()), "wrong": int(wrong.sum())}


def row_of(mix: str, how: str, epoch: int, runs: list[dict[str, int]]) -> tuple[str, ...]:
    """One line of the table: means over the seeds, the smallest and the largest share in parentheses."""
    listed = statistics.fmean(run["listed"] for run in runs)
    precision = [100 * run["right"] / run["listed"] for run in runs if run["listed"]]
    recall = [100 * run["right"] / run["wrong"] for run in runs if run["wrong"]]
    shares = [f"{statistics.fmean(v):.0f} ({min(v):.0f}–{max(v):.0f})" if v else "–" for v in (precision, recall)]
    return (mix, how, str(epoch + 1), f"{listed:.0f}", *shares)


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "", FEWEST_SEEDS, SMALL_SEEDS)
    mixes = list(MIXES) if options.large else SHORT if options.small else DEFAULT
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # the model is small: more threads wait for one another
    results: dict[str, Any] = {}
    for mix in mixes:
        samples = SMALL_SAMPLES if options.small else MIXES[mix].samples
        results[mix] = [one_run(mix, seed, samples) for seed in range(options.repetitions)]
        print(f"{mix}: done", flush=True)
    rows = [
        row_of(mix, how, epoch, [run[how][epoch] for run in runs])
        for mix, runs in results.items()
        for how in (WITHOUT, WITH)
        for epoch in range(len(runs[0][how]) - 1)  # what is found after the last epoch is left out of nothing
    ]
    header = ("data", "found", "after epoch", "suspects", "of these wrong, %", "of the wrong found, %")
    print_table(f"Mean of {options.repetitions} seeds (smallest–largest)", header, rows)
    write_results("label_noise", {"seeds": options.repetitions}, results, options)
    if not options.small and not options.large:
        write_page()


if __name__ == "__main__":
    main()
