"""Rows -> token ids and labels; batches. Knows tokenizers, and no model and no file.

The pieces of a rendered row (shapes.py) are tokenised apart, as a prompt is at inference, and joined. Prompt and text
layouts end with the end of sequence, which is learnt; a chat template brings its own end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geko_engine.exceptions import DataError, Stopped
from geko_engine.scoring import IGNORED
from geko_engine.shapes import Columns, Row, Segment, UnusableRow, segments

NO_LIMIT = 1_000_000_000
TOKENISE_ROWS = 1000  # rows between two looks at the stop flag


@dataclass
class TokenizedData:
    """All samples as flat arrays; sample i is tokens[offsets[i]:offsets[i+1]].

    Attributes:
        tokens: int32 [total]. learnt: bool [total], whether a token is a target. offsets: int64 [count + 1].
        rows: int32 [count], row number in the source (from 0), since unusable rows are left out.
        digests: uint64 [count], equal for samples with equal tokens.
        truncated: row numbers that were cut. empty: left out, nothing to learn in them. masked: left out, all of
            their targets lie beyond the cut. duplicates: kept, but equal to an earlier row.
        unusable: row number -> why it could not be rendered.
    """

    tokens: NDArray
    learnt: NDArray
    offsets: NDArray
    rows: NDArray
    digests: NDArray
    truncated: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    masked: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    unusable: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, NDArray]:
        part = slice(self.offsets[index], self.offsets[index + 1])
        ids = self.tokens[part]
        return {"input_ids": ids, "labels": np.where(self.learnt[part], ids, IGNORED).astype(np.int64)}

    @cached_property
    def lengths(self) -> NDArray:
        """Real tokens of each sample, [count]."""
        return np.diff(self.offsets)

    @cached_property
    def targets(self) -> NDArray:
        """Target tokens of each sample, [count]; a sample's first token is never one."""
        counted = np.add.reduceat(self.learnt, self.offsets[:-1], dtype=np.int64)
        return counted - self.learnt[self.offsets[:-1]]

    def subset(self, ids: NDArray) -> TokenizedData:
        """The samples `ids` [n], without the lists of rows."""
        parts = [slice(self.offsets[i], self.offsets[i + 1]) for i in ids]
        return TokenizedData(
            np.concatenate([self.tokens[part] for part in parts]),
            np.concatenate([self.learnt[part] for part in parts]),
            np.concatenate([[0], np.cumsum(self.lengths[ids])]).astype(np.int64),
            self.rows[ids],
            self.digests[ids],
        )


def hold_out(data: TokenizedData, ratio: float, seed: int) -> tuple[TokenizedData, TokenizedData]:
    """(train, evaluation): a random share of the samples is held out, equal ones always on the same side.

    Raises:
        DataError: when one side would be empty.
    """
    distinct = np.unique(data.digests)
    chosen = np.random.default_rng(seed).permutation(distinct)[: max(1, round(ratio * len(distinct)))]
    held = np.isin(data.digests, chosen)
    if held.all():
        raise DataError(
            f"{len(distinct)} different samples are too few to hold out {ratio:g} of them: give an evaluation set.",
            "data.eval_ratio",
        )
    train = data.subset(np.flatnonzero(~held))
    train.truncated, train.empty, train.masked = data.truncated, data.empty, data.masked
    train.duplicates, train.unusable = data.duplicates, data.unusable
    return train, data.subset(np.flatnonzero(held))


def overlap(train: TokenizedData, evaluation: TokenizedData) -> list[int]:
    """Row numbers of the evaluation set that are in the training set too, token by token."""
    rows: list[int] = evaluation.rows[np.isin(evaluation.digests, train.digests)].tolist()
    return rows


