"""Tokenised samples and batches of them. Knows no tokenizer, no model and no file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from geko_engine.exceptions import DataError

IGNORE_INDEX = -100  # label of a position that is no target, as in transformers


NO_LIMIT = 1_000_000_000
# Share of a run's samples whose number of held-out ones shows when it has trained enough, and the limits of that number.
JUDGED, FEWEST_JUDGED, MOST_JUDGED = 0.05, 64, 512
READ = ("input_ids", "labels", "attention_mask")  # keys of a dataset's items
# What a batch holds for the scorer, and the model never sees: flat positions that predict a target [K], the largest target
# (no dimension), and the loss weight of each sample [B]. Where the samples share one row, also the positions that they begin
# at and the row's end [B + 1], and the tokens of the longest (no dimension).
TARGET_ROWS, LARGEST_TARGET, SAMPLE_WEIGHTS = "target_rows", "largest_target", "sample_weights"
SAMPLE_BOUNDS, LONGEST = "sample_bounds", "longest_sample"
FOR_THE_SCORER = (TARGET_ROWS, LARGEST_TARGET, SAMPLE_WEIGHTS, SAMPLE_BOUNDS, LONGEST)


@dataclass
class TokenizedData:
    """All samples as flat arrays; sample i is tokens[offsets[i]:offsets[i+1]].

    Attributes:
        tokens: int32 [total]. learnt: bool [total], whether a token is a target. offsets: int64 [count + 1].
        rows: int32 [count], row number in the source (from 0), since unusable rows are left out; ascending.
        parts: int32 [count], which sample of its row it is: a row may make one for each answer.
        digests: uint64 [count], equal for samples with equal tokens.
        truncated: row numbers that were cut. empty: left out, nothing to learn in them. masked: left out, all of
            their targets lie beyond the cut. duplicates: kept, but equal to an earlier row.
        unusable: row number -> why it could not be rendered.
        notes: what of the rows is not learned as it stands there ("with ...") -> their numbers.
        remarks: what was done to rows that changes nothing of what their answers say -> their numbers.
    """

    tokens: NDArray[Any]
    learnt: NDArray[Any]
    offsets: NDArray[Any]
    rows: NDArray[Any]
    parts: NDArray[Any]
    digests: NDArray[Any]
    truncated: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    masked: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    unusable: dict[int, str] = field(default_factory=dict)
    notes: dict[str, list[int]] = field(default_factory=dict)
    remarks: dict[str, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        part = slice(self.offsets[index], self.offsets[index + 1])
        ids = self.tokens[part]
        return {"input_ids": ids, "labels": np.where(self.learnt[part], ids, IGNORE_INDEX).astype(np.int64)}

    @cached_property
    def lengths(self) -> NDArray[Any]:
        """Real tokens of each sample, [count]."""
        return np.diff(self.offsets)

    @cached_property
    def targets(self) -> NDArray[Any]:
        """Target tokens of each sample, [count]; a sample's first token is never one."""
        counted = np.add.reduceat(self.learnt, self.offsets[:-1], dtype=np.int64)
        return np.asarray(counted - self.learnt[self.offsets[:-1]])

    def subset(self, ids: NDArray[Any]) -> TokenizedData:
        """The samples `ids`, without the lists of rows.

        Args:
            ids: sample numbers [n].
        """
        parts = [slice(self.offsets[i], self.offsets[i + 1]) for i in ids]
        return TokenizedData(
            np.concatenate([self.tokens[part] for part in parts]),
            np.concatenate([self.learnt[part] for part in parts]),
            np.concatenate([[0], np.cumsum(self.lengths[ids])]).astype(np.int64),
            self.rows[ids],
            self.parts[ids],
            self.digests[ids],
        )


def samples_to_judge(count: int) -> int:
    """Held-out samples that show where the loss of a run on `count` samples is lowest; more would cost compute and say no more."""
    return round(min(max(JUDGED * count, FEWEST_JUDGED), MOST_JUDGED))


def hold_out(data: TokenizedData, ratio: float, seed: int) -> tuple[TokenizedData, TokenizedData]:
    """Hold out a random share of the samples; equal samples, and those of one row, always stay on the same side.

    Args:
        data: the samples.
        ratio: share of the distinct samples that is held out.
        seed: of the choice.

    Returns:
        (training samples, evaluation samples).

    Raises:
        DataError: when one side would be empty.
    """
    distinct = np.unique(data.digests)
    chosen = np.random.default_rng(seed).permutation(distinct)[: max(1, round(ratio * len(distinct)))]
    held = _with_relatives(data, np.isin(data.digests, chosen))
    if held.all():
        raise DataError(
            f"{len(distinct)} different samples are too few to hold out {ratio:g} of them: give an evaluation set.",
            "data.eval_ratio",
        )
    return split(data, held)


def split(data: TokenizedData, held: NDArray[Any]) -> tuple[TokenizedData, TokenizedData]:
    """(training samples, evaluation samples): those that the mask `held` [count] leaves, and those that it picks."""
    train = data.subset(np.flatnonzero(~held))
    train.truncated, train.empty, train.masked = data.truncated, data.empty, data.masked
    train.duplicates, train.unusable = data.duplicates, data.unusable
    train.notes, train.remarks = data.notes, data.remarks
    return train, data.subset(np.flatnonzero(held))


