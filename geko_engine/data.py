"""Rows -> rendered text -> token ids and labels; batches. Knows tokenizers and files, and no model.

Layout of a prompt/completion sample: tok(prompt + newline) + tok(completion) + end of sequence, the two parts
tokenised apart, labels on the completion only. Plain text: tok(text) + end of sequence, all of it labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geko_engine.config import DataConfig
from geko_engine.exceptions import DataError
from geko_engine.scoring import IGNORED

Row = dict[str, Any]
NO_LIMIT = 1_000_000_000
TOKENISE_ROWS = 1000  # rows between two looks at the stop flag
COLUMN_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("problem", "solution"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("input", "output"),
)
TEXT_COLUMNS = ("text", "content")


class Stopped(Exception):
    """The user asked for a stop inside a long piece of work; not an error."""


@dataclass(frozen=True)
class Columns:
    """Which columns are read: a prompt and a completion, or one text."""

    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    context: str | None = None  # extra input below an instruction


@dataclass
class TokenizedData:
    """All samples as flat arrays; sample i is tokens[offsets[i]:offsets[i+1]], its targets begin at target_starts[i].

    Attributes:
        tokens: int32 [total]. offsets: int64 [count + 1]. target_starts: int32 [count], relative.
        rows: int32 [count], row number in the source (from 0), since unusable rows are left out.
        truncated, empty: row numbers that were cut, or left out because nothing in them can be trained on.
    """

    tokens: NDArray
    offsets: NDArray
    target_starts: NDArray
    rows: NDArray
    truncated: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, NDArray]:
        ids = self.tokens[self.offsets[index] : self.offsets[index + 1]]
        labels = ids.astype(np.int64)
        labels[: self.target_starts[index]] = IGNORED
        return {"input_ids": ids, "labels": labels}

    @cached_property
    def lengths(self) -> NDArray:
        """Real tokens of each sample, [count]."""
        return np.diff(self.offsets)

    @cached_property
    def targets(self) -> NDArray:
        """Target tokens of each sample, [count]; a sample's first token is never one."""
        return self.lengths - np.maximum(self.target_starts, 1)


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


def recognise_columns(rows: Sequence[Row], config: DataConfig) -> Columns:
    """Which columns to read, from the configuration or by their usual names.

    Raises:
        DataError: naming the columns that there are.
    """
    present = list(dict.fromkeys(key for row in rows[:100] for key in row))
    chosen = Columns(config.prompt_column, config.completion_column, config.text_column)
    for name in ("prompt", "completion", "text"):
        column = getattr(chosen, name)
        if column and column not in present:
            raise DataError(f"There is no column {column!r}; there are: {', '.join(present)}.", f"data.{name}_column")
    if chosen.text:
        return Columns(text=chosen.text)
    if chosen.prompt and chosen.completion:
        return chosen
    if chosen.prompt or chosen.completion:
        missing = "completion" if chosen.prompt else "prompt"
        raise DataError("Name both the prompt column and the completion column.", f"data.{missing}_column")
    for prompt, completion in COLUMN_PAIRS:
        if prompt in present and completion in present:
            context = "input" if prompt == "instruction" and "input" in present else None
            return Columns(prompt, completion, context=context)
    for text in TEXT_COLUMNS:
        if text in present:
            return Columns(text=text)
    raise DataError(
        f"None of the columns {', '.join(present)} is known. Name the prompt and completion columns, or the text column.",
        "data.prompt_column",
    )


def render(row: Row, columns: Columns) -> tuple[str, str]:
    """(what is shown, what is learnt) of one row; missing values are empty."""

    def value(column: str | None) -> str:
        found = row.get(column) if column else None
        return "" if found is None else str(found)

    if columns.text:
        return "", value(columns.text)
    context = value(columns.context)
    prompt = value(columns.prompt) + (f"\n{context}" if context else "")
    return prompt + "\n", value(columns.completion)


def tokenise(
    rows: Sequence[Row],
    columns: Columns,
    tokenizer: Any,
    max_length: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> TokenizedData:
    """All rows as token ids, cut at `max_length` tokens; rows without a target are left out and listed.

    Raises:
        Stopped: when should_stop says so.
        DataError: when no row is left.
    """
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    pieces: list[NDArray] = []
    starts: list[int] = []
    kept: list[int] = []
    truncated: list[int] = []
    empty: list[int] = []
    for row, prompt, completion in _encoded(rows, columns, tokenizer, should_stop, on_progress):
        ids = prompt + completion + end
        start = len(prompt)
        cut = ids[:max_length]
        if not completion or len(cut) - max(start, 1) < 1:
            empty.append(row)
            continue
        if len(cut) < len(ids):
            truncated.append(row)
        pieces.append(np.array(cut, np.int32))
        starts.append(start)
        kept.append(row)
    if not pieces:
        raise DataError(
            f"None of the {len(rows)} rows has anything to learn: every completion is empty or lies beyond "
            f"max_length = {max_length} tokens.",
            "data.max_length" if truncated or any(rows) else "data.train",
        )
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
    return TokenizedData(
        np.concatenate(pieces), offsets, np.array(starts, np.int32), np.array(kept, np.int32), truncated, empty
    )


def _encoded(
    rows: Sequence[Row],
    columns: Columns,
    tokenizer: Any,
    should_stop: Callable[[], bool],
    on_progress: Callable[[int, int], None],
) -> Iterator[tuple[int, list[int], list[int]]]:
    """Yield (row number, prompt ids, completion ids)."""
    for first in range(0, len(rows), TOKENISE_ROWS):
        if should_stop():
            raise Stopped
        pairs = [render(row, columns) for row in rows[first : first + TOKENISE_ROWS]]
        prompts = tokenizer([prompt for prompt, _ in pairs], add_special_tokens=bool(columns.prompt))["input_ids"]
        completions = tokenizer([text for _, text in pairs], add_special_tokens=bool(columns.text))["input_ids"]
        for index, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            yield first + index, _without_end(prompt, tokenizer), _without_end(completion, tokenizer)
        on_progress(min(first + TOKENISE_ROWS, len(rows)), len(rows))


def _without_end(ids: list[int], tokenizer: Any) -> list[int]:
    """Some tokenizers append the end of sequence by themselves; it belongs behind the completion, once."""
    while ids and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    return ids
