"""A length that is found by itself, against the best of fixed ones.

python -m benchmarks.auto [--data DIR] [--mixes demo wrong ...] [--seeds 5] [--jobs 2] [--small]

For each mix and seed: plain training of 1, 2, 3, 5 and 10 epochs, each with its own schedule down to zero; the same lengths with
average_weights ("N, averaged"), which is what auto delivers, too; and num_epochs = auto (at most 10): once with 5 % of the rows held out, as GEKO does where there are no evaluation rows, and
once with evaluation rows of its own, so that it trains on all that the others train on. Whoever looks for the best fixed length
needs held-out rows, too: the arms "N, 5 % held out" are plain training on what these leave. Compute is in epochs of plain training over all
rows: (forwarded + 2 x backwarded tokens, checks included) / (3 x tokens). All are judged on test rows that none of them saw.
Records go to results/auto.jsonl, one for each run; what is recorded is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.auto_table import AUTO, AUTOS, AVERAGED, GIVEN, LENGTHS, LESS, Record, figures, place, tables
from benchmarks.baselines import OFF
from benchmarks.common import RESULTS, SMALL, read_lines, write_lines
from benchmarks.datasets import MIXES, REAL
from benchmarks.held_out import held_out_figures
from benchmarks.real_data import VARIABLE
from benchmarks.report import write_page
from benchmarks.savings import settle
from benchmarks.single_run import COLUMNS, Trial, set_up
from benchmarks.tables import FEWEST_SEEDS
from geko_engine import GEKOTrainer
from geko_engine.data.batches import TokenizedData, hold_out
from geko_engine.data.preparation import held_out_ratio
from geko_engine.data.tokenization import tokenise

LONGEST = 10  # epochs
MOST_GIVEN, FRESH = 512, 5000  # evaluation rows, and what their seeds begin at
DEFAULT = (*REAL, "demo", "wrong", "new", "long")
SMALL_SAMPLES = 1000
Run = tuple[str, str, int, int]  # mix, arm, seed, samples


def one_run(mix: str, arm: str, seed: int, samples: int) -> Record:
    """Train once and return what was counted; `arm` is a number of epochs, one of AVERAGED, of LESS or of AUTOS."""
    with tempfile.TemporaryDirectory() as folder:
        trial = set_up(mix, seed, samples, LONGEST if arm in AUTOS else int(arm.split(",")[0]), folder)
        data, held, args = trial.data, None, trial.args
        if arm == AUTO or arm in LESS:
            data, held = hold_out(trial.data, held_out_ratio(len(trial.data)), seed)
        elif arm == GIVEN:
            held = given_rows(mix, seed, trial)
        if arm in AUTOS:
            args = dataclasses.replace(args, num_epochs=AUTO, max_epochs=LONGEST)
        elif arm in AVERAGED:
            args = dataclasses.replace(args, average_weights=True)
        held = held if arm in AUTOS else None  # a fixed length asks nothing of them
        trainer = GEKOTrainer(trial.model, data, trial.tokenizer, held, OFF, args, on_event=lambda event: None)
        trainer.train()
    counter, progress = trainer.progress.counter, trainer.progress
    return {
        "mix": mix,
        "arm": arm,
        "seed": seed,
        "samples": samples,
        "compute": (counter.forwarded + 2 * counter.backwarded) / (3 * float(trial.data.lengths.sum())),
        "steps": progress.step,
        "best_step": progress.best_step,
        "train_seconds": progress.train_seconds,
        **held_out_figures(trainer, trial.evaluation, trial.held_out),
    }


def given_rows(mix: str, seed: int, trial: Trial) -> TokenizedData:
    """Rows that are neither in the training data nor in the test."""
    used = {row["prompt"] for row in (*trial.rows, *trial.evaluation)}
    rows = MIXES[mix].train(MOST_GIVEN, FRESH + seed, used)
    return tokenise(rows, COLUMNS, trial.tokenizer, MIXES[mix].longest)


def key(record: Record) -> Run:
    """What makes a record that of one run."""
    return (record["mix"], record["arm"], record["seed"], record["samples"])


def run_all(runs: Sequence[Run], path: Path, jobs: int) -> list[Record]:
    """Every run that is not recorded yet, `jobs` at a time; the file is written after each."""
    done: dict[Run, Record] = {key(record): record for record in read_lines(path)}
    for mix in {run[0] for run in runs}:
        MIXES[mix].base()  # made or fetched before the first run
    path.parent.mkdir(exist_ok=True, parents=True)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), settle) as pool:
        for future in as_completed([pool.submit(one_run, *run) for run in runs if run not in done]):
            record = future.result()
            done[key(record)] = record
            print(f"{record['mix']}, seed {record['seed']}, {record['arm']}: {figures([record])}", flush=True)
            write_lines(path, sorted(done.values(), key=place))
    return sorted(done.values(), key=place)


def main() -> None:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixes", nargs="+", default=list(DEFAULT), choices=MIXES)
    parser.add_argument("--data", type=Path, help="folder with the real rows (see real_data.py), for their mixes")
    parser.add_argument("--seeds", type=int, default=FEWEST_SEEDS)
    parser.add_argument(
        "--arms",
        nargs="+",
        default=[*map(str, LENGTHS), *AVERAGED, *AUTOS],
        help='numbers of epochs, such as "3", "3, averaged" or "3, 5 %% held out"; kinds of auto',
    )
    parser.add_argument("--samples", type=int, help="default: what the mix says")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--small", action="store_true", help="the demo's mix with few rows, two seeds; minutes")
    options = parser.parse_args()
    if options.data:
        os.environ[VARIABLE] = str(options.data.resolve())
    if options.small:
        options.mixes, options.samples, options.seeds = ["demo"], SMALL_SAMPLES, 2
    settle()
    path = (SMALL if options.small else RESULTS) / "auto.jsonl"
    wanted = [
        (mix, arm, seed, options.samples or MIXES[mix].samples)
        for mix in options.mixes
        for seed in range(options.seeds)
        for arm in options.arms
    ]
    found = tables(run_all(wanted, path, options.jobs))
    path.with_suffix(".md").write_text(f"`python -m benchmarks.auto`\n\n{found}\n", encoding="utf-8")
    print(found)
    if not options.small:
        write_page()


if __name__ == "__main__":
    main()