def _with_relatives(data: TokenizedData, held: NDArray[Any]) -> NDArray[Any]:
    """The mask `held` [count] with all samples of the same rows and all that equal them."""
    while True:
        wider = np.isin(data.rows, data.rows[held])
        wider |= np.isin(data.digests, data.digests[wider])
        if (wider == held).all():
            return held
        held = wider


def overlap(train: TokenizedData, evaluation: TokenizedData) -> list[int]:
    """Row numbers of the evaluation set that are in the training set too, token by token."""
    rows: list[int] = evaluation.rows[np.isin(evaluation.digests, train.digests)].tolist()
    return rows


class DatasetView:
    """Any dataset of dicts with `input_ids` as (input_ids, labels) arrays without padding, lengths known.

    Missing labels mean the tokens themselves. Padding (attention_mask 0) is taken out: we pad per batch.

    Args:
        dataset: with len() and numbers.
        taken: what the model's forward takes. Such a key of the first item is passed on, and needs one value for each
            token of every item: position_ids and token_type_ids, for instance.

    Attributes:
        passed_on: these keys. unread: the keys of the first item that nobody reads.

    Raises:
        TypeError: when an item is no dict, has no `input_ids`, or lacks values of a key that is passed on.
    """

    def __init__(self, dataset: Any, taken: Collection[str] = ()) -> None:
        self.dataset = dataset
        first = dataset[0] if len(dataset) else {}
        others = [str(key) for key in first if key not in READ] if hasattr(first, "keys") else []
        self.passed_on = [key for key in others if key in taken]
        self.unread = [key for key in others if key not in taken]
        items = [self[index] for index in range(len(dataset))]
        self.lengths = np.array([len(item["input_ids"]) for item in items], dtype=np.int64)
        self.targets = np.array([int((item["labels"][1:] != IGNORE_INDEX).sum()) for item in items], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        item = self.dataset[int(index)]
        if not hasattr(item, "keys") or "input_ids" not in item:
            found = f"the keys {sorted(item.keys())}" if hasattr(item, "keys") else f"a {type(item).__name__}"
            raise TypeError(f"Item {index} of the dataset must be a dict with 'input_ids', but it has {found}.")
        ids = np.asarray(item["input_ids"]).reshape(-1)
        labels = np.asarray(item["labels"] if item.get("labels") is not None else ids, dtype=np.int64).reshape(-1)
        values = {"input_ids": ids, "labels": labels}
        values |= {key: self._per_token(item, key, index, len(ids)) for key in self.passed_on}
        mask = item.get("attention_mask")
        if mask is not None:
            real = np.asarray(mask).reshape(-1).astype(bool)
            values = {name: array[real] for name, array in values.items()}
        return values

    def _per_token(self, item: Any, key: str, index: int, count: int) -> NDArray[Any]:
        given = item.get(key)
        values = np.asarray(given if given is not None else []).reshape(-1)
        if len(values) != count:
            raise TypeError(
                f"The key {key!r} is passed to the model and needs one value for each of the {count} tokens, but item "
                f"{index} has {len(values)}: remove the key, or complete it."
            )
        return values


def as_samples(dataset: Any, taken: Collection[str] = ()) -> Any:
    """`dataset` with `lengths` and `targets`, wrapped where it does not have them; `taken` as in DatasetView."""
    return dataset if isinstance(dataset, TokenizedData | DatasetView) else DatasetView(dataset, taken)


@dataclass(frozen=True)
class Collator:
    """Samples -> one batch of tensors [B, longest], padded on the right.

    input_ids, attention_mask, labels, and whatever else every sample has for each token, padded with 0.
    """

    pad_token_id: int = 0
    multiple: int = 1  # of the batch's length, so that a compiled model meets few lengths
    limit: int = NO_LIMIT  # the model's own: padding never goes beyond it

    def __call__(self, samples: Sequence[dict[str, NDArray[Any]]]) -> dict[str, Tensor]:
        longest = max(len(sample["input_ids"]) for sample in samples)
        longest = max(longest, min(self.limit, -(-longest // self.multiple) * self.multiple))
        ids = np.full((len(samples), longest), self.pad_token_id, np.int64)
        mask, labels = np.zeros_like(ids), np.full_like(ids, IGNORE_INDEX)
        for row, sample in enumerate(samples):
            length = len(sample["input_ids"])
            ids[row, :length], mask[row, :length], labels[row, :length] = sample["input_ids"], 1, sample["labels"]
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        for name in [name for name in samples[0] if name not in batch]:
            batch[name] = np.zeros((len(samples), longest), samples[0][name].dtype)
            for row, sample in enumerate(samples):
                batch[name][row, : len(sample[name])] = sample[name]
        return {name: torch.from_numpy(array) for name, array in batch.items()}


def next_labels(labels: Tensor) -> Tensor:
    """The label of the token after each position, [B, T]; the last position has none."""
    return pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)


def with_target_rows(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """`batch` with what depends on its labels alone, computed where they are.

    On the host, before the batch is sent: to find positions on a GPU would be to wait for it.
    """
    labels = next_labels(batch["labels"]).flatten()
    rows = (labels != IGNORE_INDEX).nonzero().squeeze(1)
    return {**batch, TARGET_ROWS: rows, LARGEST_TARGET: labels.amax()}


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """`batch` on its way to `device`, without waiting; what has no dimension stays on the host."""
    if device.type == "cuda":
        batch = {name: value if value.is_pinned() else value.pin_memory() for name, value in batch.items()}
    return {name: value.to(device, non_blocking=True) if value.ndim else value for name, value in batch.items()}
