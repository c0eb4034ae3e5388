"""Batches without padding: the samples of a batch one behind the other in a single row. Knows no model and no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geko_engine.data.batches import IGNORE_INDEX, LONGEST, SAMPLE_BOUNDS


@dataclass(frozen=True)
class PackedCollator:
    """Samples -> one row of tensors [1, tokens of all of them], as transformers' DataCollatorWithFlattening makes it.

    input_ids, labels, position_ids that begin anew with each sample, and whatever else every sample has for each token. There
    is no attention mask: the positions say where a sample begins, and so do the bounds that the batch holds for the scorer.
    """

    def __call__(self, samples: Sequence[dict[str, NDArray[Any]]]) -> dict[str, Tensor]:
        lengths = [len(sample["input_ids"]) for sample in samples]
        batch = {name: np.concatenate([sample[name] for sample in samples])[None] for name in samples[0]}
        bounds = np.cumsum([0, *lengths])
        batch["input_ids"] = batch["input_ids"].astype(np.int64)
        batch["labels"] = batch["labels"].astype(np.int64)
        batch["labels"][0, bounds[:-1]] = IGNORE_INDEX  # the token before is another sample's
        batch["position_ids"] = np.concatenate([np.arange(length) for length in lengths])[None]
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        return tensors | {SAMPLE_BOUNDS: torch.from_numpy(bounds), LONGEST: torch.tensor(max(lengths))}


def samples_of(batch: dict[str, Tensor], rows: Tensor) -> tuple[Tensor, int]:
    """(the sample that each of the flat positions `rows` [K] belongs to, how many samples the batch has)."""
    bounds = batch.get(SAMPLE_BOUNDS)
    if bounds is None:
        count, length = batch["labels"].shape
        return rows // length, count
    return torch.searchsorted(bounds, rows, right=True) - 1, len(bounds) - 1


def widths(batch: dict[str, Tensor]) -> int | Tensor:
    """Positions that each sample takes in the batch: one number with padding, without it a number for each [B]."""
    bounds = batch.get(SAMPLE_BOUNDS)
    return batch["labels"].shape[1] if bounds is None else bounds.diff()


def attention_bounds(batch: dict[str, Tensor]) -> dict[str, Any]:
    """The bounds of a row's samples by the names of transformers' FlashAttentionKwargs; {} of a padded batch.

    Without them, each layer would look for the bounds in the positions and wait for the device.
    """
    if SAMPLE_BOUNDS not in batch:
        return {}
    bounds, longest = batch[SAMPLE_BOUNDS].int(), int(batch[LONGEST])
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}
