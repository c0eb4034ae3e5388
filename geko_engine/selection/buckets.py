"""Signals and thresholds in, bucket ids out: the rule, as pure functions on arrays. Knows no model and no record."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig


class Bucket(IntEnum):
    """What GEKO thinks of a sample; the values are written to disk."""

    FREEZE = 0  # mastered: skipped
    LIGHT = 1  # correct, not yet sure
    FOCUS = 2  # wrong and unsure: still learning
    HARD = 3  # confidently wrong
    UNSEEN = 4  # the model has not met it yet

    def __str__(self) -> str:
        return self.name


def bias_corrected_q(q: NDArray[Any], visits: NDArray[Any], rate: float) -> NDArray[Any]:
    """Q-value in [0, 1] from the moving average `q` that started at 0, after `visits` updates at `rate`.

    Without the correction 9 to 19 visits pass before the value means anything; with it the first one does.
    """
    weight = 1.0 - (1.0 - rate) ** np.maximum(visits, 1)
    return np.where(visits > 0, q / weight, 0.0)


def update_q(q: NDArray[Any], loss: NDArray[Any], config: GEKOConfig) -> NDArray[Any]:
    """The moving average after one more visit with `loss` (nats per target token)."""
    reward = 1.0 - np.minimum(loss / config.q_value_loss_scale, 1.0)
    return (1.0 - config.q_value_lr) * q + config.q_value_lr * reward


def quality(last_loss: NDArray[Any], best_loss: NDArray[Any]) -> NDArray[Any]:
    """1 - min(1, how much the loss has risen since its best visit): only getting worse counts.

    With freeze_confidence 0.85 a mastered sample's loss is below 0.163, so its quality is above 0.83: at the
    default thresholds this condition cannot bind. It does when freeze_confidence is lowered.
    """
    return np.asarray(1.0 - np.clip(last_loss - best_loss, 0.0, 1.0))


def partition(
    correct: NDArray[Any], confidence: NDArray[Any], mastered: NDArray[Any], seen: NDArray[Any], config: GEKOConfig
) -> NDArray[Any]:
    """Bucket id [N] (uint8) of every sample; what was never seen stays UNSEEN."""
    wrong = np.where(confidence > config.focus_confidence, Bucket.HARD, Bucket.FOCUS)
    known = np.where(mastered, Bucket.FREEZE, np.where(correct, Bucket.LIGHT, wrong))
    return np.where(seen, known, Bucket.UNSEEN).astype(np.uint8)


def bucket_loss_weights(bucket: NDArray[Any], weights: tuple[float, float, float]) -> NDArray[Any]:
    """Loss weight [N] (float32) from the (HARD, FOCUS, LIGHT) weights, normalised to mean 1 over these samples.

    UNSEEN samples count as FOCUS, FREEZE ones (only replayed ones come here) as LIGHT but never as 0, since
    replaying them for nothing would cost compute. All weights 0 in this selection gives plain weights of 1.
    """
    hard, focus, light = weights
    table = np.array([light or 1.0, light, focus, hard, focus], dtype=np.float32)
    raw = table[bucket]
    mean = raw.mean() if len(raw) else 0.0
    return raw / mean if mean > 0 else np.ones(len(raw), np.float32)
