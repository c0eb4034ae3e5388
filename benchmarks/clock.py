"""How much of the saved compute is saved time: runs that leave out a set share of the samples, against plain training.

A model of ten million parameters and short rows, three epochs; from the second on a random share of the samples is left
out, so that the counted compute is about .6. Processor time is that of the process, which a busy machine hardly changes.

python -m benchmarks.clock [--repetitions N] [--small]
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.baselines import OFF, SharePolicy
from benchmarks.common import Ratio, arguments, interleave, print_table, write_results
from benchmarks.workload import Size, make_model, make_rows
from geko_engine import GEKOConfig, GEKOTrainer, GEKOTrainingArgs

SIZE = Size(hidden=384, layers=5, vocabulary=1024, tokens=64)
SHARE = 0.4  # of the samples, in the second and third epoch
BATCHES: dict[str, dict[str, int]] = {
    "batches of 16": {"batch_size": 16},
    "4 batches of 4 a step": {"batch_size": 4, "gradient_accumulation_steps": 4},
    "steps of 16 in batches of 256 tokens": {"batch_size": 16, "max_tokens_per_batch": 256},
}
BARE = GEKOConfig(frozen_replay=0.0, noise_guard=False, prediction_confidence=1.0, stable_share=0.0)


@dataclass(frozen=True)
class Run:
    """What a run came to: counted compute, steps, seconds of its steps on the clock, and of the processor."""

    compute: float
    steps: int
    passes: int
    seconds: float
    cpu_seconds: float


def short_lengths(count: int) -> list[int]:
    """Log-normal lengths of short tasks: mean 28 tokens, at most SIZE.tokens."""
    drawn = np.random.default_rng(1).lognormal(np.log(25), 0.5, count)
    return np.clip(drawn, 6, SIZE.tokens).astype(int).tolist()


def one_run(batches: dict[str, int], samples: int, *, plain: bool) -> Run:
    """Three epochs on a fresh copy of the same weights."""
    model, rows = make_model(SIZE), make_rows(SIZE, short_lengths(samples), target_share=0.3)
    passes = [0]

    def count(_module: Any, _args: Any) -> None:
        passes[0] += 1

    model.register_forward_pre_hook(count)
    with tempfile.TemporaryDirectory() as folder:
        args = GEKOTrainingArgs(
            output_dir=folder,
            num_epochs=3,
            save_steps=0,
            eval_steps=0,
            save_at_end=False,
            learning_rate=1e-4,
            **batches,
        )
        trainer = GEKOTrainer(model, rows, config=OFF if plain else BARE, args=args, on_event=lambda event: None)
        if not plain:
            options: dict[str, Any] = {"epochs": 3, "seed": 0, "step_size": trainer.engine.step_size}
            options["batch_size"] = trainer.engine.batch_size
            trainer.policy = SharePolicy(BARE, trainer.samples, share=SHARE, by_loss=False, **options)
        began = time.process_time()
        trainer.train()
        cpu = time.process_time() - began
    counter, full = trainer.progress.counter, 3 * trainer.tokens_per_epoch
    compute = (counter.forwarded + 2 * counter.backwarded) / (3 * full)
    return Run(compute, trainer.progress.step, passes[0], trainer.progress.train_seconds, cpu)


def against_plain(name: str, samples: int, repetitions: int) -> tuple[tuple[object, ...], dict[str, Any]]:
    """The row of the table and the figures for one way to make batches."""
    runs: dict[str, Callable[[], Run]] = {
        kind: functools.partial(one_run, BATCHES[name], samples, plain=kind == "plain")
        for kind in ("plain", "left out")
    }
    found = interleave(runs, repetitions)
    mine, plain = found["left out"], found["plain"]
    clock = Ratio.of([run.seconds for run in mine], [run.seconds for run in plain])
    cpu = Ratio.of([run.cpu_seconds for run in mine], [run.cpu_seconds for run in plain])
    compute = statistics.median(run.compute for run in mine)
    steps, passes = mine[0].steps / plain[0].steps, mine[0].passes / plain[0].passes
    figures = {"compute": compute, "steps": steps, "passes": passes, "clock": clock.to_dict(), "cpu": cpu.to_dict()}
    over = f"{cpu.median / compute:.2f}"
    return (name, f"{compute:.2f}", f"{steps:.2f}", f"{passes:.2f}", clock, cpu, over), figures


def main() -> None:
    """Entry of the command line."""
    options = arguments(__doc__ or "", repetitions=5)
    torch.set_num_threads(1)
    samples = 64 if options.small else 160
    rows, results = [], dict[str, Any]()
    for name in BATCHES:
        row, results[name] = against_plain(name, samples, options.repetitions)
        rows.append(row)
    header = ("batches", "compute", "steps", "passes", "time", "processor time", "processor time / compute")
    print_table("Shares of plain training (median, least–most)", header, rows)
    settings = {"hidden": SIZE.hidden, "layers": SIZE.layers, "samples": samples, "share": SHARE, "epochs": 3}
    write_results("clock", settings, results, options)


if __name__ == "__main__":
    main()
