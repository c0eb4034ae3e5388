"""The core set of a run: those of its samples that its record says carried the training. Numpy only; knows no file.

How much training a sample took is counted in epochs: the last epoch, from 1, in which it came up and the model answered it wrong;
0 for one that was right every time or never trained on. An epoch in which it did not come up says nothing of it. This is the
learning event of Toneva and others (2019), read from the record instead of from a training of its own. Of samples that took
equally long the one whose loss fell most comes first: what no training moves (an answer that cannot be learned) carries little.

A small set of only these teaches little: what is hard is learned on top of what is common. So the smaller the set, the fewer of its
samples are chosen by the record, and the more are drawn at random; at a quarter of the data it is a random set. Measured in
benchmarks/core_set.py.

A core set is a claim until a run on it has been evaluated: on few data sets does a selector beat a random set of the same size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.exceptions import RunError
from geko_engine.selection.sample_records import SampleStates

# Of the samples that can be chosen: in a set of the first size none is chosen by the record, in one of the second all are.
ALL_RANDOM, ALL_BY_RECORD = 0.25, 0.5
NO_EPOCH = "The run has no whole epoch in its record, so it does not say which rows carried the training: train for an epoch first."


@dataclass(frozen=True)
class LearningRecord:
    """What the record of a run says of its samples.

    Attributes:
        wrong: mask [epochs, count], whether each came up in each epoch and was answered wrong the last time in it.
        trained: [count], visits that were trained on.
        progress: [count], nats per target token by which the loss fell from the first visit to the last.
    """

    wrong: NDArray[Any]
    trained: NDArray[Any]
    progress: NDArray[Any]

    @classmethod
    def of(cls, states: SampleStates, history: Mapping[str, NDArray[Any]]) -> LearningRecord:
        """From the record of a run and the arrays of its history, of which `loss` and `correct` are read, [epochs, count] each."""
        came_up = ~np.isnan(history["loss"])
        progress = np.where(states.seen > 0, states.first_loss - states.loss, 0.0)
        return cls(came_up & (history["correct"] == 0), states.seen, progress)

    @property
    def epochs_to_learn(self) -> NDArray[Any]:
        """The last epoch, from 1, in which each sample came up wrong, [count]; 0 for one that was never, or never trained on."""
        numbers = np.arange(1, len(self.wrong) + 1)[:, None]
        last_wrong = np.where(self.wrong, numbers, 0).max(axis=0)
        return np.where(self.trained > 0, last_wrong, 0)


@dataclass(frozen=True)
class CoreSet:
    """A choice of samples.

    Attributes:
        ids: of the chosen samples, ascending. by_record: how many of them the record chose; the others were drawn at random.
        carried: how many samples carried the training: the size by default.
        candidates: ids of all that could be chosen, ascending. count: samples of the run.
    """

    ids: NDArray[Any]
    carried: int
    candidates: NDArray[Any]
    count: int
    by_record: int

    @property
    def share(self) -> float:
        """Of the samples of the run, in [0, 1]."""
        return len(self.ids) / max(1, self.count)


def choose_core_set(
    record: LearningRecord,
    *,
    left_out: NDArray[Any],
    copy_of: NDArray[Any],
    near_duplicate: NDArray[Any],
    share: float | None = None,
) -> CoreSet:
    """The samples that took most training, and in a small set others, drawn at random.

    Never chosen are those in `left_out`, and of a group of exact duplicates all but the first. What was right every time comes
    after what was not, and near-duplicates after all others. By default the set has as many samples as carried the training:
    those that were wrong at least once when they came up and are no near-duplicates.

    Args:
        record: of the run.
        left_out: mask [count] of samples that are not to be chosen: excluded, or likely mislabeled.
        copy_of: [count], equal for samples with the same text and for no others.
        near_duplicate: mask [count] of samples that are nearly equal to an earlier one.
        share: size of the set as a share of all samples, in (0, 1]; None for the default.

    Raises:
        RunError: the record has no whole epoch, the share is outside its range, no sample is left to choose, or, without a
            share, none carried the training.
    """
    count = len(record.trained)
    if not len(record.wrong):
        raise RunError(NO_EPOCH)
    if share is not None and not 0 < share <= 1:
        raise RunError(f"The share of a core set is {share:g}: give one above 0 and at most 1.")
    usable = np.flatnonzero(~left_out)
    candidates = np.sort(usable[np.unique(copy_of[usable], return_index=True)[1]])
    if not len(candidates):
        raise RunError("No row is left for a core set: all are flagged, deleted or likely mislabeled.")
    took = record.epochs_to_learn
    carries = (took > 0) & ~near_duplicate
    keys = (candidates, -record.progress[candidates], -took[candidates], near_duplicate[candidates])
    ranked = candidates[np.lexsort(keys)]
    carried = int(carries[candidates].sum())
    if share is None and not carried:
        raise RunError(
            "No row carried the training: the model answered all of them right from the start. Give a share."
        )
    size = carried if share is None else min(max(1, round(share * count)), len(ranked))
    by_record = size if share is None else round(share_by_record(size / len(ranked)) * size)
    rest = np.random.default_rng((count, size)).permutation(ranked[by_record:])
    rest = rest[np.argsort(near_duplicate[rest], kind="stable")]
    ids = np.sort(np.concatenate([ranked[:by_record], rest[: size - by_record]]))
    return CoreSet(ids, carried, candidates, count, by_record)


def share_by_record(size: float) -> float:
    """Of a set that has the share `size` of all that can be chosen, the share that the record chooses, in [0, 1]."""
    return min(1.0, max(0.0, (size - ALL_RANDOM) / (ALL_BY_RECORD - ALL_RANDOM)))


def random_set(candidates: NDArray[Any], size: int, seed: int) -> NDArray[Any]:
    """`size` of the candidates, drawn by `seed`, ascending: what a core set of that size has to beat."""
    return np.sort(np.random.default_rng((seed, size)).permutation(candidates)[:size])
