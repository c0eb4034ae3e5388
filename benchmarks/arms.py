"""Records of `savings` -> what its plots show: means per arm, the Pareto front, differences paired by seed. Pure.

A setting is (samples, epochs); within one, every mix is a panel and every arm a marker.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import read_lines

Record = Mapping[str, Any]
Setting = tuple[int, int]
PLAIN = "plain"


@dataclass(frozen=True)
class Arm:
    """Means and standard deviations over the seeds of one arm on one mix."""

    name: str
    cost: float
    cost_spread: float
    loss: float
    loss_spread: float
    seeds: int


def read_records(folder: Path) -> list[Record]:
    """The records of `savings` in `folder`; none where it has not run."""
    return [*read_lines(folder / "savings.jsonl")]


def by_setting(records: Iterable[Record]) -> dict[Setting, dict[str, list[Record]]]:
    """Records by (samples, epochs) and mix, in the order in which they came."""
    found: dict[Setting, dict[str, list[Record]]] = {}
    for record in records:
        mixes = found.setdefault((record["samples"], record["epochs"]), {})
        mixes.setdefault(record["mix"], []).append(record)
    return found


def spread(values: Sequence[float]) -> float:
    """Standard deviation; 0 of one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def arms_of(records: Sequence[Record]) -> list[Arm]:
    """Each arm of one mix, in the order in which they came."""
    found = []
    for name in dict.fromkeys(record["arm"] for record in records):
        costs, losses = (
            [record[field] for record in records if record["arm"] == name] for field in ("cost", "eval_loss")
        )
        means = statistics.fmean(costs), statistics.fmean(losses)
        found.append(Arm(name, means[0], spread(costs), means[1], spread(losses), len(costs)))
    return found


def pareto_front(arms: Iterable[Arm]) -> list[Arm]:
    """The arms that no other one beats in both compute and loss, from the cheapest on."""
    front: list[Arm] = []
    for arm in sorted(arms, key=lambda a: (a.cost, a.loss)):
        if not front or arm.loss < front[-1].loss:
            front.append(arm)
    return front


def paired(records: Sequence[Record], field: str, against: str = PLAIN) -> dict[str, list[float]]:
    """For each other arm of one mix: `field` minus that of `against` with the same seed; seeds that lack one are left out."""
    base = {record["seed"]: record[field] for record in records if record["arm"] == against}
    found: dict[str, list[float]] = {}
    for record in records:
        if record["arm"] != against and record["seed"] in base:
            found.setdefault(record["arm"], []).append(record[field] - base[record["seed"]])
    return found


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """`wanted` positions moved so that neighbours are at least `gap` apart, in the same order, within [low, high].

    Each crowd is centred on where its members want to be. Where all do not fit, the gap shrinks.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))

    def ends(crowd: list[float]) -> tuple[float, float]:
        reach = gap * (len(crowd) - 1) / 2
        middle = min(max(statistics.fmean(crowd), low + reach), high - reach)
        return middle - reach, middle + reach

    crowds: list[list[float]] = []
    for position in sorted(wanted):
        crowds.append([position])
        while len(crowds) > 1 and ends(crowds[-2])[1] + gap > ends(crowds[-1])[0]:
            last = crowds.pop()
            crowds[-1] += last
    places = [ends(crowd)[0] + gap * i for crowd in crowds for i in range(len(crowd))]
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    return [place for _, place in sorted(zip(order, places, strict=True))]
