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

from geko_engine.config.selection import GEKOConfig
from geko_engine.exceptions import CheckpointError
from geko_engine.selection.buckets import Bucket, bias_corrected_q, partition, quality, update_q
from geko_engine.selection.label_noise import suspected
from geko_engine.selection.mastery import MASTERY_CRITERIA, RecordSignals
from geko_engine.storage.array_files import load_arrays, save_arrays

FIELDS: dict[str, Any] = {
    "loss": np.float32,  # of the last visit, nats per target token
    "first_loss": np.float32,
    "best_loss": np.float32,
    "confidence": np.float32,
    "min_target_probability": np.float32,  # at the last visit
    "q_ema": np.float32,  # moving average of the Q-value, not yet bias-corrected
    "last_step": np.int32,  # optimizer step of the last visit
    "seen": np.uint16,  # visits that were trained on
    "checked": np.uint16,  # visits that were only scored
    "bucket": np.uint8,
    "correct": np.uint8,
    "hard_streak": np.uint8,  # consecutive visits that ended HARD
    "frozen_epochs": np.uint8,  # consecutive epochs begun as FREEZE
    "predicted_status": np.uint8,  # what similar prompts say about it: see Prediction
    "loss_outlier": np.uint8,  # the loss of the last visit was far above what similar prompts predict
}
NAMES_OF_VERSION_1 = {
    "p_min": "min_target_probability",
    "q": "q_ema",
    "frozen_passes": "frozen_epochs",
    "predicted": "predicted_status",
    "surprising": "loss_outlier",
}


class Prediction(IntEnum):
    """What similar prompts say about a sample; the values are written to disk."""

    NONE = 0
    KNOWN = 1  # never met, and would be answered correctly
    STABLE = 2  # training hardly changes it: skipped as if it were mastered


@dataclass(frozen=True)
class BucketCounts:
    """How many samples stand in each bucket."""

    freeze: int = 0
    light: int = 0
    focus: int = 0
    hard: int = 0
    unseen: int = 0

    @property
    def total(self) -> int:
        """Samples in all buckets."""
        return self.freeze + self.light + self.focus + self.hard + self.unseen


