"""The record of every sample at growing sizes, and the page's store: seconds as ratios between sizes, bytes, peak memory.

python -m benchmarks.scale [--repetitions N] [--small | --large]

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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import page_store
from benchmarks.common import Ratio, arguments, in_child, interleave, print_table, write_results
from benchmarks.record_work import (
    BATCH,
    COMPARED,
    PEAKS,
    Seconds,
    geko_bytes,
    geko_seconds,
    peak_bytes,
    peer_bytes,
    peer_seconds,
)
from benchmarks.third_party import load_gekolib

SIZES = (10**4, 10**5, 10**6)
PEER_SIZES = SIZES[:2]  # a million of its objects take a gigabyte and minutes
STORE_SIZES = (10**4, 10**5)


def growth(seconds: Mapping[int, Sequence[Seconds]]) -> dict[str, dict[str, Any]]:
    """For each operation and each pair of neighbouring sizes: the ratio of seconds, and its exponent."""
    results: dict[str, dict[str, Any]] = {}
    for small, large in itertools.pairwise(sorted(seconds)):
        for operation in seconds[small][0]:
            pair = [[run[operation] for run in seconds[size]] for size in (large, small)]
            ratio = Ratio.of(*pair)
            exponent = round(math.log(ratio.median, large / small), 2)
            results.setdefault(operation, {})[f"{large:,} / {small:,}"] = {**ratio.to_dict(), "exponent": exponent}
    return results


def against_peer(ours: dict[int, list[Seconds]], theirs: dict[int, list[Seconds]]) -> dict[str, dict[str, Any]]:
    """gekolib's seconds over GEKO's at the same size."""
    results: dict[str, dict[str, Any]] = {}
    for size, runs in theirs.items():
        for operation in COMPARED:
            pair = [[run[operation] for run in side] for side in (runs, ours[size])]
            results.setdefault(operation, {})[f"{size:,}"] = Ratio.of(*pair).to_dict()
    return results


def peaks(size: int) -> dict[str, float]:
    """Peak memory of each operation above the record, in bytes a sample; each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return {name: round(in_child(peak_bytes, name, size, folder) / size, 1) for name in PEAKS}


def store_seconds(sizes: Sequence[int], repetitions: int) -> dict[int, list[Seconds]]:
    """What the page's store takes at each size; in child processes, where the page's packages stay."""
    found: dict[int, list[Seconds]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as root:
            run = in_child(page_store.make_run, root, size)
            found[size] = in_child(page_store.seconds, root, run, size, repetitions)
    return found


def show_growth(title: str, found: dict[str, dict[str, Any]]) -> None:
    """One table of exponents and ratios."""
    pairs = list(next(iter(found.values())))
    cells = [
        (
            name,
            *(
                f"{at[p]['exponent']:.2f} (x{at[p]['median']:.1f}, {at[p]['min']:.1f}–{at[p]['max']:.1f})"
                for p in pairs
            ),
        )
        for name, at in found.items()
    ]
    print_table(title, ("operation", *pairs), cells)


def show_seconds(title: str, seconds: Mapping[int, Sequence[Seconds]]) -> None:
    """Medians in milliseconds: of this machine, today; they tell whether a size can be worked with."""
    cells = [
        (name, *(f"{1000 * statistics.median(run[name] for run in runs):.2f}" for runs in seconds.values()))
        for name in next(iter(seconds.values()))[0]
    ]
    print_table(title, ("operation", *(f"{size:,}" for size in seconds)), cells)


def show(results: dict[str, Any]) -> None:
    """The tables."""
    rows = [
        (name, f"{int(size):,}", b["memory"], b["file"])
        for name, found in results["bytes"].items()
        for size, b in found.items()
    ]
    print_table("Bytes per sample", ("record", "samples", "memory", "file"), rows)
    above = [(f"{int(size):,}", *found.values()) for size, found in results["peaks"].items()]
    print_table("Peak memory above the record, bytes per sample", ("samples", *PEAKS), above)
    show_growth("Growth of the seconds: exponent (ratio, least–most)", results["growth"])
    show_growth("The same for the page's store", results["store growth"])
    if results["gekolib / GEKO"]:
        counts = list(next(iter(results["gekolib / GEKO"].values())))
        compared = [
            (op, *(f"{found[c]['median']:.1f} ({found[c]['min']:.1f}–{found[c]['max']:.1f})" for c in counts))
            for op, found in results["gekolib / GEKO"].items()
        ]
        print_table("Seconds of gekolib 0.3.1, GEKO = 1", ("operation", *counts), compared)
    show_seconds("Milliseconds on this machine today (no result)", results["seconds"]["GEKO"])
    show_seconds("Milliseconds of the page's store on this machine today (no result)", results["seconds"]["store"])


def main() -> None:
    """Measure, print and write results/scale.jsonl."""
    options = arguments(__doc__ or "", repetitions=5)
    sizes = [*SIZES, 10**7] if options.large else list(SIZES)
    gekolib = load_gekolib()
    peer_sizes = PEER_SIZES if gekolib is not None else ()
    runs: dict[str, Callable[[], Seconds]] = {f"geko {n}": functools.partial(geko_seconds, n) for n in sizes}
    runs |= {f"gekolib {n}": functools.partial(peer_seconds, gekolib, n) for n in peer_sizes}
    geko_seconds(sizes[0])  # the first use of everything is slow
    found = interleave(runs, options.repetitions)
    ours = {n: found[f"geko {n}"] for n in sizes}
    theirs = {n: found[f"gekolib {n}"] for n in peer_sizes}
    store = store_seconds(STORE_SIZES, options.repetitions)
    bytes_found: dict[str, Any] = {"GEKO": {str(n): geko_bytes(n) for n in sizes}}
    if gekolib is not None:
        bytes_found["gekolib"] = {str(n): peer_bytes(gekolib, n) for n in peer_sizes}
    results: dict[str, Any] = {
        "bytes": bytes_found,
        "peaks": {str(n): peaks(n) for n in sizes},
        "growth": growth(ours),
        "store growth": growth(store),
        "gekolib / GEKO": against_peer(ours, theirs),
        "seconds": {"GEKO": ours, "gekolib": theirs, "store": store},
    }
    show(results)
    settings = {"repetitions": options.repetitions, "sizes": sizes, "store": STORE_SIZES, "batch": BATCH, "threads": 1}
    write_results("scale", settings, results, options)


if __name__ == "__main__":
    main()
