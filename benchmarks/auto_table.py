"""Records of `auto` -> its table: every fixed length, the best of them, and the runs that found their length. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.datasets import MIXES
from benchmarks.tables import mean_and_spread, table

LENGTHS = (1, 2, 3, 5, 10)
AUTO, GIVEN = "auto", "auto, evaluation rows given"
AUTOS = (AUTO, GIVEN)
LESS = tuple(f"{n}, 5 % held out" for n in LENGTHS)
AVERAGED = tuple(
    f"{n}, averaged" for n in LENGTHS
)  # a constant learning rate, and the average of the weights delivered
DEARER, WORSE = 1.1, 1.01  # of the best fixed run's compute and loss: what is still as good
Record = dict[str, Any]


def place(record: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Where a record stands in the file."""
    arms = [*map(str, LENGTHS), *AVERAGED, *LESS, *AUTOS]
    return list(MIXES).index(record["mix"]), record["samples"], arms.index(record["arm"]), record["seed"]


def figures(records: Sequence[Record]) -> str:
    """Loss and compute of an arm."""
    found = [r["eval_loss"] for r in records]
    losses = mean_and_spread(found, ".4f") if len(found) > 1 else f"{found[0]:.4f}"
    return f"{losses} ({statistics.fmean(r['compute'] for r in records):.2f})"


def tables(records: Iterable[Record]) -> str:
    """What the columns are, and the table."""
    about = [
        "Loss on test rows, mean and standard deviation over the seeds (compute in epochs of plain training). *share* and",
        "*compute* are those of auto's loss and compute to the best fixed length's, found by looking at the test rows.",
    ]
    return "\n".join([*about, "", *rows_of(records)])


def rows_of(records: Iterable[Record]) -> list[str]:
    """Rows for each mix: every length, the best of them, and auto against it; with averaged weights and 5 % held out alike."""
    groups: dict[tuple[str, int], dict[str, list[Record]]] = {}
    for record in records:
        groups.setdefault((record["mix"], record["samples"]), {}).setdefault(record["arm"], []).append(record)
    rows = [row for (mix, samples), arms in groups.items() if len(arms) > 1 for row in _rows(mix, samples, arms)]
    lengths = [f"{n} epoch{'s' * (n > 1)}" for n in LENGTHS]
    return table(["data", *lengths, "run", "its loss", "share", "compute", "as good"], rows)


def _rows(mix: str, samples: int, arms: dict[str, list[Record]]) -> list[list[str]]:
    seeds = len(next(iter(arms.values())))
    what = f"{MIXES[mix].what}, {samples:,} rows, {seeds} seed{'s' * (seeds > 1)}"
    return [
        *_against(arms, what, [*map(str, LENGTHS)], AUTOS),
        *_against(arms, "the same lengths with averaged weights", AVERAGED, (GIVEN,)),
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
