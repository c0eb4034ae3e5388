"""How a run answered each evaluation row, and the difference between two runs on the rows that both answered. Numpy only.

evaluation.safetensors   one array [count] of each: `digest` (of the row's tokens), `loss_sum` (nats), `targets` (tokens) and
                         `correct` (every target is the most likely token); `step` [1] of the evaluation

Two runs that answer the same rows are compared row by row: what makes a row easy or hard for both cancels out, so the standard
error is far smaller than that of two separate means (Efron and Tibshirani, 1993, on paired data).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.exceptions import RunError
from geko_engine.storage.array_files import load_arrays, save_arrays

FEWEST = 10  # common rows; below that a standard error means nothing
NORMAL_95 = 1.96  # standard errors on either side of a 95 % interval
NAMES = ("digest", "loss_sum", "targets", "correct")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Difference:
    """A mean difference and the half width of its 95 % interval, in the unit of the figure."""

    value: float
    margin: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return abs(self.value) > self.margin


@dataclass(frozen=True)
class PairedDifference:
    """The second run minus the first one.

    Attributes:
        rows: that both answered. exact_match: in [-1, 1]. loss: nats per target token.
    """

    rows: int
    exact_match: Difference
    loss: Difference


def save(
    path: str | Path,
    *,
    digest: NDArray[Any],
    loss_sum: NDArray[Any],
    targets: NDArray[Any],
    correct: NDArray[Any],
    step: int,
) -> None:
    """Write the scores of an evaluation; all arrays are [count] and in the same order."""
    arrays: Arrays = {"digest": digest.astype(np.uint64), "loss_sum": loss_sum.astype(np.float32)}
    arrays |= {"targets": targets.astype(np.int32), "correct": correct.astype(np.uint8)}
    save_arrays(arrays | {"step": np.array([step], np.int64)}, path)


def load(path: str | Path) -> Arrays:
    """What `save` wrote. Raises RunError when it cannot be read."""
    try:
        found = load_arrays(path)
    except Exception as error:  # safetensors has errors of its own, and importing them costs a page its start
        raise RunError(f"{str(path)!r} cannot be read: {error}") from error
    sizes = {found[name].shape for name in NAMES if name in found}
    if set(NAMES) - set(found) or len(sizes) != 1 or len(sizes.pop()) != 1:
        raise RunError(f"{str(path)!r} holds no scores of an evaluation.")
    return found


def compare(first: Arrays, second: Arrays) -> PairedDifference | None:
    """The difference between two runs on their common rows; None where these are fewer than FEWEST.

    Args:
        first, second: as `load` returns them. A row that stands twice counts once.
    """
    _, mine, others = np.intersect1d(first["digest"], second["digest"], return_indices=True)
    if len(mine) < FEWEST:
        return None
    correct = second["correct"][others].astype(float) - first["correct"][mine]
    loss = second["loss_sum"][others].astype(float) - first["loss_sum"][mine]
    targets = first["targets"][mine].astype(float)
    return PairedDifference(len(mine), _mean(correct, np.ones(len(mine))), _mean(loss, targets))


def _mean(sums: NDArray[Any], counts: NDArray[Any]) -> Difference:
    """sum(sums) / sum(counts) over rows, with the margin of that ratio (by its linearization)."""
    value = float(sums.sum() / counts.sum())
    residual = sums - value * counts
    rows = len(sums)
    error = float(np.sqrt((residual**2).sum() * rows / (rows - 1)) / counts.sum())
    return Difference(value, NORMAL_95 * error)
