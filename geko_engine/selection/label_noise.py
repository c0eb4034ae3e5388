"""Finds answers that are probably wrong at their first visit, because the losses of samples with similar prompts are far lower.

A wrong label is found after one visit so; without similar prompts it takes two. Numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.selection.buckets import Bucket
from geko_engine.selection.prompt_similarity import loss_z_scores
from geko_engine.selection.samples import SelectionData

SUSPECT_VISITS = 2  # consecutive HARD visits; one where the loss is an outlier
OUTLIER_Z = 5.0  # robust standard deviations above the loss predicted from similar prompts
SUSPECT_PROBABILITY = 0.01  # of its least likely target token


def suspected(
    bucket: NDArray[Any], hard_streak: NDArray[Any], loss_outlier: NDArray[Any], min_target_probability: NDArray[Any]
) -> NDArray[Any]:
    """Mask [n] of samples that are probably mislabeled.

    They are HARD and have a target that the model rules out, twice in a row; or once, where `loss_outlier` (0 or 1)
    says that similar prompts have far lower losses. All arguments are [n].
    """
    often_enough = (hard_streak >= SUSPECT_VISITS) | (loss_outlier > 0)
    return np.asarray((bucket == Bucket.HARD) & often_enough & (min_target_probability < SUSPECT_PROBABILITY))


def loss_outliers(
    samples: SelectionData,
    met: NDArray[Any],
    bucket: NDArray[Any],
    loss: NDArray[Any],
    min_target_probability: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The samples of an epoch that a second such visit would make suspects, and whether their loss is an outlier.

    Args:
        met: ids of the samples of the epoch, in the order in which they came up, [n]. The other arrays are of these, [n].

    Returns:
        ids [m], and bool [m].
    """
    positions = np.flatnonzero((bucket == Bucket.HARD) & (min_target_probability < SUSPECT_PROBABILITY))
    return met[positions], loss_z_scores(samples, met, loss, positions) > OUTLIER_Z
