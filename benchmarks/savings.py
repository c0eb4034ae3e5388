"""Quality against counted compute: GEKO, plain training, and what else could be done with GEKO's compute.

The controls that decide spend just as many tokens as GEKO: on all samples alike with a learning rate that decays to zero
over that shorter run, on random samples, on those with the largest loss.

python -m benchmarks.savings [--mixes demo wrong new duplicates] [--arms plain geko short ...] [--epochs 2 3 4] [--seeds 5] [--small]

With several numbers of epochs it also tells the compute at which an arm comes as far as plain training's whole run. One record per arm, mix and seed goes to benchmarks/results/savings.json; what is there already is not run again
(--fresh runs the named ones anew). --small runs three arms on a quarter of the data, into results/small.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from benchmarks.arms import spread as deviation
from benchmarks.budgets import LOSS, RIGHT, reaches
from benchmarks.common import RESULTS, SMALL
from benchmarks.contestants import ARMS, AT_BUDGET, GEKOLIB, OTHERS, RANDOM, SHORT, build, run_published
from benchmarks.held_out import held_out_figures
from benchmarks.mixes import MIXES
from benchmarks.peers import load_gekolib
from benchmarks.trial import FEWEST_SEEDS, SMALL_SAMPLES, SMALL_SEEDS, set_up
from geko_engine import GEKOTrainer

FILE = "savings.json"
PRESETS_PATH = Path(__file__).parent.parent / "assets" / "presets.json"  # shown beside the presets on the page
PRESET_ARMS = {"plain": "plain", "recommended": "geko"} | {n: n for n in ("aggressive", "balanced", "conservative")}
Record = dict[str, Any]


def one_run(mix: str, arm: str, seed: int, samples: int, epochs: int, budget: float = 0.0) -> Record:
    """Train once and return what was counted."""
    with tempfile.TemporaryDirectory() as folder:
        trial = set_up(mix, seed, samples, epochs, folder)
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
    progress, full = trainer.progress, trainer.tokens_per_epoch * trainer.args.num_epochs
    return {
        "cost": (progress.counter.forwarded + 2 * progress.counter.backwarded) / (3 * full),
        "steps": progress.step,
        "train_seconds": progress.train_seconds,
        "buckets": progress.buckets,
        "predicted": progress.predicted,
    }


def key(record: Record) -> tuple[Any, ...]:
    """What makes a record that of one run."""
    return tuple(record[name] for name in ("mix", "arm", "seed", "samples", "epochs"))


def run_all(options: argparse.Namespace, path: Path) -> list[Record]:
    """Every run that is not recorded yet; the file is written after each."""
    records: list[Record] = json.loads(path.read_text("utf-8")) if path.exists() else []
    done = {key(record): record for record in records}
    arms = sorted(options.arms, key=lambda arm: arm in AT_BUDGET)  # these need the budget of "geko"
    path.parent.mkdir(exist_ok=True, parents=True)
    wanted = [
        (mix, arm, seed, samples, epochs)
        for mix in options.mixes
        for samples, epochs in sizes(options, mix)
        for seed in range(options.seeds)
        for arm in arms
    ]
    for run in wanted:
        if run in done and not options.fresh:
            continue
        mix, arm, seed, samples, epochs = run
        budget = done[(mix, "geko", seed, samples, epochs)]["cost"] if arm in AT_BUDGET else 0.0
        done[run] = one_run(mix, arm, seed, samples, epochs, budget)
        print(f"{mix}, {epochs} epochs, seed {seed}, {arm}: compute {done[run]['cost']:.3f}", flush=True)
        path.write_text(json.dumps(list(done.values()), indent=1), encoding="utf-8")
    return list(done.values())


def sizes(options: argparse.Namespace, mix: str) -> list[tuple[int, int]]:
    """Training samples and epochs, one pair for each number of epochs."""
    return [(options.samples or MIXES[mix].samples, epochs) for epochs in options.epochs or [MIXES[mix].epochs]]


def spread(values: Sequence[float], form: str) -> str:
    """Mean and standard deviation."""
    return f"{statistics.fmean(values):{form}} ±{deviation(values):{form}}"


def tables(records: Sequence[Record], options: argparse.Namespace) -> str:
    """Markdown: one table for each mix and number of epochs, and one of the budgets where there are several."""
    lines: list[str] = []
    for mix in options.mixes:
        lines += [f"\n{mix}: {MIXES[mix].what}"]
        mine = [r for r in records if r["mix"] == mix and (r["samples"], r["epochs"]) in sizes(options, mix)]
        for _, epochs in sizes(options, mix):
            lines += ["", *table(f"{mix}, {epochs} epochs", [r for r in mine if r["epochs"] == epochs])]
        if len(sizes(options, mix)) > 1:
            lines += ["", *budget_table(mix, mine)]
    return "\n".join(lines)


def table(title: str, records: Sequence[Record]) -> list[str]:
    """Compute, loss and right answers of each arm."""
    groups = sorted({name for record in records for name in record["groups"]})
    lines = [f"| {title} | compute | evaluation loss | exact match % | {' | '.join(groups)} | seeds |"]
    lines.append("|---" * (5 + len(groups)) + "|")
    for arm in dict.fromkeys(record["arm"] for record in records):
        mine = [record for record in records if record["arm"] == arm]
        cells = [spread([r["cost"] for r in mine], ".3f"), spread([r["eval_loss"] for r in mine], ".4f")]
        cells.append(spread([100 * r["exact_match"] for r in mine], ".1f"))
        cells += [spread([100 * r["groups"][name] for r in mine], ".1f") for name in groups]
        lines.append(f"| {arm} | {' | '.join(cells)} | {len(mine)} |")
    return lines


def budget_table(mix: str, records: Sequence[Record]) -> list[str]:
    """Compute to plain training's own result after the mix's number of epochs."""
    epochs = MIXES[mix].epochs
    loss, right = (reaches(records, field, epochs) for field in (LOSS, RIGHT))
    lines = [f"| {mix}: compute to plain training's {epochs} epochs | its loss | its right answers |", "|---|---|---|"]
    return lines + [f"| {arm} | {loss[arm]} | {right[arm]} |" for arm in loss]


def write_presets(records: Sequence[Record], options: argparse.Namespace) -> None:
    """What the page shows beside the presets: means over the seeds on the demo's mix, once all of them were run."""
    arms = {}
    samples, epochs = options.samples or MIXES["demo"].samples, MIXES["demo"].epochs
    for name, arm in PRESET_ARMS.items():
        key_ = ("demo", arm, samples, epochs)
        mine = [r for r in records if (r["mix"], r["arm"], r["samples"], r["epochs"]) == key_]
        if len(mine) < FEWEST_SEEDS:
            return
        arms[name] = {
            "compute": round(statistics.fmean(r["cost"] for r in mine), 4),
            "exact_match": round(statistics.fmean(r["exact_match"] for r in mine), 4),
            "eval_loss": round(statistics.fmean(r["eval_loss"] for r in mine), 4),
        }
    what = f"{samples:,} short tasks like the demo's, {epochs} epochs, mean of {len(mine)} seeds"
    PRESETS_PATH.write_text(json.dumps({"what": what, "arms": arms}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixes", nargs="+", default=["demo"], choices=MIXES)
    parser.add_argument("--arms", nargs="+", default=["plain", "geko", SHORT, RANDOM], choices=[*ARMS, *OTHERS])
    parser.add_argument("--seeds", type=int, default=FEWEST_SEEDS)
    parser.add_argument("--samples", type=int, help="default: what the mix says, 4,000 or 1,600")
    parser.add_argument("--epochs", type=int, nargs="+", help="one or several; default: what the mix says, 3 or 4")
    parser.add_argument("--fresh", action="store_true", help="run what is recorded anew")
    parser.add_argument("--small", action="store_true", help="a quarter of the data, two seeds; minutes")
    parser.add_argument("--output", type=Path, help="another file for the records")
    options = parser.parse_args()
    if options.small:
        options.samples, options.seeds = SMALL_SAMPLES, SMALL_SEEDS
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # the model is small: more threads wait for one another
    records = run_all(options, options.output or (SMALL if options.small else RESULTS) / FILE)
    print(tables(records, options))
    if not options.small and not options.output:
        write_presets(records, options)


if __name__ == "__main__":
    main()
