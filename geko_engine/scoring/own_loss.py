"""Whether a model's own loss is the one that GEKO computes, asked once on a few tokens. Knows no data source and no rule.

GEKO computes the mean negative log-likelihood of the targets from the logits. A model may mean something else: smoothed
labels, labels that are not shifted, another mean. Then its own loss is what the user wants to train with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geko_engine.data.batches import IGNORE_INDEX
from geko_engine.scoring.sample_scores import BatchScores, Scorer

PROBED_SAMPLES, PROBED_TOKENS = 4, 64  # a model makes whole logits with its own loss: few, or memory would run out here
TOLERANCE, TOLERANCE_IN_HALF = 1e-4, 1e-2  # relative, absolute below 1: rounding is a tenth of it


def probe(samples: Any) -> list[dict[str, NDArray[Any]]]:
    """The first samples that have targets, each cut to the tokens around its first one; [] if none has any."""
    chosen = [samples[int(i)] for i in np.flatnonzero(samples.targets)[:PROBED_SAMPLES]]
    return [_around_first_target(sample) for sample in chosen]


def _around_first_target(sample: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    first = 1 + int(np.argmax(sample["labels"][1:] != IGNORE_INDEX))
    start = max(0, first - PROBED_TOKENS // 2)
    return {name: values[start : start + PROBED_TOKENS] for name, values in sample.items()}


def settle(scored: nn.Module, scorer: Scorer, batch: dict[str, Tensor], *, half: bool) -> str:
    """Let `scorer` use the model's own loss where it differs from GEKO's on `batch`.

    Random states and buffers are left as they were, so a run in which both agree is not changed by the question.

    Args:
        scored: the module that calls `scorer` with the model, in the run's precision.
        batch: as for Scorer.
        half: whether the model computes in half precision.

    Returns:
        The sentence for the log; "" if both agree, or if the model has no loss of its own.
    """
    if not scorer.may_have_loss:
        return ""
    with torch.no_grad(), unchanged(scored, batch["input_ids"].device) as again:
        scores = scored(batch)
        again()
        own = scored(batch, own_loss=True)
    found = difference(scores, own, TOLERANCE_IN_HALF if half else TOLERANCE)
    if found is None or not scores.exact:
        return ""
    scorer.use_own_loss()
    each = own.ndim == 1 and len(own) == len(scores.loss)
    granularity = (
        "one for each sample."
        if each
        else "and all samples of a batch get the same scores. Return one loss per sample to track each of them."
    )
    return (
        f"The model's own loss of the first samples is {found[0]:.4f}, and the mean negative log-likelihood of their targets "
        f"is {found[1]:.4f}: the model's own loss is trained with, {granularity}"
    )


def difference(scores: BatchScores, own: Tensor | None, tolerance: float) -> tuple[float, float] | None:
    """(the model's own loss, GEKO's), as means over the batch, where they differ by more than `tolerance`.

    Args:
        scores: of GEKO, a router's loss included in the objective.
        own: one loss, one per sample [B], or None.
    """
    if own is None or not bool(torch.isfinite(own).all()):
        return None
    if own.ndim == 1 and len(own) == len(scores.loss):
        ours = scores.loss
    else:
        own, ours = own.reshape(-1).mean(), scores.objective / scores.targets.sum()
    own, ours = own.double().cpu(), ours.double().cpu()
    if bool(((own - ours).abs() <= tolerance * ours.abs().clamp(min=1.0)).all()):
        return None
    return float(own.mean()), float(ours.mean())


@contextlib.contextmanager
def unchanged(scored: nn.Module, device: torch.device) -> Iterator[Any]:
    """Gives a function that takes back what a forward pass has drawn and noted, which the end does too."""
    kept = [(buffer, buffer.clone()) for buffer in scored.buffers()]
    drawn = torch.get_rng_state()
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def again() -> None:
        torch.set_rng_state(drawn)
        if on_device is not None:
            torch.cuda.set_rng_state(on_device, device)
        for buffer, before in kept:
            buffer.copy_(before)

    compiled = any(module._compiled_call_impl is not None for module in scored.modules())
    try:
        # Or a compiled model would be compiled for this question alone.
        with torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext():
            yield again
    finally:
        again()
