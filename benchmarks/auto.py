"""A length that is found by itself, against the best of fixed ones.

python -m benchmarks.auto [--data DIR] [--mixes demo wrong ...] [--seeds 5] [--jobs 2] [--small]

For each mix and seed: plain training of 1, 2, 3, 5 and 10 epochs, each with its own schedule down to zero, and
num_epochs = auto (at most 10): once with 5 % of the rows held out, as GEKO does where there are no evaluation rows, and
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
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.baselines import OFF
from benchmarks.common import RESULTS, SMALL, read_lines, write_lines
from benchmarks.datasets import MIXES, REAL
from benchmarks.held_out import held_out_figures
from benchmarks.real_data import VARIABLE
from benchmarks.savings import settle
from benchmarks.single_run import COLUMNS, Trial, set_up
from benchmarks.tables import FEWEST_SEEDS, mean_and_spread, table
from geko_engine import GEKOTrainer
from geko_engine.config.training_choices import AUTO
from geko_engine.data.batches import TokenizedData, hold_out
from geko_engine.data.preparation import held_out_ratio
from geko_engine.data.tokenization import tokenise

LENGTHS, LONGEST = (1, 2, 3, 5, 10), 10
GIVEN = "auto, evaluation rows given"
AUTOS = (AUTO, GIVEN)
MOST_GIVEN, FRESH = 512, 5000  # evaluation rows, and what their seeds begin at
LESS = tuple(f"{n}, 5 % held out" for n in LENGTHS)
DEFAULT = (*REAL, "demo", "wrong", "new", "long")
DEARER, WORSE = 1.1, 1.01  # of the best fixed run's compute and loss: what is still as good
SMALL_SAMPLES = 1000
Record = dict[str, Any]
Run = tuple[str, str, int, int]  # mix, arm, seed, samples


def one_run(mix: str, arm: str, seed: int, samples: int) -> Record:
    """Train once and return what was counted; `arm` is a number of epochs, one of LESS or one of AUTOS."""
    with tempfile.TemporaryDirectory() as folder:
        trial = set_up(mix, seed, samples, LONGEST if arm in AUTOS else int(arm.split(",")[0]), folder)
        data, held, args = trial.data, None, trial.args
        if arm == AUTO or arm in LESS:
            data, held = hold_out(trial.data, held_out_ratio(len(trial.data)), seed)
        elif arm == GIVEN:
            held = given_rows(mix, seed, trial)
        if arm in AUTOS:
            args = dataclasses.replace(args, num_epochs=AUTO, max_epochs=LONGEST)
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
            write_lines(path, sorted(done.values(), key=_place))
    return sorted(done.values(), key=_place)


def _place(record: Mapping[str, Any]) -> tuple[int, int, int, int]:
    arms = [*map(str, LENGTHS), *LESS, *AUTOS]
    return list(MIXES).index(record["mix"]), record["samples"], arms.index(record["arm"]), record["seed"]


def figures(records: Sequence[Record]) -> str:
    """Loss and compute of an arm."""
    losses = mean_and_spread([r["eval_loss"] for r in records], ".4f")
    return f"{losses} ({statistics.fmean(r['compute'] for r in records):.2f})"


def tables(records: Iterable[Record]) -> str:
    """Rows for each mix: every length, the best of them, and auto against it; with 5 % held out alike."""
    groups: dict[tuple[str, int], dict[str, list[Record]]] = {}
    for record in records:
        groups.setdefault((record["mix"], record["samples"]), {}).setdefault(record["arm"], []).append(record)
    rows = [row for (mix, samples), arms in groups.items() if len(arms) > 1 for row in _rows(mix, samples, arms)]
    header = ["data", *(f"{n} epoch{'s' * (n > 1)}" for n in LENGTHS), "run", "its loss", "share", "compute", "as good"]
    return "\n".join(
        [
            "Loss on test rows, mean and standard deviation over the seeds (compute in epochs of plain training). *share* and",
            "*compute* are those of auto's loss and compute to the best fixed length's, found by looking at the test rows.",
            "",
            *table(header, rows),
        ]
    )


def _rows(mix: str, samples: int, arms: dict[str, list[Record]]) -> list[list[str]]:
    seeds = len(next(iter(arms.values())))
    what = f"{MIXES[mix].what}, {samples:,} rows, {seeds} seed{'s' * (seeds > 1)}"
    return [
        *_against(arms, what, [*map(str, LENGTHS)], AUTOS),
        *_against(arms, "the same with 5 % of the rows held out", LESS, (AUTO,)),
    ]


def _against(
    arms: Mapping[str, Sequence[Record]], what: str, lengths: Sequence[str], autos: Sequence[str]
) -> list[list[str]]:
    """A row for each of `autos` against the best of `lengths`; none where no length was run."""
    fixed = [arm for arm in lengths if arm in arms]
    if not fixed:
        return []
    best = min(fixed, key=lambda arm: _mean(arms[arm], "eval_loss"))
    cells = [what]
    for arm in lengths:
        cell = figures(arms[arm]) if arm in arms else "–"
        cells.append(f"**{cell}**" if arm == best else cell)
    found = []
    for arm in autos:
        if arm in arms:
            found.append([*cells, arm, figures(arms[arm]), *_verdict(arms[arm], arms[best])])
            cells = [""] * len(cells)  # said once
    return found


def _verdict(auto: Sequence[Record], best: Sequence[Record]) -> tuple[str, str, str]:
    loss, compute = _mean(auto, "eval_loss"), _mean(auto, "compute")
    lowest, cheapest = _mean(best, "eval_loss"), _mean(best, "compute")
    spread = statistics.stdev([r["eval_loss"] for r in best]) if len(best) > 1 else 0.0
    is_level, is_cheap = loss <= max(WORSE * lowest, lowest + spread), compute <= DEARER * cheapest
    missed = [word for word, ok in (("loss", is_level), ("compute", is_cheap)) if not ok]
    return f"{loss / lowest:.3f}", f"{compute / cheapest:.2f}", f"no: {', '.join(missed)}" if missed else "yes"


def _mean(records: Sequence[Record], name: str) -> float:
    return statistics.fmean(record[name] for record in records)


def main() -> None:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixes", nargs="+", default=list(DEFAULT), choices=MIXES)
    parser.add_argument("--data", type=Path, help="folder with the real rows (see real_data.py), for their mixes")
    parser.add_argument("--seeds", type=int, default=FEWEST_SEEDS)
    parser.add_argument(
        "--arms",
        nargs="+",
        default=[*map(str, LENGTHS), *AUTOS],
        help='numbers of epochs, such as "3" or "3, 5 % held out"; kinds of auto',
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


if __name__ == "__main__":
    main()
