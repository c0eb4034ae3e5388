"""The record of every sample, as a struct of arrays: 38 bytes a sample. Knows no model; numpy only.

states = SampleStates(n); states.record(ids, scores..., step); states.partition(config); states.save(path)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from geko_engine.config.selection import GEKOConfig
from geko_engine.exceptions import CheckpointError
from geko_engine.selection.buckets import Bucket, bias_corrected_q, partition, quality, suspected, update_q
from geko_engine.selection.mastery import MASTERIES, Signals

FIELDS: dict[str, Any] = {
    "loss": np.float32,  # of the last visit, nats per target token
    "first_loss": np.float32,
    "best_loss": np.float32,
    "confidence": np.float32,
    "p_min": np.float32,  # smallest target probability at the last visit
    "q": np.float32,  # moving average, not yet bias-corrected
    "last_step": np.int32,  # optimizer step of the last visit
    "seen": np.uint16,  # visits that were trained on
    "checked": np.uint16,  # visits that were only looked at
    "bucket": np.uint8,
    "correct": np.uint8,
    "hard_streak": np.uint8,  # consecutive visits that ended HARD
    "frozen_passes": np.uint8,  # consecutive passes begun as FREEZE
    "predicted": np.uint8,  # what its look-alikes tell: see Told
    "surprising": np.uint8,  # the loss of the last visit was far above what its look-alikes tell
}


class Told(IntEnum):
    """What look-alikes tell of a sample; the values are written to disk."""

    NOTHING = 0
    KNOWN = 1  # never met, and would be answered right
    SETTLED = 2  # training hardly changes it: left out as if it were mastered


@dataclass(frozen=True)
class PartitionStats:
    """How many samples stand in each bucket."""

    freeze: int = 0
    light: int = 0
    focus: int = 0
    hard: int = 0
    unseen: int = 0

    @property
    def total(self) -> int:
        return self.freeze + self.light + self.focus + self.hard + self.unseen


class SampleStates:
    """The record of `count` samples; every field of FIELDS is an array [count] with its name."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.arrays: dict[str, NDArray] = {name: np.zeros(count, dtype) for name, dtype in FIELDS.items()}
        self.arrays["bucket"][:] = Bucket.UNSEEN
        self.arrays["best_loss"][:] = np.inf
        self.arrays["last_step"][:] = -1
        self.never_freeze = np.zeros(count, bool)  # set by whoever asks for it; not part of the record
        self.mean_loss = float("nan")  # of all visited samples at the last partition
        self._counts = self._count(self.bucket)

    def __getattr__(self, name: str) -> NDArray:
        if name in FIELDS:
            return self.arrays[name]
        raise AttributeError(name)

    def visits(self, ids: Any = slice(None)) -> NDArray:
        """Visits of any kind of `ids`, int64."""
        return self.seen[ids].astype(np.int64) + self.checked[ids]

    def met_since(self, step: int) -> NDArray:
        """Ids of the samples that were met after optimizer step `step`, in the order in which they came up."""
        met = np.flatnonzero(self.last_step > step)
        return met[np.argsort(self.last_step[met], kind="stable")]

    @property
    def bytes_per_sample(self) -> int:
        return sum(array.itemsize for array in self.arrays.values())

    def record(
        self,
        ids: NDArray,
        loss: NDArray,
        confidence: NDArray,
        correct: NDArray,
        p_min: NDArray,
        *,
        step: int,
        config: GEKOConfig,
        trained: bool = True,
    ) -> None:
        """Enter one visit of each sample in `ids` (distinct) and sort those samples into buckets at once.

        A frozen sample that is no longer mastered so thaws with the very visit that shows it.
        """
        a = self.arrays
        first = self.visits(ids) == 0
        a["first_loss"][ids] = np.where(first, loss, a["first_loss"][ids])
        a["best_loss"][ids] = np.minimum(a["best_loss"][ids], loss)
        a["loss"][ids], a["confidence"][ids], a["p_min"][ids] = loss, confidence, p_min
        a["correct"][ids], a["last_step"][ids] = correct, step
        a["predicted"][ids] *= a["predicted"][ids] == Told.SETTLED
        a["surprising"][ids] = 0
        a["q"][ids] = update_q(a["q"][ids], loss, config)
        counter = a["seen" if trained else "checked"]
        counter[ids] = np.minimum(counter[ids].astype(np.int64) + 1, np.iinfo(np.uint16).max)
        self._counts -= self._count(a["bucket"][ids])
        a["bucket"][ids] = bucket = self._buckets(ids, config)
        self._counts += self._count(bucket)
        streak = a["hard_streak"]
        streak[ids] = np.where(bucket == Bucket.HARD, np.minimum(streak[ids], 254) + 1, 0)

    def begin_pass(self) -> None:
        """Count how long each sample has been FREEZE; called once before each pass is planned."""
        frozen = self.arrays["frozen_passes"]
        frozen[:] = np.where(self.bucket == Bucket.FREEZE, np.minimum(frozen, 254) + 1, 0)

    def partition(self, config: GEKOConfig) -> PartitionStats:
        """Sort all samples anew by `config` (which may have changed since their visits) and count them."""
        visited = self.visits() > 0
        self.mean_loss = float(self.loss[visited].mean(dtype=np.float64)) if visited.any() else float("nan")
        self.arrays["bucket"][:] = self._buckets(slice(None), config)
        self._counts = self._count(self.bucket)
        return self.counts()

    def counts(self) -> PartitionStats:
        """Bucket counts as they stand; kept up to date, so that asking costs nothing."""
        return PartitionStats(*self._counts.tolist())

    @staticmethod
    def _count(bucket: NDArray) -> NDArray:
        return np.bincount(bucket, minlength=len(Bucket))

    def suspects(self) -> NDArray:
        """Mask [count] of samples that are probably wrong labels."""
        return suspected(self.bucket, self.hard_streak, self.surprising, self.p_min)

    def forget(self, told: Told) -> None:
        """Take back what look-alikes told."""
        self.arrays["predicted"] *= self.predicted != told

    def pruned(self, config: GEKOConfig) -> NDArray:
        """Mask [count] of samples that were FREEZE for more than prune_frozen_after passes; none while that is 0."""
        if not config.prune_frozen_after:
            return np.zeros(self.count, bool)
        mask: NDArray = (self.bucket == Bucket.FREEZE) & (self.frozen_passes > config.prune_frozen_after)
        return mask

    def lift_pruning(self) -> None:
        """Every frozen sample counts as newly frozen, so that pruned ones are replayed as others are."""
        self.arrays["frozen_passes"][:] = np.minimum(self.frozen_passes, 1)

    def q_value(self, ids: Any, config: GEKOConfig) -> NDArray:
        """Bias-corrected Q-value in [0, 1] of `ids`."""
        return bias_corrected_q(self.q[ids], self.visits(ids), config.q_value_lr)

    def _buckets(self, ids: Any, config: GEKOConfig) -> NDArray:
        correct, confidence, loss = self.correct[ids].astype(bool), self.confidence[ids], self.loss[ids]
        signals = Signals(
            loss, correct, confidence, self.q_value(ids, config), quality(loss, self.best_loss[ids]), self.mean_loss
        )
        mastered = MASTERIES[config.mastery].mastered(signals, config) | (self.predicted[ids] == Told.SETTLED)
        awake = mastered & self.never_freeze[ids]  # LIGHT instead
        return partition(correct | awake, confidence, mastered & ~awake, self.visits(ids) > 0, config)

    def save(self, path: str | Path) -> None:
        """Write all arrays to a safetensors file."""
        save_file({**self.arrays, "mean_loss": np.array([self.mean_loss])}, str(path))

    def load(self, path: str | Path) -> None:
        """Read what `save` wrote.

        Raises:
            CheckpointError: when the file holds another number of samples or other fields.
        """
        arrays = load_file(str(path))
        mean_loss = arrays.pop("mean_loss", np.array([np.nan]))
        for name in ("predicted", "surprising"):  # not in records of earlier versions
            arrays.setdefault(name, np.zeros_like(arrays["bucket"]))
        of_met = (arrays["predicted"] == Told.KNOWN) & (arrays["bucket"] != Bucket.UNSEEN)
        arrays["predicted"][of_met] = Told.NOTHING  # earlier versions also told it of what was met
        if set(arrays) != set(FIELDS):
            raise CheckpointError(f"The record {str(path)!r} has other fields: it is of another version of GEKO.")
        if len(arrays["loss"]) != self.count:
            raise CheckpointError(
                f"The record {str(path)!r} is of {len(arrays['loss'])} samples, but the data has {self.count}: "
                "resume with the data that the run was started with."
            )
        self.arrays, self.mean_loss = arrays, float(mean_loss[0])
        self._counts = self._count(self.bucket)
