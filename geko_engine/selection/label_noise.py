"""Finds answers that are probably wrong, and decides whether so many are that leaving them out pays. Numpy only.

A wrong label is found at its first visit where the losses of samples with similar prompts are far lower; without similar
prompts it takes two visits. In every dataset a few samples look so without being wrong, and leaving out these few hard ones
costs quality (banking77; see docs/results.md). So suspects are left out only where there are more of them than that.
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
# Of all samples so many must be suspects before any is left out: after one epoch, when only those are suspects whose loss is
# an outlier, and after later ones, when those join them that were HARD twice, among which more are right.
LEAST_AT_FIRST, LEAST_LATER = 0.01, 0.03
MOST_SUSPECTS = 0.2  # where more are, the labels cannot all be wrong


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


class NoiseEvidence:
    """Whether a run leaves its suspects out; they are listed in any case.

    Args:
        wanted: the setting noise_guard.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._wanted, self.found = wanted, False

    def conclude(self, suspects: NDArray[Any], epoch: int) -> None:
        """Look at the suspects, bool [count], at the end of an epoch (from 0). Noise that was found once stays found."""
        self.found = self.found or float(suspects.mean()) >= (LEAST_LATER if epoch else LEAST_AT_FIRST)

    def leaves_out(self, suspects: int, count: int) -> bool:
        """Whether that many suspects among `count` samples are left out."""
        return self._wanted and self.found and suspects <= MOST_SUSPECTS * count

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"found": self.found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; a run of an earlier version left its suspects out from the first one on."""
        self.found = state.get("found", True)
