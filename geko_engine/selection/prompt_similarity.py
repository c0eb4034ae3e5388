"""Predicts, from the samples seen in this epoch, the correctness, loss and churn of samples with similar prompts.

Linear models on the tokens of a prompt (single ones, pairs, its length), hashed: a logistic one for whether it is answered
correctly, and least-squares ones for its loss and its churn. They cost no token of the language model. Where prompts say
nothing (one kind of task, half of it known) no probability comes near 1 and no loss stands out. Numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.selection.samples import SelectionData

FEATURES = 1 << 13  # tokens and pairs are hashed into so many columns
FEWEST, MOST = 50, 4096  # samples that a model is fitted to: with fewer nothing is predicted; of more the latest count
FOLDS = 3  # cross-prediction: each sample from the other folds only
TOKENS = 256  # of a long prompt the first and the last half of so many are read
CHUNK = 8192  # samples whose features are in memory at a time
ITERATIONS, RATE = 60, 0.1  # of Adam, on all samples at once


@dataclass(frozen=True)
class _HashedFeatures:
    """The distinct features of n samples: those of sample i begin at starts[i]; scale [n] evens out their number."""

    features: NDArray[Any]
    starts: NDArray[Any]
    counts: NDArray[Any]
    scale: NDArray[Any]

    def dot(self, weights: NDArray[Any]) -> NDArray[Any]:
        """Sum of the weights of each sample's features, scaled, [n]."""
        return np.asarray(np.add.reduceat(weights[self.features], self.starts) * self.scale)

    def transposed(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum over the samples of their values [n], feature by feature, [FEATURES]."""
        return np.bincount(self.features, np.repeat(values * self.scale, self.counts), FEATURES)


def _hashed_features(samples: SelectionData, ids: NDArray[Any]) -> _HashedFeatures:
    """Features of the samples `ids` [n]. `samples[i]` is a dict with input_ids and labels."""
    parts = [_prompt_tokens(samples[int(i)]).astype(np.uint64) for i in ids]
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
    return _HashedFeatures(distinct % FEATURES, np.cumsum(counts) - counts, counts, 2.0 / np.sqrt(counts))


def _prompt_tokens(sample: Any) -> NDArray[Any]:
    """The tokens that are not targets. Answers must not count as similarity, or wrong ones could not stand out.

    Plain text has no prompt; there all tokens count.
    """
    ids = np.asarray(sample["input_ids"])
    prompt: NDArray[Any] = ids[np.asarray(sample["labels"]) != ids]
    return prompt if len(prompt) > 1 else ids


def _hash(values: NDArray[Any]) -> NDArray[Any]:
    """uint64 -> columns in [0, FEATURES), by the multiplicative hash of the golden ratio; it may overflow."""
    with np.errstate(over="ignore"):
        return (values * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - 13)).astype(np.int64)


def probabilities(samples: SelectionData, met: NDArray[Any], right: NDArray[Any], query: NDArray[Any]) -> NDArray[Any]:
    """Probability [m] that each sample of `query` [m] would be answered correctly.

    Args:
        met: ids that have come up in this epoch, in the order in which they did, [n]. right: bool [n], whether each was
            answered correctly.

    All 0 when fewer than FEWEST samples have come up.
    """
    if len(met) < FEWEST:
        return np.zeros(len(query))
    return _predict(samples, met[-MOST:], right[-MOST:].astype(float), query, _sigmoid)


def loss_z_scores(
    samples: SelectionData, met: NDArray[Any], loss: NDArray[Any], positions: NDArray[Any]
) -> NDArray[Any]:
    """How far the losses of some samples lie above those predicted from the others, in robust standard deviations, [m].

    Args:
        met: ids that have come up in this epoch, in the order in which they did, [n]. loss: of each at its visit, [n].
        positions: of the samples in question, in `met`, [m].

    The standard deviation is 1.4826 x the median absolute deviation of all samples from their predictions, which wrong
    labels hardly move. All 0 when fewer than FOLDS x FEWEST samples have come up.
    """
    if len(met) < FOLDS * FEWEST:
        return np.zeros(len(positions))
    known = np.arange(max(0, len(met) - MOST), len(met))
    above, all_above = np.empty(len(positions)), np.empty(len(known))
    for fold in range(FOLDS):
        mine, theirs = met[known] % FOLDS == fold, met[positions] % FOLDS == fold
        others, query = known[~mine], np.concatenate([known[mine], positions[theirs]])
        missed = loss[query] - _predict(samples, met[others], loss[others].astype(float), met[query], _identity)
        all_above[mine], above[theirs] = np.split(missed, [int(mine.sum())])
    deviation = 1.4826 * float(np.median(np.abs(all_above - np.median(all_above))))
    return above / max(deviation, 1e-6)


def predict_values(
    samples: SelectionData, known: NDArray[Any], values: NDArray[Any], query: NDArray[Any]
) -> NDArray[Any]:
    """The values [m] of the samples `query` [m], predicted by least squares from the `values` [n] of `known` [n]."""
    middle, spread = values.mean(), max(float(values.std()), 1e-12)  # the fit is made for values of the size of 1
    predicted: NDArray[Any] = middle + spread * _predict(samples, known, (values - middle) / spread, query, _identity)
    return predicted


def cross_predict(samples: SelectionData, known: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """The value of each of `known` [n], predicted from the other folds alone, [n]."""
    predicted, fold = np.empty(len(known)), np.arange(len(known)) % FOLDS
    for part in range(FOLDS):
        others, mine = fold != part, fold == part
        predicted[mine] = predict_values(samples, known[others], values[others], known[mine])
    return predicted


Link = Callable[[NDArray[Any]], NDArray[Any]]


def _sigmoid(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(1 / (1 + np.exp(-values)))


def _identity(values: NDArray[Any]) -> NDArray[Any]:
    return values


def _predict(
    samples: SelectionData, known: NDArray[Any], target: NDArray[Any], query: NDArray[Any], link: Link
) -> NDArray[Any]:
    """The prediction [m] for `query` [m] of a model fitted to the `target` [n] of `known` [n]."""
    weights, bias = _fit(_hashed_features(samples, known), target, link)
    score = np.empty(len(query))
    for start in range(0, len(query), CHUNK):
        score[start : start + CHUNK] = _hashed_features(samples, query[start : start + CHUNK]).dot(weights) + bias
    return link(score)


def _fit(bags: _HashedFeatures, target: NDArray[Any], link: Link) -> tuple[NDArray[Any], float]:
    """Weights of the features, and the bias: Adam on the mean log loss or squared error, with L2 on the features.

    With its own link either loss has the gradient link(score) - target.
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