class SampleStates:
    """The record of `count` samples; every field of FIELDS is an array [count] with its name."""

    loss: NDArray[Any]
    first_loss: NDArray[Any]
    best_loss: NDArray[Any]
    confidence: NDArray[Any]
    min_target_probability: NDArray[Any]
    q_ema: NDArray[Any]
    last_step: NDArray[Any]
    seen: NDArray[Any]
    checked: NDArray[Any]
    bucket: NDArray[Any]
    correct: NDArray[Any]
    hard_streak: NDArray[Any]
    frozen_epochs: NDArray[Any]
    predicted_status: NDArray[Any]
    loss_outlier: NDArray[Any]

    def __init__(self, count: int) -> None:
        self.count = count
        for name, dtype in FIELDS.items():
            setattr(self, name, np.zeros(count, dtype))
        self.bucket[:], self.best_loss[:], self.last_step[:] = Bucket.UNSEEN, np.inf, -1
        self.never_freeze = np.zeros(count, bool)  # set by whoever asks for it; not part of the record
        self.mean_loss = float("nan")  # of all visited samples at the last partition
        self._counts = self._count(self.bucket)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every field by its name; the arrays are the record itself, not copies."""
        return {name: getattr(self, name) for name in FIELDS}

    def visits(self, ids: Any = slice(None)) -> NDArray[Any]:
        """Visits of any kind of `ids`, int64."""
        return np.asarray(self.seen[ids].astype(np.int64) + self.checked[ids])

    def met_since(self, step: int) -> NDArray[Any]:
        """Ids of the samples that were met after optimizer step `step`, in the order in which they came up."""
        met = np.flatnonzero(self.last_step > step)
        return met[np.argsort(self.last_step[met], kind="stable")]

    @property
    def bytes_per_sample(self) -> int:
        return sum(array.itemsize for array in self.arrays.values())

    def record(
        self,
        ids: NDArray[Any],
        loss: NDArray[Any],
        confidence: NDArray[Any],
        correct: NDArray[Any],
        min_target_probability: NDArray[Any],
        *,
        step: int,
        config: GEKOConfig,
        trained: bool = True,
    ) -> None:
        """Enter one visit of each sample in `ids` (distinct) and sort those samples into buckets at once.

        A frozen sample that is no longer mastered so thaws with the very visit that shows it.
        """
        first = self.visits(ids) == 0
        self.first_loss[ids] = np.where(first, loss, self.first_loss[ids])
        self.best_loss[ids] = np.minimum(self.best_loss[ids], loss)
        self.loss[ids], self.confidence[ids], self.correct[ids] = loss, confidence, correct
        self.min_target_probability[ids], self.last_step[ids] = min_target_probability, step
        self.predicted_status[ids] *= self.predicted_status[ids] == Prediction.STABLE
        self.loss_outlier[ids] = 0
        self.q_ema[ids] = update_q(self.q_ema[ids], loss, config)
        counter = self.seen if trained else self.checked
        counter[ids] = np.minimum(counter[ids].astype(np.int64) + 1, np.iinfo(np.uint16).max)
        self._counts -= self._count(self.bucket[ids])
        self.bucket[ids] = bucket = self._buckets(ids, config)
        self._counts += self._count(bucket)
        streak = self.hard_streak[ids]
        self.hard_streak[ids] = np.where(bucket == Bucket.HARD, np.minimum(streak, 254) + 1, 0)

    def begin_epoch(self) -> None:
        """Count how long each sample has been FREEZE; called once before each epoch is planned."""
        still = np.minimum(self.frozen_epochs, 254) + 1
        self.frozen_epochs[:] = np.where(self.bucket == Bucket.FREEZE, still, 0)

    def partition(self, config: GEKOConfig) -> BucketCounts:
        """Sort all samples anew by `config` (which may have changed since their visits) and count them."""
        visited = self.visits() > 0
        self.mean_loss = float(self.loss[visited].mean(dtype=np.float64)) if visited.any() else float("nan")
        self.bucket[:] = self._buckets(slice(None), config)
        self._counts = self._count(self.bucket)
        return self.counts()

    def counts(self) -> BucketCounts:
        """Bucket counts as they stand; kept up to date, so that asking costs nothing."""
        return BucketCounts(*self._counts.tolist())

    @staticmethod
    def _count(bucket: NDArray[Any]) -> NDArray[Any]:
        return np.bincount(bucket, minlength=len(Bucket))

    def suspects(self) -> NDArray[Any]:
        """Mask [count] of samples that are probably mislabeled."""
        return suspected(self.bucket, self.hard_streak, self.loss_outlier, self.min_target_probability)

    def withdraw(self, prediction: Prediction) -> None:
        """Take back every `prediction` of this kind."""
        self.predicted_status *= self.predicted_status != prediction

    def pruned(self, config: GEKOConfig) -> NDArray[Any]:
        """Mask [count] of samples that were FREEZE for more than prune_frozen_after epochs; none while that is 0."""
        if not config.prune_frozen_after:
            return np.zeros(self.count, bool)
        mask: NDArray[Any] = (self.bucket == Bucket.FREEZE) & (self.frozen_epochs > config.prune_frozen_after)
        return mask

    def lift_pruning(self) -> None:
        """Every frozen sample counts as newly frozen, so that pruned ones are replayed as others are."""
        self.frozen_epochs[:] = np.minimum(self.frozen_epochs, 1)

    def q_value(self, ids: Any, config: GEKOConfig) -> NDArray[Any]:
        """Bias-corrected Q-value in [0, 1] of `ids`."""
        return bias_corrected_q(self.q_ema[ids], self.visits(ids), config.q_value_lr)

    def _buckets(self, ids: Any, config: GEKOConfig) -> NDArray[Any]:
        correct, confidence, loss = self.correct[ids].astype(bool), self.confidence[ids], self.loss[ids]
        signals = RecordSignals(
            loss, correct, confidence, self.q_value(ids, config), quality(loss, self.best_loss[ids]), self.mean_loss
        )
        stable = self.predicted_status[ids] == Prediction.STABLE
        mastered = MASTERY_CRITERIA[config.mastery].mastered(signals, config) | stable
        kept = mastered & self.never_freeze[ids]  # LIGHT instead
        return partition(correct | kept, confidence, mastered & ~kept, self.visits(ids) > 0, config)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All arrays by name, and the mean loss."""
        return self.arrays | {"mean_loss": np.array([self.mean_loss])}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` gave, this version's or version 1's.

        Raises:
            CheckpointError: when it is of another number of samples or has other fields.
        """
        arrays = {NAMES_OF_VERSION_1.get(name, name): array for name, array in state.items()}
        mean_loss = arrays.pop("mean_loss", np.array([np.nan]))
        for name in ("predicted_status", "loss_outlier"):  # not in records of early versions
            arrays.setdefault(name, np.zeros_like(arrays["bucket"]))
        status = arrays["predicted_status"]
        seen = arrays["bucket"] != Bucket.UNSEEN
        status[(status == Prediction.KNOWN) & seen] = Prediction.NONE  # early versions kept it for what was met, too
        if set(arrays) != set(FIELDS):
            raise CheckpointError("The record has other fields: it is of another version of GEKO.")
        if len(arrays["loss"]) != self.count:
            raise CheckpointError(
                f"The record is of {len(arrays['loss'])} samples, but the data has {self.count}: "
                "resume with the data that the run was started with."
            )
        for name, array in arrays.items():
            setattr(self, name, array)
        self.mean_loss = float(mean_loss[0])
        self._counts = self._count(self.bucket)

    def save(self, path: str | Path) -> None:
        """Write the record to a safetensors file."""
        save_arrays(self.state_dict(), path)

    def load(self, path: str | Path) -> None:
        """Read what `save` wrote. Raises CheckpointError as `load_state_dict` does, naming the file."""
        try:
            self.load_state_dict(load_arrays(path))
        except CheckpointError as error:
            raise CheckpointError(f"{str(path)!r} cannot be used. {error}") from error
