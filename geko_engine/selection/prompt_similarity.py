"""What the samples that have come up in an epoch tell of those like them: which would be answered right, at which loss, and
how much training changes them.

Linear models on the tokens of its prompt (single ones, pairs, its length): a logistic one of whether it is answered right,
and least-squares ones of its loss and its churn. They cost no token of the language model. Where look-alikes tell nothing (one kind of
task, half of it known) no probability comes near 1 and no loss stands out. Numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEATURES = 1 << 13  # tokens and pairs are hashed into so many columns
FEWEST, MOST = 50, 4096  # samples that a model is fitted to: below, nothing is told; above, the latest count
FOLDS = 3  # of the samples whose own loss is told: by the others only
TOKENS = 256  # of a long prompt the first and the last half of so many are read
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
    """Features of the samples `ids` [n]. `samples[i]` is a dict with input_ids and labels."""
    parts = [_asked(samples[int(i)]).astype(np.uint64) for i in ids]
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


def _asked(sample: Any) -> NDArray:
    """The tokens that are no targets: what is asked makes samples alike, or one could not tell that an answer is wrong.

    Plain text asks nothing; there all tokens count.
    """
    ids = np.asarray(sample["input_ids"])
    asked: NDArray = ids[np.asarray(sample["labels"]) != ids]
    return asked if len(asked) > 1 else ids


def _hash(values: NDArray) -> NDArray:
    """uint64 -> columns in [0, FEATURES), by the multiplicative hash of the golden ratio; it may overflow."""
    with np.errstate(over="ignore"):
        return (values * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - 13)).astype(np.int64)


def probabilities(samples: Any, met: NDArray, right: NDArray, asked: NDArray) -> NDArray:
    """Probability [m] that each of `asked` [m] would be answered right, from what became of `met` [n].

    Args:
        met: ids that have come up in this epoch, in the order in which they did. right: bool [n], what became of them.

    All 0 when fewer than FEWEST samples have come up.
    """
    if len(met) < FEWEST:
        return np.zeros(len(asked))
    return _told(samples, met[-MOST:], right[-MOST:].astype(float), asked, _sigmoid)


def excess(samples: Any, met: NDArray, loss: NDArray, which: NDArray) -> NDArray:
    """How far the losses of some samples lie above what the others tell of them, in standard deviations, [m].

    Args:
        met: ids that have come up in this epoch, in the order in which they did. loss: [n], of each at its visit.
        which: positions [m] in `met`.

    The standard deviation is 1.4826 x the median absolute deviation of all samples from what is told of them, which the
    wrong ones hardly move. All 0 when fewer than FOLDS x FEWEST samples have come up.
    """
    if len(met) < FOLDS * FEWEST:
        return np.zeros(len(which))
    known = np.arange(max(0, len(met) - MOST), len(met))
    above, all_above = np.empty(len(which)), np.empty(len(known))
    for fold in range(FOLDS):
        mine, theirs = met[known] % FOLDS == fold, met[which] % FOLDS == fold
        others, asked = known[~mine], np.concatenate([known[mine], which[theirs]])
        missed = loss[asked] - _told(samples, met[others], loss[others].astype(float), met[asked], _itself)
        all_above[mine], above[theirs] = np.split(missed, [int(mine.sum())])
    deviation = 1.4826 * float(np.median(np.abs(all_above - np.median(all_above))))
    return above / max(deviation, 1e-6)


def told_value(samples: Any, known: NDArray, values: NDArray, asked: NDArray) -> NDArray:
    """What the `values` [n] of the samples `known` [n] tell of those of `asked` [m], [m], by least squares."""
    middle, spread = values.mean(), max(float(values.std()), 1e-12)  # the fit is made for values of the size of 1
    told: NDArray = middle + spread * _told(samples, known, (values - middle) / spread, asked, _itself)
    return told


def told_by_others(samples: Any, known: NDArray, values: NDArray) -> NDArray:
    """What is told of each of `known` [n] by the others alone, [n]."""
    told, fold = np.empty(len(known)), np.arange(len(known)) % FOLDS
    for part in range(FOLDS):
        others, mine = fold != part, fold == part
        told[mine] = told_value(samples, known[others], values[others], known[mine])
    return told


Link = Callable[[NDArray], NDArray]


def _sigmoid(values: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-values))


def _itself(values: NDArray) -> NDArray:
    return values


def _told(samples: Any, known: NDArray, target: NDArray, asked: NDArray, link: Link) -> NDArray:
    """What a model fitted to the `target` [n] of `known` [n] tells of `asked` [m], [m]."""
    weights, bias = _fit(_bags(samples, known), target, link)
    told = np.empty(len(asked))
    for start in range(0, len(asked), CHUNK):
        told[start : start + CHUNK] = _bags(samples, asked[start : start + CHUNK]).dot(weights) + bias
    return link(told)


def _fit(bags: _Bags, target: NDArray, link: Link) -> tuple[NDArray, float]:
    """Weights of the features, and the bias: Adam on the mean log loss or squared error, with L2 on the features.

    With its own link either loss has the gradient (link of what is told) - target.
    """
    count = len(target)
    values = np.zeros(FEATURES + 1)
    first, second = np.zeros_like(values), np.zeros_like(values)
    for step in range(1, ITERATIONS + 1):
        weights, bias = values[:-1], values[-1]
        miss = link(bags.dot(weights) + bias) - target
        slope = np.append(bags.transposed(miss) + weights, miss.sum()) / count
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        values = values - RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return values[:-1], float(values[-1])
