"""A training step of GEKOTrainer against transformers.Trainer and gekolib 0.3.1: time, real tokens per second, memory.

Time is taken from one forward pass to the next, by a hook on the model, so it holds all that a trainer does.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import Ratio, arguments, in_child, interleave, print_table, write_results
from benchmarks.memory import LOSSES, loss_memory
from benchmarks.report import write_page
from benchmarks.third_party import load_gekolib, run_gekolib
from benchmarks.workload import (
    Forwarded,
    Rows,
    Size,
    make_model,
    make_rows,
    natural_lengths,
    run_geko,
    run_transformers,
    watch,
)

TARGET_SHARES = {"half are targets": 0.5, "all are targets": 1.0}
PEER = "transformers"
SCANNED = 4  # times as many samples are scanned: a scan is of a whole dataset, which fills its larger batches
Start = Callable[[Any, Rows, int], object]


def starters() -> dict[str, Start]:
    """How each trainer is started, by name; gekolib only where it can be had."""
    found: dict[str, Start] = {PEER: run_transformers, "GEKO": run_geko}
    gekolib = load_gekolib()
    if gekolib is not None:
        found["gekolib"] = functools.partial(run_gekolib, gekolib)
    return found


def one_run(start: Start, size: Size, rows: Rows) -> Forwarded:
    """One epoch on a fresh copy of the same weights; the end is noted as a last start."""
    model = make_model(size)
    seen = watch(model)
    start(model, rows, size.batch)
    seen.starts.append(time.perf_counter())
    return seen


def step_seconds(start: Start, size: Size, rows: Rows) -> float:
    """Median seconds of a step, the first and the last (which holds the run's end) left out."""
    seen = one_run(start, size, rows)
    seen.starts.pop()
    expected = (size.steps, size.steps * size.batch * size.tokens)
    if (len(seen.starts), seen.tokens) != expected:
        raise RuntimeError(f"Unequal work: {len(seen.starts)} steps and {seen.tokens} tokens instead of {expected}.")
    return statistics.median(seen.step_seconds)


def time_of_a_step(size: Size, repetitions: int, trainers: dict[str, Start]) -> dict[str, Any]:
    """Step time of each trainer as a ratio to transformers.Trainer's, at half and at all tokens as targets."""
    results: dict[str, Any] = {}
    table = []
    for label, share in TARGET_SHARES.items():
        rows = make_rows(size, target_share=share)
        runs = {name: functools.partial(step_seconds, start, size, rows) for name, start in trainers.items()}
        seconds = interleave(runs, repetitions)
        ratios = {name: Ratio.of(values, seconds[PEER]) for name, values in seconds.items() if name != PEER}
        results[label] = {name: {**r.to_dict(), "seconds": seconds[name]} for name, r in ratios.items()}
        results[label][PEER] = {"seconds": seconds[PEER]}
        table += [(label, name, ratio) for name, ratio in ratios.items()]
    print_table("Time of a step, transformers.Trainer = 1 (median, least–most)", ("tokens", "trainer", "ratio"), table)
    return results


def tokens_per_second(size: Size, samples: int, repetitions: int) -> dict[str, Any]:
    """Real tokens per second of one epoch on natural lengths, as a ratio to transformers.Trainer's default batching."""
    lengths = natural_lengths(samples)
    rows = make_rows(size, lengths)
    grouped = functools.partial(run_transformers, strategy="group_by_length")
    trainers: dict[str, Start] = {PEER: run_transformers, f"{PEER}, group_by_length": grouped, "GEKO": run_geko}
    runs = {name: functools.partial(one_run, start, size, rows) for name, start in trainers.items()}
    seen = interleave(runs, repetitions)
    speed = {name: [f.tokens / (f.starts[-1] - f.starts[0]) for f in found] for name, found in seen.items()}
    results: dict[str, Any] = {}
    table = []
    for name, found in seen.items():
        if found[0].tokens != sum(lengths):
            raise RuntimeError(f"Unequal work: {name} saw {found[0].tokens} tokens instead of {sum(lengths)}.")
        ratio, padding = (
            Ratio.of(speed[name], speed[PEER]),
            statistics.median(1 - f.tokens / f.positions for f in found),
        )
        results[name] = {**ratio.to_dict(), "padding": round(padding, 4), "tokens_per_second": speed[name]}
        table.append((name, ratio, f"{padding:.0%}"))
    header = ("trainer", "ratio", "padding")
    print_table(f"Real tokens per second, {samples} samples of natural length, all tokens targets", header, table)
    return results


def scan_and_pass(size: Size, rows: Rows) -> tuple[float, float]:
    """Seconds of a scan of all samples, and of the training pass over the same ones before it."""
    model = make_model(size)
    seen = watch(model)
    trainer = run_geko(model, rows, size.batch, on_event=lambda event: None)
    trained = time.perf_counter() - seen.starts[0]
    began, before = time.perf_counter(), seen.tokens
    trainer.engine.score_samples(trainer.samples, np.arange(len(rows)), lambda: False, lambda done, total: None)
    scanned = time.perf_counter() - began
    if seen.tokens != 2 * before:
        raise RuntimeError(f"Unequal work: {before} tokens trained and {seen.tokens - before} scanned.")
    return scanned, trained


def time_of_a_scan(size: Size, samples: int, repetitions: int) -> dict[str, Any]:
    """Time of a scan (larger batches, no gradient, no dropout) as a ratio to a training pass over the same samples."""
    rows = make_rows(size, natural_lengths(samples))
    found = interleave({"scan": functools.partial(scan_and_pass, size, rows)}, repetitions)["scan"]
    scanned, trained = [list(seconds) for seconds in zip(*found, strict=True)]
    ratio = Ratio.of(scanned, trained)
    print_table(f"Time of a scan of {samples} samples, a training pass = 1", ("", "ratio"), [("scan", ratio)])
    return {**ratio.to_dict(), "seconds": scanned, "training_pass_seconds": trained}


def memory_of_the_loss(size: Size, ways: list[str]) -> dict[str, Any]:
    """Peak memory of forward, loss and backward of one batch, as a ratio to the model's own loss; once, it repeats."""
    results: dict[str, Any] = {}
    table: list[tuple[str, str, str]] = []
    for label, share in TARGET_SHARES.items():
        runs = {way: functools.partial(in_child, loss_memory, way, size, share) for way in ways}
        peaks = interleave(runs, 1)
        ratios = {way: Ratio.of(peaks[way], peaks[PEER]) for way in ways if way != PEER}
        results[label] = {way: {**r.to_dict(), "bytes": peaks[way]} for way, r in ratios.items()}
        results[label][PEER] = {"bytes": peaks[PEER]}
        table += [(label, way, f"{ratio.median:.2f}") for way, ratio in ratios.items()]
    print_table(
        "Peak memory of forward, loss and backward, the model's own loss = 1", ("tokens", "way", "ratio"), table
    )
    return results


def main() -> None:
    """Measure, print and write results/speed.jsonl."""
    options = arguments(__doc__ or "", repetitions=5)
    size = Size(hidden=256, layers=12, steps=8) if options.large else Size()
    varied = dataclasses.replace(size, vocabulary=8192, tokens=512)
    samples = 1024 if options.large else 160
    trainers = starters()
    ways = [way for way in LOSSES if way in trainers]
    results = {
        "memory_of_the_loss": memory_of_the_loss(size, ways),
        "time_of_a_step": time_of_a_step(size, options.repetitions, trainers),
        "tokens_per_second": tokens_per_second(varied, samples, options.repetitions),
        "time_of_a_scan": time_of_a_scan(varied, SCANNED * samples, options.repetitions),
    }
    settings = {
        "repetitions": options.repetitions,
        "step": {**dataclasses.asdict(size), "head_share": round(size.head_share, 3)},
        "lengths": {**dataclasses.asdict(varied), "head_share": round(varied.head_share, 3), "samples": samples},
        "threads": 1,
        "peers": list(trainers),
    }
    write_results("speed", settings, results, options)
    if not options.small and not options.large:
        write_page()


if __name__ == "__main__":
    main()
