"""Forward-only passes over samples: scans and evaluation. Knows the scorer and the collator, and no rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geko_engine.data import Collator, Stopped

SCAN_FACTOR = 4  # batches may be larger than in training: nothing is kept for a backward pass


@dataclass(frozen=True)
class Scan:
    """Scores of the samples `ids` [n]; the arrays are aligned with it."""

    ids: NDArray
    loss_sum: NDArray
    targets: NDArray
    loss: NDArray
    correct: NDArray
    confidence: NDArray
    p_min: NDArray
    tokens: int
    padding: int

    @property
    def mean_loss(self) -> float:
        """Mean over all target tokens, in nats."""
        return float(self.loss_sum.sum() / max(1.0, self.targets.sum()))

    @property
    def exact_match(self) -> float:
        """Share of samples whose every target is the most likely token."""
        return float(self.correct.mean())


def scan(
    scored: nn.Module,
    samples: Any,
    ids: NDArray,
    collate: Collator,
    *,
    batch_size: int,
    device: torch.device,
    should_stop: Callable[[], bool],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scan:
    """Score `ids` without gradient and dropout, in batches of similar length.

    Raises:
        Stopped: when should_stop says so between two batches; nothing has been recorded then.
    """
    order = ids[np.argsort(samples.lengths[ids], kind="stable")]
    columns: list[NDArray] = []
    padded = 0
    training = scored.training
    scored.eval()
    try:
        with torch.inference_mode():
            for part in _batches(order, batch_size * SCAN_FACTOR):
                if should_stop():
                    raise Stopped
                batch = collate([samples[int(i)] for i in part])
                padded += batch["input_ids"].numel()
                columns.append(as_columns(scored({name: value.to(device) for name, value in batch.items()})))
                on_progress(sum(c.shape[1] for c in columns), len(order))
    finally:
        scored.train(training)
    table = np.concatenate(columns, axis=1) if columns else np.zeros((6, 0))
    tokens = int(samples.lengths[order].sum())
    loss_sum, targets, loss, correct, confidence, p_min = table
    return Scan(order, loss_sum, targets, loss, correct > 0.5, confidence, p_min, tokens, padded - tokens)


def as_columns(scores: Any) -> NDArray:
    """SampleScores -> one float64 array [6, B] (loss_sum, targets, loss, correct, confidence, p_min): one transfer."""
    parts = (scores.loss_sum.detach(), scores.targets, scores.loss, scores.correct, scores.confidence, scores.p_min)
    return torch.stack([part.double() for part in parts]).cpu().numpy()


def _batches(ids: NDArray, size: int) -> Iterator[NDArray]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
