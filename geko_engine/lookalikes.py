"""Which samples would be answered right, though they have not come up in this pass: told by the look-alikes that have.

A logistic regression on the tokens of a sample (single ones, pairs, its length) and on the bucket it had before the pass,
fitted to whether the samples met so far were answered right. It costs no token of the language model. Where look-alikes
tell nothing (one kind of task, half of it known) no probability comes near 1, and nothing is left out. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.buckets import Bucket

FEATURES = 1 << 13  # tokens and pairs are hashed into so many columns
FEWEST, MOST = 50, 4096  # samples that it is fitted to: below, nothing is told; above, the latest count
TOKENS = 512  # of a long sample the first and the last half of so many are read
CHUNK = 8192  # samples whose features are in memory at a time
ITERATIONS, RATE = 60, 0.1  # of Adam, on all samples at once


@dataclass(frozen=True)
class _Bags:
    """The distinct features of n samples: those of sample i begin at starts[i]; scale [n] evens out their number."""

    features: NDArray
    starts: NDArray
    counts: NDArray
    scale: NDArray

    def dot(self, weights: NDArray) -> NDArray:
        """Sum of the weights of each sample's features, scaled, [n]."""
        return np.add.reduceat(weights[self.features], self.starts) * self.scale

    def transposed(self, values: NDArray) -> NDArray:
        """Sum over the samples of their values [n], feature by feature, [FEATURES]."""
        return np.bincount(self.features, np.repeat(values * self.scale, self.counts), FEATURES)


def _bags(samples: Any, ids: NDArray) -> _Bags:
    """Features of the samples `ids` [n]. `samples[i]` is a dict with input_ids."""
    parts = [np.asarray(samples[int(i)]["input_ids"], np.uint64) for i in ids]
    parts = [p if len(p) <= TOKENS else np.concatenate([p[: TOKENS // 2], p[-TOKENS // 2 :]]) for p in parts]
    sizes = np.array([len(part) for part in parts])
    rows, tokens = np.repeat(np.arange(len(ids)), sizes), np.concatenate(parts)
    neighbours = rows[:-1] == rows[1:]
    pairs = tokens[:-1][neighbours] * np.uint64(1_000_003) + tokens[1:][neighbours] + np.uint64(1 << 40)
    lengths = np.floor(4 * np.log2(np.maximum(1, sizes))).astype(np.uint64) + np.uint64(1 << 60)
    hashed = _hash(np.concatenate([tokens, pairs, lengths]))
    owners = np.concatenate([rows, rows[:-1][neighbours], np.arange(len(ids))])
    distinct = np.unique(owners * FEATURES + hashed)
    counts = np.bincount(distinct // FEATURES, minlength=len(ids))
    return _Bags(distinct % FEATURES, np.cumsum(counts) - counts, counts, 2.0 / np.sqrt(counts))


def _hash(values: NDArray) -> NDArray:
    """uint64 -> columns in [0, FEATURES), by the multiplicative hash of the golden ratio; it may overflow."""
    with np.errstate(over="ignore"):
        return (values * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - 13)).astype(np.int64)


def _before(buckets: NDArray) -> NDArray:
    """One column for each bucket, [n, buckets]."""
    return np.eye(len(Bucket))[buckets]


def probabilities(samples: Any, met: NDArray, right: NDArray, asked: NDArray, before: NDArray) -> NDArray:
    """Probability [m] that each of `asked` [m] would be answered right, from what became of `met` [n].

    Args:
        met: ids that have come up in this pass, in the order in which they did. right: bool [n], what became of them.
        before: bucket of every sample before the pass, [count].

    All 0 when fewer than FEWEST samples have come up.
    """
    if len(met) < FEWEST:
        return np.zeros(len(asked))
    met, right = met[-MOST:], right[-MOST:]
    weights, own, bias = _fit(_bags(samples, met), _before(before[met]), right.astype(float))
    told = np.empty(len(asked))
    for start in range(0, len(asked), CHUNK):
        ids = asked[start : start + CHUNK]
        told[start : start + CHUNK] = _bags(samples, ids).dot(weights) + _before(before[ids]) @ own + bias
    return _sigmoid(told)


def _sigmoid(values: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-values))


def _fit(bags: _Bags, before: NDArray, right: NDArray) -> tuple[NDArray, NDArray, float]:
    """Weights of the features, of the bucket before, and the bias: Adam on the mean log loss, L2 on the features."""
    columns, count = before.shape[1], len(right)
    values = np.zeros(FEATURES + columns + 1)
    first, second = np.zeros_like(values), np.zeros_like(values)
    for step in range(1, ITERATIONS + 1):
        weights, own, bias = values[:FEATURES], values[FEATURES:-1], values[-1]
        miss = _sigmoid(bags.dot(weights) + before @ own + bias) - right
        slope = np.concatenate([bags.transposed(miss) + weights, before.T @ miss, [miss.sum()]]) / count
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        values = values - RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return values[:FEATURES], values[FEATURES:-1], float(values[-1])