class DatasetView:
    """Any dataset of dicts with `input_ids` as (input_ids, labels) arrays without padding, lengths known.

    Missing labels mean the tokens themselves. Padding (attention_mask 0) is taken out: we pad per batch.

    Raises:
        TypeError: when an item is no dict or has no `input_ids`.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        items = [self[index] for index in range(len(dataset))]
        self.lengths = np.array([len(item["input_ids"]) for item in items], dtype=np.int64)
        self.targets = np.array([int((item["labels"][1:] != IGNORED).sum()) for item in items], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, NDArray]:
        item = self.dataset[int(index)]
        if not hasattr(item, "keys") or "input_ids" not in item:
            found = f"the keys {sorted(item.keys())}" if hasattr(item, "keys") else f"a {type(item).__name__}"
            raise TypeError(f"Item {index} of the dataset must be a dict with 'input_ids', but it has {found}.")
        ids = np.asarray(item["input_ids"]).reshape(-1)
        labels = np.asarray(item["labels"] if item.get("labels") is not None else ids, dtype=np.int64).reshape(-1)
        mask = item.get("attention_mask")
        if mask is not None:
            real = np.asarray(mask).reshape(-1).astype(bool)
            ids, labels = ids[real], labels[real]
        return {"input_ids": ids, "labels": labels}


def as_samples(dataset: Any) -> Any:
    """`dataset` with `lengths` and `targets`, wrapped where it does not have them."""
    return dataset if isinstance(dataset, TokenizedData | DatasetView) else DatasetView(dataset)


@dataclass(frozen=True)
class Collator:
    """Samples -> one batch of tensors [B, longest]: input_ids, attention_mask, labels; padded on the right."""

    pad_token_id: int = 0
    multiple: int = 1  # of the batch's length, so that a compiled model meets few lengths
    limit: int = NO_LIMIT  # the model's own: padding never goes beyond it

    def __call__(self, samples: Sequence[dict[str, NDArray]]) -> dict[str, Tensor]:
        longest = max(len(sample["input_ids"]) for sample in samples)
        longest = max(longest, min(self.limit, -(-longest // self.multiple) * self.multiple))
        ids = np.full((len(samples), longest), self.pad_token_id, np.int64)
        mask, labels = np.zeros_like(ids), np.full_like(ids, IGNORED)
        for row, sample in enumerate(samples):
            length = len(sample["input_ids"])
            ids[row, :length], mask[row, :length], labels[row, :length] = sample["input_ids"], 1, sample["labels"]
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in batch.items()}


@dataclass
class _Encoded:
    """One row: its ids and which of them are learnt, both [length]."""

    row: int
    ids: list[int]
    learnt: list[bool]


def tokenise(
    rows: Sequence[Row | None],
    columns: Columns,
    tokenizer: Any,
    max_length: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    what: str = "rows",
) -> TokenizedData:
    """All rows as token ids, cut at `max_length` tokens; rows without a target are left out and listed.

    Args:
        rows: None for a row that is left out unlisted; the others keep their numbers.
        what: what the rows are called where none is left.

    Raises:
        Stopped: when should_stop says so.
        DataError: when no row is left.
    """
    unusable: dict[int, str] = {}
    truncated: list[int] = []
    empty: list[int] = []
    masked: list[int] = []
    kept: list[_Encoded] = []
    for sample in _encoded(rows, columns, tokenizer, unusable, should_stop, on_progress):
        if not any(sample.learnt[1:]):
            empty.append(sample.row)
        elif not any(sample.learnt[1:max_length]):
            masked.append(sample.row)
        else:
            if len(sample.ids) > max_length:
                truncated.append(sample.row)
            kept.append(_Encoded(sample.row, sample.ids[:max_length], sample.learnt[:max_length]))
    if not kept:
        asked = f"None of the {sum(row is not None for row in rows):,} {what}"
        raise _nothing_to_learn(asked, max_length, len(masked), unusable, columns)
    data = _flat(kept)
    data.truncated, data.empty, data.masked, data.unusable = truncated, empty, masked, unusable
    return data


def _flat(kept: list[_Encoded]) -> TokenizedData:
    offsets = np.concatenate([[0], np.cumsum([len(sample.ids) for sample in kept])]).astype(np.int64)
    tokens = np.fromiter((token for sample in kept for token in sample.ids), np.int32, offsets[-1])
    learnt = np.fromiter((flag for sample in kept for flag in sample.learnt), bool, offsets[-1])
    digests = np.array([_digest(tokens[a:b]) for a, b in pairwise(offsets)], np.uint64)
    rows = np.array([sample.row for sample in kept], np.int32)
    first = np.unique(digests, return_index=True)[1]
    duplicates: list[int] = np.delete(rows, first).tolist()
    return TokenizedData(tokens, learnt, offsets, rows, digests, duplicates=duplicates)


def _digest(tokens: NDArray) -> int:
    return int.from_bytes(blake2b(tokens.tobytes(), digest_size=8).digest(), "little")


def _nothing_to_learn(
    asked: str, max_length: int, masked: int, unusable: dict[int, str], columns: Columns
) -> DataError:
    """The error at the field where the way out is; `asked` is its subject."""
    if masked:
        return DataError(
            f"{asked} has anything to learn: {masked:,} have their completion beyond max_length = "
            f"{max_length} tokens. Raise it.",
            "data.max_length",
        )
    if unusable:
        row, reason = next(iter(unusable.items()))
        return DataError(f"{asked} can be used. Row {row + 1}: {reason}.", "data.train")
    if columns.completion:
        said = f"{asked} has anything to learn: every completion is empty. Name another column than {columns.completion!r}."
        return DataError(said, "data.completion_column")
    return DataError(f"{asked} has anything to learn: every text is empty.", "data.train")


def _encoded(
    rows: Sequence[Row | None],
    columns: Columns,
    tokenizer: Any,
    unusable: dict[int, str],
    should_stop: Callable[[], bool],
    on_progress: Callable[[int, int], None],
) -> Iterator[_Encoded]:
    """Yield every row that can be rendered; the others go to `unusable` with their reason."""
    for first in range(0, len(rows), TOKENISE_ROWS):
        if should_stop():
            raise Stopped
        rendered: list[tuple[int, list[Segment]]] = []
        for number, row in enumerate(rows[first : first + TOKENISE_ROWS], first):
            if row is None:
                continue
            try:
                rendered.append((number, segments(row, columns, tokenizer)))
            except UnusableRow as reason:
                unusable[number] = str(reason)
        yield from _encode_batch(rendered, columns, tokenizer)
        on_progress(min(first + TOKENISE_ROWS, len(rows)), len(rows))


def encode(pieces: list[Segment], columns: Columns, tokenizer: Any) -> tuple[list[int], list[bool]]:
    """One rendered row as its ids and which of them are learnt, as `tokenise` has them before the cut."""
    sample = next(_encode_batch([(0, pieces)], columns, tokenizer))
    return sample.ids, sample.learnt


def _encode_batch(rendered: list[tuple[int, list[Segment]]], columns: Columns, tokenizer: Any) -> Iterator[_Encoded]:
    """All segments of many rows in two calls of the tokenizer, which works on them in parallel."""
    special = not columns.is_chat  # a chat template writes its special tokens itself
    begins = _ids(tokenizer, [pieces[0][0] for _, pieces in rendered], special)
    others = iter(_ids(tokenizer, [text for _, pieces in rendered for text, _ in pieces[1:]], False))
    end = tokenizer.eos_token_id
    for (row, pieces), begin in zip(rendered, begins, strict=True):
        sample = _Encoded(row, [], [])
        for index, (text, learnt) in enumerate(pieces):
            ids = begin if index == 0 else next(others)
            sample.ids += ids
            sample.learnt += [learnt and bool(text)] * len(ids)
        if special and end is not None:
            sample.ids.append(end)
            sample.learnt.append(any(sample.learnt))  # nothing is learnt from an empty completion
        yield sample


def _ids(tokenizer: Any, texts: list[str], special: bool) -> list[list[int]]:
    """Ids of each text without an end of sequence: some tokenizers append it by themselves."""
    if not texts:
        return []
    end = tokenizer.eos_token_id
    found: list[list[int]] = tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"]
    for ids in found if special else ():
        while ids and ids[-1] == end:
            ids.pop()
    return found
