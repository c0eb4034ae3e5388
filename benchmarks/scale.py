"""The record of every sample at growing sizes: bytes per sample, seconds of each operation as ratios between sizes.

An exponent of 1 means that ten times the samples take ten times as long, 0 that their number does not matter. "record"
and "step" are of one batch and should be near 0, the others are of all samples and should be near 1. Against gekolib
0.3.1's object per sample where it can be had.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common import Ratio, arguments, interleave, print_table, write_results
from benchmarks.peers import load_gekolib, make_trainer, silence
from benchmarks.workload import natural_lengths
from geko_engine.config import GEKOConfig, GEKOTrainingArgs
from geko_engine.data import TokenizedData
from geko_engine.events import StepCompleted
from geko_engine.planner import plan_pass
from geko_engine.sample_states import SampleStates
from geko_engine.trainer import GEKOTrainer

BATCH = 32
STEPS = 40  # over which the operations "record" and "step" are averaged
OPERATIONS = ("record", "partition", "plan", "save", "load")
Seconds = dict[str, float]


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def signals(count: int) -> tuple[np.ndarray, ...]:
    """Random (loss, confidence, correct, p_min) of `count` samples; about a fifth of them becomes FREEZE."""
    rng = np.random.default_rng(0)
    loss = rng.exponential(0.5, count).astype(np.float32)
    confidence = rng.random(count, dtype=np.float32) ** 0.3
    return loss, confidence, rng.random(count) < 0.5, np.exp(-loss)


def record_all(states: SampleStates, found: tuple[np.ndarray, ...]) -> None:
    """One visit of every sample at once, so that the buckets are filled."""
    loss, confidence, correct, p_min = found
    states.record(np.arange(states.count), loss, confidence, correct, p_min, step=0, config=GEKOConfig())


def record_steps(states: SampleStates, found: tuple[np.ndarray, ...]) -> None:
    """STEPS visits of BATCH samples each, as the trainer records them."""
    config = GEKOConfig()
    for step in range(STEPS):
        ids = np.arange(step * BATCH, (step + 1) * BATCH)
        loss, confidence, correct, p_min = (column[ids] for column in found)
        states.record(ids, loss, confidence, correct, p_min, step=step, config=config)


def geko_seconds(count: int) -> Seconds:
    """Seconds of each operation on the record of `count` samples, and of one step of a trainer that holds them."""
    config, states, found = GEKOConfig(), SampleStates(count), signals(count)
    record_all(states, found)
    lengths = np.resize(natural_lengths(min(count, 100_000)), count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.safetensors"
        return {
            "record": timed(lambda: record_steps(states, found)) / STEPS,
            "partition": timed(lambda: states.partition(config)),
            "plan": timed(lambda: plan_pass(states, lengths, config, epoch=1, seed=0, step_size=BATCH)),
            "save": timed(lambda: states.save(path)),
            "load": timed(lambda: SampleStates(count).load(path)),
            "step": step_seconds(count, folder),
        }


class _Trivial(nn.Module):
    """A module that costs nothing: one weight, one loss per sample."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        return SimpleNamespace(loss=self.weight * input_ids.float().mean(1))


def step_seconds(count: int, folder: str) -> float:
    """Median seconds of a step of GEKOTrainer beside the model: loading, recording, reporting, with `count` samples."""
    offsets, starts = np.arange(count + 1, dtype=np.int64) * 4, np.zeros(count, np.int32)
    data = TokenizedData(np.ones(4 * count, np.int32), offsets, starts, np.arange(count, dtype=np.int32))
    ends: list[float] = []

    def on_event(event: object) -> None:
        if isinstance(event, StepCompleted):
            ends.append(time.perf_counter())

    args = GEKOTrainingArgs(output_dir=folder, num_epochs=1, batch_size=BATCH, save_steps=0, dataloader_num_workers=0)
    trainer = GEKOTrainer(_Trivial(), data, args=args, on_event=on_event, should_stop=lambda: len(ends) >= STEPS)
    trainer.train()
    return statistics.median(np.diff(ends)[2:])


def geko_bytes(count: int) -> dict[str, float]:
    """Bytes per sample in memory after one pass (as counted by tracemalloc) and on disk."""
    found = signals(count)
    tracemalloc.start()
    states = SampleStates(count)
    record_all(states, found)
    memory = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.safetensors"
        states.save(path)
        return {"memory": round(memory, 1), "file": round(path.stat().st_size / count, 1)}


class _NoRows:
    """A dataset of so many rows that are never read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return {"input_ids": [1]}


def peer_record(trainer: Any, found: tuple[torch.Tensor, ...], batches: int) -> None:
    """Visits of `batches` x BATCH samples through the peer's own method."""
    for step in range(batches):
        part = slice(step * BATCH, (step + 1) * BATCH)
        ids = [str(i) for i in range(len(trainer.sample_states))[part]]
        trainer._update_sample_states(ids, *(column[part] for column in found))


def peer_trainer(module: Any, count: int, folder: str) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """The peer's trainer with `count` samples, and the signals of all of them."""
    loss, confidence, correct, _ = (torch.from_numpy(column) for column in signals(count))
    return make_trainer(module, nn.Linear(1, 1), _NoRows(count), BATCH, folder), (loss, confidence, correct)


