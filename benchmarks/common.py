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
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import psutil

RESULTS = Path(__file__).parent / "results"
SMALL = RESULTS / "small"  # ignored by git: a quick run never replaces a full one
PACKAGES = ("geko-finetune", "torch", "transformers", "accelerate", "trl", "peft", "bitsandbytes", "numpy")
T = TypeVar("T")
_tables: list[str] = []  # everything that this process has printed, as Markdown: written beside the figures


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


def arguments(description: str, repetitions: int, few: int = 2, *, real_data: bool = False) -> argparse.Namespace:
    """--repetitions, --small and --large, the same for every command; `few` repetitions with --small.

    With `real_data`, --data names the folder of the real rows (see real_data.py).
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    said = f"default {repetitions}, with --small {few}"
    parser.add_argument("--repetitions", type=_positive, metavar="N", help=said)
    if real_data:
        parser.add_argument("--data", required=True, help="folder with the real rows (see real_data.py)")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--small", action="store_true", help="quick; writes to results/small")
    sizes.add_argument("--large", action="store_true", help="larger sizes, takes much longer; writes <name>-large")
    options = parser.parse_args()
    options.repetitions = options.repetitions or (few if options.small else repetitions)
    return options


def results_path(name: str, options: argparse.Namespace) -> Path:
    """results/small/<name>.jsonl with --small, results/<name>-large.jsonl with --large, else results/<name>.jsonl."""
    folder = SMALL if options.small else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}{'-large' if options.large else ''}.jsonl"


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
    """A table in plain text; `write_results` keeps it as Markdown."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))
    sys.stdout.flush()
    _tables.append(markdown(title, lines))


def printed_tables() -> list[str]:
    """Everything that `print_table` has printed, as Markdown."""
    return list(_tables)


def markdown(title: str, lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is its head."""
    rows = [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
    return "\n".join([f"**{title}**", "", rows[0], "|---" * len(lines[0]) + "|", *rows[1:]])


def write_results(
    name: str, settings: Mapping[str, Any], results: Mapping[str, Any], options: argparse.Namespace
) -> Path:
    """Append the figures, with date, versions and settings, as one line; write the tables printed so far beside them."""
    path = results_path(name, options)
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "settings": dict(settings),
        "results": dict(results),
    }
    write_lines(path, [*read_lines(path), content])
    head = f"`{command(name, options)}`, {content['date']}, repetitions: {options.repetitions}"
    path.with_suffix(".md").write_text("\n\n".join([head, *_tables]) + "\n", encoding="utf-8")
    print(f"\nWritten: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records in a JSON Lines file, one for each run; none where there is no file yet."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """One line for each record."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def command(name: str, options: argparse.Namespace) -> str:
    """The command line that made a result."""
    return f"python -m benchmarks.{name}{' --small' * options.small}{' --large' * options.large}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
