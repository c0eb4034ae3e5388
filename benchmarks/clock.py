"""How much of the saved compute is saved time, against plain training.

The demo's small model with GEKO's own choice, one seed a repetition; and a model of ten million parameters on short rows,
where from the second of three epochs on a random share of the samples is left out. Processor time is that of the process,
which a busy machine hardly changes.

python -m benchmarks.clock [--repetitions N] [--small]
"""

from __future__ import annotations

import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.baselines import OFF, SharePolicy
from benchmarks.common import Ratio, arguments, interleave, print_table, write_results
from benchmarks.single_run import set_up
from benchmarks.workload import Size, make_model, make_rows
from geko_engine import GEKOConfig, GEKOTrainer, GEKOTrainingArgs

EPOCHS = 3
DEMO = "demo, batches of 16"
SIZE = Size(hidden=384, layers=5, vocabulary=1024, tokens=64)
SHARE = 0.4  # of the samples, in the second and third epoch
BATCHES: dict[str, dict[str, int]] = {
    "10 M, batches of 16": {"batch_size": 16},
    "10 M, 4 batches of 4 a step": {"batch_size": 4, "gradient_accumulation_steps": 4},
    "10 M, steps of 16 in batches of 256 tokens": {"batch_size": 16, "max_tokens_per_batch": 256},
}
BARE = GEKOConfig(frozen_replay=0.0, noise_guard=False, prediction_confidence=1.0, stable_share=0.0)
Row = tuple[tuple[object, ...], dict[str, Any]]  # of the table, and its figures


@dataclass(frozen=True)
class Run:
    """What a run came to: counted compute, steps, forward passes, and seconds on the clock and of the processor."""

    compute: float
    steps: int
    passes: int
    seconds: float
    cpu_seconds: float


def of_run(trainer: GEKOTrainer) -> Run:
    """Train, and take the time."""
    passes = 0

    def count(_module: Any, _args: Any) -> None:
        nonlocal passes
        passes += 1

    trainer.model.register_forward_pre_hook(count)
    began = time.process_time()
    trainer.train()
    cpu = time.process_time() - began
    counter, progress = trainer.progress.counter, trainer.progress
    compute = (counter.forwarded + 2 * counter.backwarded) / (3 * EPOCHS * trainer.tokens_per_epoch)
    return Run(compute, progress.step, passes, progress.train_seconds, cpu)


def demo_run(seeds: Iterator[int], samples: int, *, plain: bool) -> Run:
    """The demo's mix as in `savings`."""
    with tempfile.TemporaryDirectory() as folder:
        trial = set_up("demo", next(seeds), samples, EPOCHS, folder)
        config = OFF if plain else GEKOConfig()
        given = (trial.model, trial.data, trial.tokenizer, None, config, trial.args)
        return of_run(GEKOTrainer(*given, on_event=_silent))


def short_lengths(count: int) -> list[int]:
    """Log-normal lengths of short tasks: mean 28 tokens, at most SIZE.tokens."""
    drawn = np.random.default_rng(1).lognormal(np.log(25), 0.5, count)
    return np.clip(drawn, 6, SIZE.tokens).astype(int).tolist()


def large_run(batches: dict[str, int], samples: int, *, plain: bool) -> Run:
    """Ten million parameters, the same random weights every time."""
    model, rows = make_model(SIZE), make_rows(SIZE, short_lengths(samples), target_share=0.3)
    values: dict[str, Any] = {"num_epochs": EPOCHS, "learning_rate": 1e-4, "save_steps": 0, "eval_steps": 0}
    with tempfile.TemporaryDirectory() as folder:
        args = GEKOTrainingArgs(output_dir=folder, save_at_end=False, **values, **batches)
        trainer = GEKOTrainer(model, rows, config=OFF if plain else BARE, args=args, on_event=_silent)
        if not plain:
            sizes = {"step_size": trainer.engine.step_size, "batch_size": trainer.engine.batch_size}
            chosen: dict[str, Any] = {"share": SHARE, "by_loss": False, "epochs": EPOCHS, "seed": 0, **sizes}
            trainer.policy = SharePolicy(BARE, trainer.samples, **chosen)
        return of_run(trainer)


def _silent(_event: object) -> None:
    """Where events go: nowhere."""


def against_plain(name: str, plain: Callable[[], Run], left_out: Callable[[], Run], repetitions: int) -> Row:
    """What leaving samples out makes of a run."""
    found = interleave({"plain": plain, "left out": left_out}, repetitions)
    mine, whole = found["left out"], found["plain"]
    clock = Ratio.of([run.seconds for run in mine], [run.seconds for run in whole])
    cpu = Ratio.of([run.cpu_seconds for run in mine], [run.cpu_seconds for run in whole])
    compute = statistics.median(run.compute for run in mine)
    steps, passes = mine[0].steps / whole[0].steps, mine[0].passes / whole[0].passes
    figures = {"compute": compute, "steps": steps, "passes": passes, "clock": clock.to_dict(), "cpu": cpu.to_dict()}
    over = f"{cpu.median / compute:.2f}"
    return (name, f"{compute:.2f}", f"{steps:.2f}", f"{passes:.2f}", clock, cpu, over), figures


def main() -> None:
    """Entry of the command line."""
    options = arguments(__doc__ or "", repetitions=3)
    torch.set_num_threads(1)
    samples, demo_samples = (64, 500) if options.small else (128, 4000)
    demo = [functools.partial(demo_run, itertools.count(), demo_samples, plain=plain) for plain in (True, False)]
    row, figures = against_plain(DEMO, demo[0], demo[1], options.repetitions)
    rows, results = [row], {DEMO: figures}
    for name, batches in BATCHES.items():
        runs = [functools.partial(large_run, batches, samples, plain=plain) for plain in (True, False)]
        row, results[name] = against_plain(name, runs[0], runs[1], options.repetitions)
        rows.append(row)
    header = ("run", "compute", "steps", "passes", "time", "processor time", "processor time / compute")
    print_table("Shares of plain training (median, least–most)", header, rows)
    settings = {"demo_samples": demo_samples, "samples": samples, "share": SHARE, "epochs": EPOCHS}
    write_results("clock", {**settings, "hidden": SIZE.hidden, "layers": SIZE.layers}, results, options)


if __name__ == "__main__":
    main()