def peer_seconds(module: Any, count: int) -> Seconds:
    """Seconds of the peer's own counterpart of each operation."""
    with tempfile.TemporaryDirectory() as folder, silence():
        trainer, found = peer_trainer(module, count, folder)
        peer_record(trainer, found, -(-count // BATCH))
        return {
            "record": timed(lambda: peer_record(trainer, found, STEPS)) / STEPS,
            "partition": timed(trainer.partition_samples),
            "plan": timed(lambda: list(trainer._create_dataloader().sampler)),
            "save": timed(lambda: trainer.save_checkpoint(folder)),
            "load": timed(lambda: trainer.load_checkpoint(folder)),
        }


def peer_bytes(module: Any, count: int) -> dict[str, float]:
    """Bytes per sample of the peer's objects after one pass, in memory and on disk."""
    with tempfile.TemporaryDirectory() as folder, silence():
        tracemalloc.start()
        trainer, found = peer_trainer(module, count, folder)
        peer_record(trainer, found, -(-count // BATCH))
        memory = (tracemalloc.get_traced_memory()[0] - sum(column.nbytes for column in found)) / count
        tracemalloc.stop()
        trainer.save_checkpoint(folder)
        return {"memory": round(memory, 1), "file": round((Path(folder) / "geko_state.json").stat().st_size / count, 1)}


def growth(seconds: dict[int, list[Seconds]]) -> dict[str, dict[str, Any]]:
    """For each operation and each pair of neighbouring sizes: the ratio of seconds, and its exponent."""
    sizes = sorted(seconds)
    results: dict[str, dict[str, Any]] = {}
    for operation in (*OPERATIONS, "step"):
        for small, large in itertools.pairwise(sizes):
            pair = [[run[operation] for run in seconds[size]] for size in (large, small)]
            ratio = Ratio.of(*pair)
            exponent = round(math.log(ratio.median, large / small), 2)
            results.setdefault(operation, {})[f"{large:,} / {small:,}"] = {**ratio.to_dict(), "exponent": exponent}
    return results


def against_peer(ours: dict[int, list[Seconds]], theirs: dict[int, list[Seconds]]) -> dict[str, dict[str, Any]]:
    """gekolib's seconds over GEKO's at the same size."""
    results: dict[str, dict[str, Any]] = {}
    for size, runs in theirs.items():
        for operation in OPERATIONS:
            pair = [[run[operation] for run in side] for side in (runs, ours[size])]
            results.setdefault(operation, {})[f"{size:,}"] = Ratio.of(*pair).to_dict()
    return results


def show(results: dict[str, Any], sizes: Sequence[int]) -> None:
    """The tables."""
    rows = [
        (name, f"{int(size):,}", b["memory"], b["file"])
        for name, found in results["bytes"].items()
        for size, b in found.items()
    ]
    print_table("Bytes per sample", ("record", "samples", "memory", "file"), rows)
    pairs = list(next(iter(results["growth"].values())))
    cells = [
        (op, *(f"{found[p]['exponent']:.2f} (x{found[p]['median']:.1f})" for p in pairs))
        for op, found in results["growth"].items()
    ]
    print_table("Growth of the seconds: exponent (ratio)", ("operation", *pairs), cells)
    if results["gekolib / GEKO"]:
        counts = list(next(iter(results["gekolib / GEKO"].values())))
        compared = [
            (op, *(f"{found[c]['median']:.1f} ({found[c]['min']:.1f}–{found[c]['max']:.1f})" for c in counts))
            for op, found in results["gekolib / GEKO"].items()
        ]
        print_table("Seconds of gekolib 0.3.1, GEKO = 1", ("operation", *counts), compared)


def main() -> None:
    """Measure, print and write results/scale.json."""
    options = arguments(__doc__ or "", repetitions=3)
    sizes = [10**4, 10**5, 10**6] + ([10**7] if options.large else [])
    gekolib = load_gekolib()
    runs: dict[str, Callable[[], Seconds]] = {f"geko {n}": functools.partial(geko_seconds, n) for n in sizes}
    if gekolib is not None:
        runs |= {f"gekolib {n}": functools.partial(peer_seconds, gekolib, n) for n in sizes[:2]}
    geko_seconds(sizes[0])  # the first use of everything is slow
    found = interleave(runs, options.repetitions)
    ours = {n: found[f"geko {n}"] for n in sizes}
    theirs = {n: found[f"gekolib {n}"] for n in sizes[:2]} if gekolib is not None else {}
    bytes_found: dict[str, Any] = {"GEKO": {str(n): geko_bytes(n) for n in sizes}}
    if gekolib is not None:
        bytes_found["gekolib"] = {str(n): peer_bytes(gekolib, n) for n in sizes[:2]}
    results = {"bytes": bytes_found, "growth": growth(ours), "gekolib / GEKO": against_peer(ours, theirs)}
    show(results, sizes)
    results["seconds"] = {"GEKO": ours, "gekolib": theirs}
    write_results(
        "scale", {"repetitions": options.repetitions, "sizes": sizes, "batch": BATCH, "threads": 1}, results, options
    )


if __name__ == "__main__":
    main()
