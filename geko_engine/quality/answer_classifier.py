"""Predicts repeated answers (labels) from the features of the prompts, each row by a model fitted without that row.

A ridge regression on one-hot labels: its predictions without row i follow in closed form from one fit to all rows, so n
leave-one-out fits cost one. NumPy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RIDGES = (0.3, 1.0, 3.0)  # penalties that are tried; the one with the highest leave-one-out likelihood is taken
CLOSEST = 0.999  # leverage of a row: above, nothing is left without it


class LeaveOneOut:
    """The ridge regression of the features `x` [n, d] of all rows.

    Args:
        x: features; a column of ones is the bias.
    """

    def __init__(self, x: NDArray[Any]) -> None:
        self._values, vectors = np.linalg.eigh((x.T @ x).astype(np.float64))
        self._x = x @ vectors.astype(x.dtype)

    def scores(self, targets: NDArray[Any], ridge: float) -> NDArray[Any]:
        """Predicted targets [n, k] of each row, from all other rows.

        Args:
            targets: of each row, [n, k]; one-hot labels, or shares of them.
            ridge: the penalty.
        """
        shrink = (1 / (np.maximum(self._values, 0) + ridge)).astype(self._x.dtype)
        leverage = np.minimum((self._x**2) @ shrink, CLOSEST)[:, None]
        fitted = self._x @ (shrink[:, None] * (self._x.T @ targets))
        without: NDArray[Any] = (fitted - leverage * targets) / (1 - leverage)
        return without


def one_hot(labels: NDArray[Any], count: int) -> NDArray[Any]:
    """Labels in [0, count) as rows [n, count] with a single 1, float32."""
    found = np.zeros((len(labels), count), np.float32)
    found[np.arange(len(labels)), labels] = 1
    return found


def softmax(scores: NDArray[Any], temperature: float) -> NDArray[Any]:
    """Probabilities [n, k] of scores [n, k]."""
    powers = np.exp((scores - scores.max(1, keepdims=True)) / temperature)
    found: NDArray[Any] = powers / powers.sum(1, keepdims=True)
    return found
