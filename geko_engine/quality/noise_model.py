"""How likely a given label is wrong: a mixture of what a classifier expects and of errors, fitted to all rows. NumPy only.

    P(label | prompt) = (1 - rate) · s(label) + rate · (1 - s(label)) / (labels - 1)
    s = (1 - blurred) · softmax(scores / temperature) + blurred · softmax(scores / (BLUR · temperature))

An error is any label but the right one, all equally likely. The parameters are those under which the labels at hand are most
likely. A label that even a sharp classifier cannot explain is explained by an error; where the classifier is often wrong, the
temperature rises and few are. A share of the rows has a higher temperature: in them the classifier is wrong more often than its
scores elsewhere say, because it trusts a single word. Without it such rows pass for errors. By Bayes' rule the share of the
second part is the probability that a label is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.quality.answer_classifier import softmax

TEMPERATURES = np.geomspace(0.02, 1.0, 60)
# Chosen so that on banking77 the probabilities fit what a reading of its 50 most suspicious rows found (docs/results.md). The
# labels cannot tell it: a wider blur explains errors, too, that were made between labels which are easily confused.
BLUR = 1.6
ROUNDS = 60  # of the fixed-point iteration for the shares
SMALLEST_SHARE, SMALLEST = 1e-6, 1e-300


@dataclass(frozen=True)
class NoiseModel:
    """A fitted mixture.

    Attributes:
        temperature: of the classifier's scores. blurred: share of rows with BLUR times that temperature.
        rate: share of labels that are errors. log_likelihood: mean over the rows.
    """

    temperature: float
    blurred: float
    rate: float
    log_likelihood: float

    def expected(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Probability [n, k] of every label, errors aside, from scores [n, k]."""
        sharp, blurred = softmax(scores, self.temperature), softmax(scores, BLUR * self.temperature)
        return np.asarray((1 - self.blurred) * sharp + self.blurred * blurred)

    def wrong(self, scores: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
        """Probability [n] that each label is wrong."""
        expected = own(self.expected(scores), labels).astype(np.float64)
        error = _errors(expected, self.rate, scores.shape[1])
        return np.asarray(error / np.maximum((1 - self.rate) * expected + error, SMALLEST))


def fit(scores: NDArray[Any], labels: NDArray[Any]) -> NoiseModel:
    """The most likely mixture for scores [n, k] and labels [n]."""
    return max((_at(scores, labels, float(t)) for t in TEMPERATURES), key=lambda model: model.log_likelihood)


def own(values: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """The value of each row's own label, [n]."""
    return np.asarray(values[np.arange(len(labels)), labels])


def _at(scores: NDArray[Any], labels: NDArray[Any], temperature: float) -> NoiseModel:
    sharp, flat = (own(softmax(scores, t), labels).astype(np.float64) for t in (temperature, BLUR * temperature))
    blurred, rate = 0.05, 0.02
    for _ in range(ROUNDS):
        expected = (1 - blurred) * sharp + blurred * flat
        errors = _errors(expected, rate, scores.shape[1])
        likelihood = np.maximum((1 - rate) * expected + errors, SMALLEST)
        of_blurred = float(((1 - rate) * blurred * flat / likelihood).mean())
        rate = max(float((errors / likelihood).mean()), SMALLEST_SHARE)
        blurred = max(of_blurred / (1 - rate), SMALLEST_SHARE)
    return NoiseModel(temperature, blurred, rate, float(np.log(likelihood).mean()))


def _errors(expected: NDArray[Any], rate: float, labels: int) -> NDArray[Any]:
    """Probability [n] of being an error that gives just this label."""
    return np.asarray(rate * (1 - expected) / (labels - 1))
