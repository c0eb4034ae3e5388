"""Rendered rows to token ids and labels. Knows tokenizers, and no model and no file.

The pieces of a rendered row are tokenised apart, as a prompt is at inference, and joined. Rows that no chat template
renders end with the end of sequence, which is learnt; a chat template brings its own end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.data.batches import TokenizedData
from geko_engine.data.formats import Format, Row, Segment, UnusableRow
from geko_engine.data.rendering import RenderedRows
from geko_engine.exceptions import DataError, Stopped

TOKENISE_ROWS = 1000  # rows of a batch; the stop flag is read between two


@dataclass
class _Encoded:
    """One row: its ids and which of them are learnt, both [length]."""

    row: int
    ids: list[int]
    learnt: list[bool]


def tokenise(
    rows: Sequence[Row | None], format: Format, tokenizer: Any, max_length: int, **options: Any
) -> TokenizedData:
    """Render `rows` by `format` and tokenise them; `options` and errors are those of `tokenise_rendered`."""
    return tokenise_rendered(RenderedRows(rows, format, tokenizer), max_length, **options)


def tokenise_rendered(
    rendered: RenderedRows,
    max_length: int,
    *,
    first: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> TokenizedData:
    """All rows as token ids, cut at `max_length` tokens; rows without a target are left out and listed.

    Args:
        rendered: the rows; those that are left out of them are not listed.
        max_length: tokens.
        first: only so many rows from the beginning.
        should_stop: asked every TOKENISE_ROWS rows.
        on_progress: called with the rows done and the rows to do.

    Raises:
        Stopped: when should_stop says so.
        DataError: when no row is left.
    """
    total = len(rendered) if first is None else min(first, len(rendered))
    unusable: dict[int, str] = {}
    truncated: list[int] = []
    empty: list[int] = []
    masked: list[int] = []
    kept: list[_Encoded] = []
    for sample in _encoded(rendered, total, unusable, should_stop, on_progress):
        if not any(sample.learnt[1:]):
            empty.append(sample.row)
        elif not any(sample.learnt[1:max_length]):
            masked.append(sample.row)
        else:
            if len(sample.ids) > max_length:
                truncated.append(sample.row)
            kept.append(_Encoded(sample.row, sample.ids[:max_length], sample.learnt[:max_length]))
    if not kept:
        raise _nothing_to_learn(rendered, total, max_length, len(masked), unusable)
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
    rendered: RenderedRows, total: int, max_length: int, masked: int, unusable: dict[int, str]
) -> DataError:
    """The error at the field where the way out is."""
    what = "first rows" if total < len(rendered) else "rows"
    count = sum(row is not None for row in rendered.rows[:total])
    asked = f"None of the {count:,} {what}"
    if masked:
        return DataError(
            f"{asked} has anything to learn: {masked:,} have their completion beyond max_length = "
            f"{max_length} tokens. Raise it.",
            "data.max_length",
        )
    if unusable:
        row, reason = next(iter(unusable.items()))
        return DataError(f"{asked} can be used. Row {row + 1}: {reason}.", "data.train")
    column = rendered.format.answer_column
    if column:
        message = f"{asked} has anything to learn: every completion is empty. Name another column than {column!r}."
        return DataError(message, "data.completion_column")
    return DataError(f"{asked} has anything to learn: every text is empty.", "data.train")


def _encoded(
    rendered: RenderedRows,
    total: int,
    unusable: dict[int, str],
    should_stop: Callable[[], bool],
    on_progress: Callable[[int, int], None],
) -> Iterator[_Encoded]:
    """Yield every row that can be rendered; the others go to `unusable` with their reason."""
    for begin in range(0, total, TOKENISE_ROWS):
        if should_stop():
            raise Stopped
        end = min(begin + TOKENISE_ROWS, total)
        batch: list[tuple[int, list[Segment]]] = []
        for number in range(begin, end):
            try:
                found = rendered[number]
            except UnusableRow as reason:
                unusable[number] = str(reason)
            else:
                batch += [(number, found.segments)] if found else []
        yield from _encode_batch(batch, rendered.format, rendered.tokenizer)
        on_progress(end, total)


def encode(pieces: list[Segment], format: Format, tokenizer: Any) -> tuple[list[int], list[bool]]:
    """One rendered row as its ids and which of them are learnt, as `tokenise` has them before the cut."""
    sample = next(_encode_batch([(0, pieces)], format, tokenizer))
    return sample.ids, sample.learnt


def _encode_batch(rendered: list[tuple[int, list[Segment]]], format: Format, tokenizer: Any) -> Iterator[_Encoded]:
    """All segments of many rows in two calls of the tokenizer, which works on them in parallel."""
    special = not format.uses_chat_template  # a chat template writes its special tokens itself
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
