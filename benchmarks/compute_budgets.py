"""Records of `savings` at several numbers of epochs -> what each arm makes of a budget, and the budget that it needs. Pure.

Compute is in runs of plain training over the mix's own number of epochs: 1 is that run, 0.5 half of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.arms import PLAIN, Record, spread

LOSS, RIGHT = "eval_loss", "exact_match"
LONGEST = 2  # runs of more than so many times the mix's own number of epochs answer another question
Point = tuple[float, float]  # compute, value


@dataclass(frozen=True)
class Reach:
    """Compute at which an arm comes as far as plain training's whole run, paired by seed.

    computes: of the seeds that came so far, within the budgets measured. seeds: of all.
    """

    computes: Sequence[float]
    seeds: int

    def __str__(self) -> str:
        if not self.seeds:
            return "–"  # no plain run to compare with
        if len(self.computes) < self.seeds:
            return f"not reached on {self.seeds - len(self.computes)} of {self.seeds} seeds"
        return f"{statistics.fmean(self.computes):.2f} ±{spread(self.computes):.2f}"


def curves(records: Iterable[Record], field: str, epochs: int) -> dict[str, dict[int, list[Point]]]:
    """For each arm of one mix and each seed its points, by rising compute; arms with one number of epochs are left out,
    and seeds that lack a number of epochs which another seed of the arm has.

    Args:
        epochs: of the plain run that counts as 1.
    """
    found: dict[str, dict[int, list[Point]]] = {}
    for record in records:
        if record["epochs"] > LONGEST * epochs:
            continue
        points = found.setdefault(record["arm"], {}).setdefault(record["seed"], [])
        points.append((record["cost"] * record["epochs"] / epochs, record[field]))
    most = {arm: max(len(points) for points in seeds.values()) for arm, seeds in found.items()}
    return {
        arm: {seed: sorted(points) for seed, points in seeds.items() if len(points) == most[arm]}
        for arm, seeds in found.items()
        if most[arm] > 1
    }


def first_reached(points: Sequence[Point], target: float, *, higher: bool) -> float | None:
    """The least compute at which the line through `points` is as good as `target`; None where it never is."""
    sign = -1.0 if higher else 1.0
    before: Point | None = None
    for compute, value in points:
        ahead = sign * (value - target)
        if ahead <= 0:
            if before is None:
                return compute
            behind = sign * (before[1] - target)
            return before[0] + (compute - before[0]) * behind / (behind - ahead)
        before = (compute, value)
    return None


def reaches(records: Sequence[Record], field: str, epochs: int) -> dict[str, Reach]:
    """For each arm of one mix: the compute that it takes to plain training's result after `epochs`, seed by seed."""
    targets = {r["seed"]: r[field] for r in records if r["arm"] == PLAIN and r["epochs"] == epochs}
    found = {}
    for arm, seeds in curves(records, field, epochs).items():
        paired = [
            first_reached(points, targets[seed], higher=field == RIGHT)
            for seed, points in seeds.items()
            if seed in targets
        ]
        found[arm] = Reach([compute for compute in paired if compute is not None], len(paired))
    return found


def means(seeds: dict[int, list[Point]]) -> list[tuple[float, float, float]]:
    """Compute, mean value and its standard deviation over the seeds, one for each number of epochs that all seeds have."""
    least = min(len(points) for points in seeds.values())
    columns = [[points[i] for points in seeds.values()] for i in range(least)]
    return [
        (statistics.fmean(c for c, _ in column), statistics.fmean(v for _, v in column), spread([v for _, v in column]))
        for column in columns
    ]
