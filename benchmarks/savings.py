"""Quality against counted compute: GEKO, plain training, and what else could be done with GEKO's compute.

The controls that decide spend just as many tokens as GEKO: on all samples alike with a learning rate that decays to zero
over that shorter run, on random samples, on those with the largest loss.

python -m benchmarks.savings [--mixes demo wrong new duplicates] [--arms plain geko short ...] [--epochs 2 3 4] [--seeds 5]
                             [--jobs 2] [--small]

With several numbers of epochs it also tells the compute at which an arm comes as far as plain training's whole run. One
record per arm, mix and seed goes to benchmarks/results/savings.jsonl; what is there already is not run again (--fresh runs
the named ones anew). All that is recorded stands in savings.md beside it, the main table first, and in the marked tables of
docs/results.md. --small runs a quarter of the data, into results/small.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from benchmarks.baselines import ARMS, AT_BUDGET, GEKOLIB, OTHERS, RANDOM, SHORT, TUNED, build, run_published
from benchmarks.common import RESULTS, SMALL, read_lines, write_lines
from benchmarks.datasets import MIXES
from benchmarks.held_out import held_out_figures
from benchmarks.real_data import VARIABLE
from benchmarks.report import write_page
from benchmarks.single_run import SMALL_SAMPLES, SMALL_SEEDS, set_up
from benchmarks.tables import FEWEST_SEEDS, all_tables
from benchmarks.third_party import load_gekolib
from geko_engine import GEKOTrainer

FILE = "savings.jsonl"
# Shown beside the presets on the page.
PRESETS_PATH = Path(__file__).parent.parent / "geko_app/form/preset_results.json"
PRESET_MIXES = ("banking77, 25 intents", "demo")
PRESET_ARMS = {"plain": "plain", "recommended": "geko"} | {n: n for n in ("aggressive", "balanced", "conservative")}
Record = dict[str, Any]
Run = tuple[str, str, int, int, int]  # mix, arm, seed, samples, epochs
MOST_JOBS = 8


def one_run(mix: str, arm: str, seed: int, samples: int, epochs: int, budget: float = 0.0) -> Record:
    """Train once and return what was counted."""
    with tempfile.TemporaryDirectory() as folder:
        trial = set_up(mix, seed, samples, epochs, folder)
        if arm == TUNED:
            rate, size = MIXES[mix].tuned or (trial.args.learning_rate, trial.args.batch_size)
            trial = replace(trial, args=replace(trial.args, learning_rate=rate, batch_size=size))
        trainer = build(trial.model, trial.data, trial.tokenizer, arm, trial.args, budget)
        if arm == GEKOLIB:
            counted = {"cost": run_published(load_gekolib(), trial.model, trial.data, trial.args)}
        else:
            trainer.train()
            counted = counted_figures(trainer)
    figures = held_out_figures(trainer, trial.evaluation, trial.held_out)
    return {"mix": mix, "arm": arm, "seed": seed, "samples": samples, "epochs": epochs, **counted, **figures}


def counted_figures(trainer: GEKOTrainer) -> Record:
    """Compute as a share of plain training's, steps, buckets, and what was left out because of look-alikes."""
    summary = trainer.policy.summary()
    progress, full = trainer.progress, trainer.tokens_per_epoch * trainer.args.num_epochs
    return {
        "cost": (progress.counter.forwarded + 2 * progress.counter.backwarded) / (3 * full),
        "steps": progress.step,
        "train_seconds": progress.train_seconds,
        "buckets": summary["buckets"],
        "predicted": summary["predicted"],
    }


def key(record: Record) -> Run:
    """What makes a record that of one run."""
    return (record["mix"], record["arm"], record["seed"], record["samples"], record["epochs"])


def run_all(options: argparse.Namespace, path: Path) -> list[Record]:
    """Every run that is not recorded yet, several at a time; the file is written after each."""
    done = {key(record): record for record in read_lines(path)}
    wanted = prepared([run for run in runs_of(options) if options.fresh or run not in done])
    path.parent.mkdir(exist_ok=True, parents=True)
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn"), settle) as pool:
        for at_budget in (False, True):  # these need what another arm spent
            wave = [run for run in wanted if (run[1] in AT_BUDGET) == at_budget]
            budgets = [done[(run[0], options.budget, *run[2:])]["cost"] if at_budget else 0.0 for run in wave]
            for future in as_completed([pool.submit(one_run, *run, b) for run, b in zip(wave, budgets, strict=True)]):
                record = future.result()
                done[key(record)] = record
                print(
                    f"{record['mix']}, {record['epochs']} epochs, seed {record['seed']}, {record['arm']}: compute {record['cost']:.3f}",
                    flush=True,
                )
                write_lines(path, in_order(done.values()))
    return in_order(done.values())


def in_order(records: Iterable[Record]) -> list[Record]:
    """Sorted by mix, size, arm and seed, whichever came first."""
    mixes, arms = list(MIXES), [*ARMS, *OTHERS]
    return sorted(
        records,
        key=lambda r: (mixes.index(r["mix"]), r["samples"], r["epochs"], arms.index(r["arm"]), r["seed"]),
    )


def runs_of(options: argparse.Namespace) -> list[Run]:
    """All runs that were asked for."""
    return [
        (mix, arm, seed, samples, epochs)
        for mix in options.mixes
        for samples, epochs in sizes(options, mix)
        for seed in range(options.seeds)
        for arm in options.arms
    ]


