"""What all benchmarks share: interleaved repetitions, ratios, memory of a child process, tables, result files.

Knows no model and no trainer.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import psutil

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("geko", "torch", "transformers", "accelerate", "peft", "bitsandbytes", "numpy")
T = TypeVar("T")


@dataclass(frozen=True)
class Ratio:
    """Median and extremes of a ratio over the repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], against: Sequence[float]) -> Ratio:
        """values / against, repetition by repetition: both sides of each met the same load."""
        ratios = [a / b for a, b in zip(values, against, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"

    def to_dict(self) -> dict[str, float]:
        return {"median": round(self.median, 4), "min": round(self.low, 4), "max": round(self.high, 4)}


def arguments(description: str, repetitions: int) -> argparse.Namespace:
    """--repetitions and --large, the same for every command."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--repetitions", type=_positive, default=repetitions, metavar="N", help="default %(default)s")
    parser.add_argument("--large", action="store_true", help="larger sizes; takes much longer")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1 repetition is needed")
    return value


def interleave(runs: Mapping[str, Callable[[], T]], repetitions: int) -> dict[str, list[T]]:
    """Every run once per repetition, beginning with another one each time, so that a busy minute hits all alike."""
    names = list(runs)
    results: dict[str, list[T]] = {name: [] for name in names}
    for repetition in range(repetitions):
        shift = repetition % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            results[name].append(runs[name]())
    return results


def memory_growth(work: Callable[[], object]) -> int:
    """Bytes by which the peak resident memory of this process exceeds what was resident before `work`.

    Only means something in a fresh process: a peak never falls.
    """
    gc.collect()
    before = psutil.Process().memory_info().rss
    work()
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before


def in_child(function: Callable[..., T], *values: Any) -> T:
    """`function(*values)` in a fresh process, whose imports are already done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *values).result()


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table in plain text."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))
    sys.stdout.flush()


def write_results(name: str, settings: Mapping[str, Any], results: Mapping[str, Any]) -> Path:
    """results/<name>.json with date, versions and settings."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "settings": dict(settings),
        "results": dict(results),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"\nWritten: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return path


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
