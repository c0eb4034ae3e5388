"""How likely a given label is wrong: a mixture of what a classifier expects and of errors, fitted to all rows. NumPy only.

    P(label | prompt) = (1 - rate) · s(label) + rate · (1 - s(label)) / (labels - 1),   s = softmax(scores / temperature)

An error is any label but the right one, all equally likely. Both parameters are those under which the labels at hand are most likely. A label that even a sharp classifier cannot
explain is explained by an error; where the classifier is often wrong, the temperature rises and few are. By Bayes' rule the
share of the second part is the probability that a label is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.quality.answer_classifier import softmax

TEMPERATURES = np.geomspace(0.02, 1.0, 60)
ROUNDS = 50  # of the fixed-point iteration for the rate
SMALLEST_RATE, SMALLEST = 1e-6, 1e-300


@dataclass(frozen=True)
class NoiseModel:
    """A fitted mixture.

    Attributes:
        temperature: of the classifier's scores. rate: share of labels that are errors.
        log_likelihood: mean over the rows.
    """

    temperature: float
    rate: float
    log_likelihood: float

    def wrong(self, scores: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
        """Probability [n] that each label is wrong."""
        expected = own(softmax(scores, self.temperature), labels)
        return _share_of_errors(expected, self.rate, scores.shape[1])


def fit(scores: NDArray[Any], labels: NDArray[Any]) -> NoiseModel:
    """The most likely mixture for scores [n, k] and labels [n]."""
    return max((_at(scores, labels, float(t)) for t in TEMPERATURES), key=lambda model: model.log_likelihood)


def own(values: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """The value of each row's own label, [n]."""
    return np.asarray(values[np.arange(len(labels)), labels])


def _at(scores: NDArray[Any], labels: NDArray[Any], temperature: float) -> NoiseModel:
    expected = own(softmax(scores, temperature), labels).astype(np.float64)
    rate = 0.02
    for _ in range(ROUNDS):
        rate = max(float(_share_of_errors(expected, rate, scores.shape[1]).mean()), SMALLEST_RATE)
    likelihood = (1 - rate) * expected + rate * (1 - expected) / (scores.shape[1] - 1)
    return NoiseModel(temperature, rate, float(np.log(np.maximum(likelihood, SMALLEST)).mean()))


def _share_of_errors(expected: NDArray[Any], rate: float, labels: int) -> NDArray[Any]:
    error = rate * (1 - expected) / (labels - 1)
    return np.asarray(error / np.maximum((1 - rate) * expected + error, SMALLEST))
