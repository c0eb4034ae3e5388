"""The points of a run's charts: a few thousand of them, however many steps the run has. Pure; knows no event and no file.

A chart is some 1,000 pixels wide. Of every `stride` steps the points with the lowest and the highest loss are kept, so
that no spike and no gap disappears; `stride` doubles whenever there are too many (min-max decimation).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

KEPT = 1600  # points beside those of the newest `stride` steps, which are all there


class Point(NamedTuple):
    """Where the run stood after an optimizer step; each field is a column that charts may draw, by its name."""

    step: int
    loss: float | None  # None where it was no finite number: a gap in the curve
    smoothed: float | None
    freeze: float  # buckets as shares of all samples
    light: float
    focus: float
    hard: float
    tokens: int  # trained so far
    seconds: float
    learning_rate: float
    tokens_per_second: float | None
    grad_norm: float | None = None  # before clipping; None where it was not finite or not recorded


class Curve:
    """The points of a run in the order of their steps. What is kept depends on the points alone, not on when they came."""

    def __init__(self) -> None:
        self.stride = 1
        self._kept: list[Point] = []
        self._newest: list[Point] = []  # of the bucket that the last step is in
        self._bucket = -1

    @property
    def last(self) -> Point | None:
        """The last point; None if there is none."""
        return self._newest[-1] if self._newest else None

    @property
    def last_step(self) -> int:
        """Step of the last point; 0 if there is none."""
        return self._newest[-1].step if self._newest else 0

    @property
    def points(self) -> list[Point]:
        """All points that are kept."""
        return [*self._kept, *self._newest]

    def append(self, point: Point) -> None:
        """Add a point; its step is later than all others."""
        if point.step // self.stride != self._bucket:
            self._close_bucket()
            self._open_bucket(point.step)
        self._newest.append(point)

    def since(self, step: int, limit: int) -> list[Point]:
        """The points after `step`, thinned to at most `limit` (3 or more); the last one is always included."""
        points = self.points
        new = points[bisect_right(points, step, key=lambda point: point.step) :]
        stride = self.stride
        thinned = new
        while len(thinned) > limit:
            stride *= 2
            thinned = [*thin(new[:-1], stride), new[-1]]
        return thinned

    def cut(self, step: int) -> bool:
        """Remove the points after `step`. Returns whether there were any."""
        if self.last_step <= step:
            return False
        kept = [point for point in self.points if point.step <= step]
        self._kept, self._newest, self._bucket = kept, [], -1
        if kept:
            self._open_bucket(kept[-1].step)
        return True

    def copy(self) -> Curve:
        """A copy that no longer changes with this one."""
        other = Curve()
        other.stride, other._bucket = self.stride, self._bucket
        other._kept, other._newest = list(self._kept), list(self._newest)
        return other

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {"stride": self.stride, "kept": list(self._kept), "newest": list(self._newest), "bucket": self._bucket}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Curve:
        """The curve that `to_json` described."""
        curve = cls()
        curve.stride, curve._bucket = values["stride"], values["bucket"]
        curve._kept, curve._newest = ([Point(*row) for row in values[name]] for name in ("kept", "newest"))
        return curve

    def _close_bucket(self) -> None:
        self._kept += extremes(self._newest)
        self._newest = []
        while len(self._kept) > KEPT:
            self.stride *= 2
            self._kept = thin(self._kept, self.stride)

    def _open_bucket(self, step: int) -> None:
        """Begin the bucket of `step`, with what is kept of it already."""
        self._bucket = step // self.stride
        while self._kept and self._kept[-1].step // self.stride == self._bucket:
            self._newest.insert(0, self._kept.pop())


def thin(points: Sequence[Point], stride: int) -> list[Point]:
    """Of every `stride` steps the points with the lowest and the highest loss."""
    buckets = groupby(points, lambda point: point.step // stride)
    return [point for _, bucket in buckets for point in extremes(list(bucket))]


def extremes(points: Sequence[Point]) -> list[Point]:
    """The points with the lowest and the highest loss, in the order of their steps; one that has none is the highest."""
    if len(points) < 2:
        return list(points)
    low, high = min(points, key=_height), max(points, key=_height)
    return [low] if low is high else sorted((low, high))


def _height(point: Point) -> float:
    return math.inf if point.loss is None else point.loss
