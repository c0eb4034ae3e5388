"""Whether samples that share a row are the same to a model as apart, asked once. Knows no setting.

Attention without padding takes the bounds of the samples from their positions. A model may not hear of them: a state-space or
linear layer carries its state on, a convolution looks back, positions are counted from the row's beginning. Then a sample
would be trained behind another one's tokens, and nothing would fail. So real samples are put in one row, and their predictions
must not change with the tokens of the others (exactly), and must be those of padded batches (but for rounding).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geko_engine.data.batches import IGNORE_INDEX, to_device, with_target_rows
from geko_engine.data.packed_batches import PackedCollator
from geko_engine.scoring.own_loss import unchanged

Sample = dict[str, NDArray[Any]]
EDGE = 32  # predictions at each end of a sample: the first see another one's state, the last its place in the row
# Of log-probabilities. What is masked adds exact zeros: tokens of other samples change nothing at all. Measured in float32: 0
# where samples are kept apart, 7e-5 (a convolution over three tokens) to 2 where not.
LEAK = 1e-5
ROUNDING, ROUNDING_IN_HALF = 1e-5, 1e-2  # root mean square, beside what padding alone makes of them
TIMES = 4  # so many times the difference that padding makes is still rounding
SMALLEST = 1e-30  # probability: its logarithm is finite


def packing_problem(
    scored: nn.Module,
    samples: Any,
    padded: Callable[[Sequence[Sample]], dict[str, Tensor]],
    device: torch.device,
    *,
    tokens: int,
    half: bool,
) -> str:
    """Why samples in one row are not what they are apart, as the end of a sentence; "" if they are.

    Random states, buffers and the mode of the model are left as they were.

    Args:
        scored: module that returns BatchScores for a batch.
        samples: dataset with `lengths`, indexed by id.
        padded: the collator of padded batches, which is taken to be right.
        tokens: that the row has at least, if the samples are enough.
        half: whether the model computes in half precision.
    """
    parts = [_with_edges(samples[int(i)]) for i in probed_ids(samples.lengths, tokens)]
    if not parts:
        return "no sample has two tokens"
    kept, row = len(parts) - 2, PackedCollator()
    others = [*_changed(parts[:kept], parts), parts[kept], *_changed(parts[kept + 1 :], parts)]
    counts = [int((part["labels"][1:] != IGNORE_INDEX).sum()) for part in parts]
    own = slice(sum(counts[:kept]), sum(counts[: kept + 1]))
    with _asking(scored, device) as ask:
        for training in (True, False):
            scored.train(training)
            together = ask(row(parts))
            if not bool((together[own] - ask(row(others))[own]).abs().max() <= LEAK):
                return "the predictions of a sample change with the other samples in its row"
        alone = torch.cat([ask(padded([part])) for part in parts])
        rounding = TIMES * _size(ask(padded(parts)) - alone) + (ROUNDING_IN_HALF if half else ROUNDING)
    return "" if _size(together - alone) <= rounding else "samples in one row have other predictions than apart"


@contextlib.contextmanager
def _asking(scored: nn.Module, device: torch.device) -> Iterator[Callable[[dict[str, Tensor]], Tensor]]:
    """Gives a function from a batch to the log-probabilities of its targets, on the host."""
    modes = [(module, module.training) for module in scored.modules()]
    try:
        with torch.no_grad(), unchanged(scored, device) as again:

            def ask(batch: dict[str, Tensor]) -> Tensor:
                again()  # the same dropout each time
                probability = scored(to_device(with_target_rows(batch), device)).probability
                if probability is None:
                    raise TypeError("it returns no logits")
                found: Tensor = probability.float().clamp(min=SMALLEST).log().cpu()
                return found

            yield ask
    finally:
        for module, training in modes:
            module.training = training


def probed_ids(lengths: NDArray[Any], tokens: int) -> list[int]:
    """The longest samples until they have `tokens` tokens, then one of middle length and a short one, so that these lie
    beyond any window, chunk or table that counts from the row's beginning. [] if no sample has two tokens.

    Args:
        lengths: tokens of each sample [count].
    """
    usable = np.flatnonzero(lengths >= 2)
    if not len(usable):
        return []
    order = usable[np.argsort(-lengths[usable], kind="stable")]
    first = 1 + int(np.searchsorted(np.cumsum(lengths[order]), tokens))
    return [*order[:first].tolist(), int(order[len(order) // 2]), int(order[-1])]


def _with_edges(sample: Sample) -> Sample:
    """The sample with its first and its last tokens as targets."""
    ids = sample["input_ids"]
    labels = np.full(len(ids), IGNORE_INDEX, np.int64)
    labels[1 : 1 + EDGE], labels[-EDGE:] = ids[1 : 1 + EDGE], ids[-EDGE:]
    labels[0] = IGNORE_INDEX
    return {**sample, "labels": labels}


def _changed(parts: list[Sample], known: list[Sample]) -> list[Sample]:
    """`parts` with each token another one, but only such as occur in `known`: a special one may need more than its number."""
    ids = np.unique(np.concatenate([sample["input_ids"] for sample in known]))
    following = np.roll(ids, 1) if len(ids) > 1 else np.where(ids > 0, ids - 1, ids + 1)
    return [{**part, "input_ids": following[np.searchsorted(ids, part["input_ids"])]} for part in parts]


def _size(difference: Tensor) -> float:
    """Root mean square."""
    return float(difference.square().mean().sqrt())
