"""Scoring samples without training them, for scans and evaluation. Knows scorer and collator, but no selection rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geko_engine.data.batches import to_device, with_target_rows
from geko_engine.data.packed_batches import widths
from geko_engine.exceptions import Stopped
from geko_engine.scoring.sample_scores import BatchScores

SCORES = 7  # rows of as_columns
SCAN_FACTOR = 4  # batches may be larger than in training: nothing is stored for a backward pass
SIMILAR = 1.1  # longest / shortest sample of such a batch: beyond that, padding costs more than it saves


@dataclass(frozen=True)
class SampleScores:
    """Scores of n samples, as arrays on the host; all are [n] and aligned with `ids`, but for probability.

    Attributes:
        ids: of the samples.
        loss_sum: negative log-likelihood summed over the targets, in nats.
        targets: number of target tokens.
        loss: loss_sum / targets.
        correct: whether every target is the most likely token.
        confidence, min_target_probability: see BatchScores.
        probability: of each target token, sample by sample, float32 [sum of targets]; empty unless requested.
        tokens: real tokens of all samples.
        padding: padding tokens of all batches.
    """

    ids: NDArray[Any]
    loss_sum: NDArray[Any]
    targets: NDArray[Any]
    loss: NDArray[Any]
    correct: NDArray[Any]
    confidence: NDArray[Any]
    min_target_probability: NDArray[Any]
    probability: NDArray[Any]
    tokens: int
    padding: int

    @property
    def mean_loss(self) -> float:
        """Mean over all target tokens, in nats."""
        return float(self.loss_sum.sum() / max(1.0, self.targets.sum()))

    @property
    def exact_match(self) -> float:
        """Share of samples whose targets are all the most likely token."""
        return float(self.correct.mean())


def score_samples(
    scored: nn.Module,
    samples: Any,
    ids: NDArray[Any],
    collate: Callable[[Any], dict[str, Tensor]],
    *,
    batch_size: int,
    device: torch.device,
    should_stop: Callable[[], bool],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    rank: int = 0,
    processes: int = 1,
    with_tokens: bool = False,
    together: bool = False,
) -> SampleScores:
    """Score samples without gradient and dropout, in batches of similar length.

    Args:
        scored: module that returns BatchScores for a batch.
        samples: dataset with `lengths`, indexed by id.
        ids: which samples, [n].
        collate: makes a batch of a list of samples.
        batch_size: of training; batches of short samples are larger.
        device: on which to compute.
        should_stop: called before every batch.
        on_progress: called with (samples done, samples in all) after every batch.
        rank, processes: score only the share of process `rank`.
        with_tokens: return the probability of every target token too.
        together: every process computes as many batches as the others, because each holds a part of the weights only.

    Raises:
        Stopped: if should_stop returned True.
    """
    order = ids[np.argsort(samples.lengths[ids], kind="stable")]
    parts = list(_batches(order, samples.lengths[order], batch_size))
    done = np.cumsum([0, *map(len, parts)])
    columns: list[Tensor] = [torch.zeros(SCORES, 0)]
    probabilities: list[Tensor] = [torch.zeros(0)]
    training = scored.training
    scored.eval()
    try:
        with torch.no_grad():  # inference_mode would spoil what a model keeps of its forward pass for training
            for first in range(0, len(parts), processes):
                if should_stop():
                    raise Stopped
                own_batch = first + rank < len(parts)
                if own_batch or together:
                    chosen = [samples[int(i)] for i in parts[first + rank if own_batch else first]]
                    batch = to_device(with_target_rows(collate(chosen)), device)
                    scores = scored(batch)
                if own_batch:
                    # Nothing here waits for the device: batches are prepared while it works.
                    columns.append(score_table(scores, widths(batch)).to("cpu", non_blocking=True))
                    if with_tokens and scores.probability is not None:
                        probabilities.append(scores.probability.float().to("cpu", non_blocking=True))
                on_progress(int(done[min(len(parts), first + processes)]), len(order))
    finally:
        scored.train(training)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    own = np.concatenate([*parts[rank::processes], order[:0]])
    table = torch.cat(columns, 1).double().numpy()
    tokens = int(samples.lengths[own].sum())
    loss_sum, targets, loss, correct, confidence, min_target_probability, width = table
    probability, padding = torch.cat(probabilities).numpy(), int(width.sum()) - tokens
    return SampleScores(
        own, loss_sum, targets, loss, correct > 0.5, confidence, min_target_probability, probability, tokens, padding
    )


def combine(shares: Sequence[SampleScores]) -> SampleScores:
    """The scores of all processes as one."""
    names = ("ids", "loss_sum", "targets", "loss", "correct", "confidence", "min_target_probability", "probability")
    joined: dict[str, Any] = {name: np.concatenate([getattr(share, name) for share in shares]) for name in names}
    return SampleScores(**joined, tokens=sum(s.tokens for s in shares), padding=sum(s.padding for s in shares))


def in_id_order(found: SampleScores) -> SampleScores:
    """The same scores sorted by sample id. `score_samples` returns them in order of length."""
    order = np.argsort(found.ids)
    probability = found.probability
    if len(probability):
        members = np.split(probability, np.cumsum(found.targets).astype(int)[:-1])
        probability = np.concatenate([members[i] for i in order])
    names = ("ids", "loss_sum", "targets", "loss", "correct", "confidence", "min_target_probability")
    moved: dict[str, Any] = {name: getattr(found, name)[order] for name in names}
    return replace(found, probability=probability, **moved)


def as_columns(scores: BatchScores, width: int | Tensor) -> NDArray[Any]:
    """BatchScores -> one float64 array [SCORES, B] on the host, with the rows of `score_table`."""
    return score_table(scores, width).cpu().double().numpy()  # only now: not every device has float64


def score_table(scores: BatchScores, width: int | Tensor) -> Tensor:
    """BatchScores -> one float32 tensor [SCORES, B] where they are.

    Rows: loss_sum, targets, loss, correct, confidence, min_target_probability, and `width`, the positions that a sample takes: one number, or [B].
    """
    parts = (
        scores.loss_sum.detach(),
        scores.targets,
        scores.loss,
        scores.correct,
        scores.confidence,
        scores.min_target_probability,
    )
    # Filled where it is: a number that is sent to a device would be waited for.
    taken = width.float() if isinstance(width, Tensor) else torch.full_like(parts[0], width, dtype=torch.float)
    return torch.stack([*(part.float() for part in parts), taken])


def _batches(ids: NDArray[Any], lengths: NDArray[Any], batch_size: int) -> Iterator[NDArray[Any]]:
    """`ids`, sorted by their `lengths`, in batches of `batch_size` and up to SCAN_FACTOR times that while SIMILAR."""
    start = 0
    while start < len(ids):
        similar = int(np.searchsorted(lengths, SIMILAR * lengths[start], side="right")) - start
        end = start + min(max(similar, batch_size), batch_size * SCAN_FACTOR)
        yield ids[start:end]
        start = end