def prepared(runs: Sequence[Run]) -> list[Run]:
    """The runs that can be made here; what they share is made or fetched before the first of them."""
    for mix in {run[0] for run in runs}:
        MIXES[mix].base()
    missing = any(run[1] == GEKOLIB for run in runs) and load_gekolib() is None
    return [run for run in runs if not (missing and run[1] == GEKOLIB)]


def settle() -> None:
    """In each process: the models are small, so more threads would wait for one another."""
    logging.disable_progress_bar()
    torch.set_num_threads(1)


def sizes(options: argparse.Namespace, mix: str) -> list[tuple[int, int]]:
    """Training samples and epochs, one pair for each number of epochs."""
    return [(options.samples or MIXES[mix].samples, epochs) for epochs in options.epochs or [MIXES[mix].epochs]]


RATES, SIZES, TUNING_SEED = (0.7, 1.0, 1.4, 2.0), (0.5, 1.0), 100  # factors on the mix's own; no table has this seed


def tune(options: argparse.Namespace) -> None:
    """Print the loss of a shorter plain run at several learning rates and batch sizes, on rows of a seed of its own."""
    for mix in options.mixes:
        samples, epochs = sizes(options, mix)[0]
        MIXES[mix].base()
        found = []
        for rate in RATES:
            for size in SIZES:
                tuned = MIXES[mix].learning_rate * rate, max(1, round(MIXES[mix].batch_size * size))
                MIXES[mix] = replace(MIXES[mix], tuned=tuned)
                loss = one_run(mix, TUNED, TUNING_SEED, samples, epochs, options.tune)["eval_loss"]
                found.append((loss, tuned))
                print(f"{mix}: learning rate {tuned[0]:g}, batch size {tuned[1]}: {loss:.4f}", flush=True)
        print(f"{mix}: the best is {min(found)[1]}")


def write_presets(records: Sequence[Record], options: argparse.Namespace) -> None:
    """What the page shows beside the presets, real data first: the mixes of which every preset was run with enough seeds."""
    found = [entry for mix in PRESET_MIXES if (entry := _preset_entry(mix, records, options.samples))]
    if found:
        PRESETS_PATH.write_text(json.dumps({"measured": found}, indent=1) + "\n", encoding="utf-8")


def _preset_entry(mix: str, records: Sequence[Record], count: int | None) -> dict[str, Any] | None:
    """Means over the seeds of each preset on one mix; None while runs are missing."""
    arms, data = {}, MIXES[mix]
    samples = count or data.samples
    for name, arm in PRESET_ARMS.items():
        key_ = (mix, arm, samples, data.epochs)
        mine = [r for r in records if (r["mix"], r["arm"], r["samples"], r["epochs"]) == key_]
        if len(mine) < FEWEST_SEEDS:
            return None
        arms[name] = {
            "compute": round(statistics.fmean(r["cost"] for r in mine), 4),
            "exact_match": round(statistics.fmean(r["exact_match"] for r in mine), 4),
            "eval_loss": round(statistics.fmean(r["eval_loss"] for r in mine), 4),
        }
    return {"what": f"{data.what} ({samples:,} rows, {data.epochs} epochs, mean of {len(mine)} seeds)", "arms": arms}


def main() -> None:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixes", nargs="+", default=["demo"], choices=MIXES)
    parser.add_argument("--arms", nargs="+", default=["plain", "geko", SHORT, RANDOM], choices=[*ARMS, *OTHERS])
    parser.add_argument("--budget", default="geko", choices=ARMS, help="the arm whose compute the shorter runs get")
    parser.add_argument("--seeds", type=int, default=FEWEST_SEEDS)
    parser.add_argument(
        "--tune", type=float, metavar="SHARE", help="find rate and batch size of 'short, tuned' at this share"
    )
    parser.add_argument("--samples", type=int, help="default: what the mix says, 800 to 4,000")
    parser.add_argument("--epochs", type=int, nargs="+", help="one or several; default: what the mix says, 3 or 10")
    parser.add_argument("--fresh", action="store_true", help="run what is recorded anew")
    cores = min(MOST_JOBS, os.cpu_count() or 1)
    parser.add_argument("--jobs", type=int, default=cores, help=f"runs at a time; default {cores}, one for each core")
    parser.add_argument("--small", action="store_true", help="a quarter of the data, two seeds; minutes")
    parser.add_argument("--data", type=Path, help="folder with the real rows (see real_data.py), for their mixes")
    parser.add_argument("--output", type=Path, help="another file for the records")
    options = parser.parse_args()
    if options.data:
        os.environ[VARIABLE] = str(options.data.resolve())
    if options.small:
        options.samples, options.seeds = SMALL_SAMPLES, SMALL_SEEDS
    settle()
    if options.tune:
        tune(options)
        return
    path = options.output or (SMALL if options.small else RESULTS) / FILE
    records = run_all(options, path)
    path.with_suffix(".md").write_text(all_tables(records), encoding="utf-8")
    print(all_tables([record for record in records if record["mix"] in options.mixes]))
    if not options.small and not options.output:
        write_presets(records, options)
        write_page()


if __name__ == "__main__":
    main()
