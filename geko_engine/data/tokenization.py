"""Rendered rows to token ids and labels. Knows tokenizers, and no model and no file.

The whole text of a sample is tokenised at once, and the learnt tokens are found by their characters. A sample begins with
what the tokenizer begins a text with (BOS), once. Rows that no chat template renders end with the end of sequence, which
is learned, once; a chat template brings its own end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.data.batches import TokenizedData
from geko_engine.data.formats import EMPTY, Format, Rendering, Row, Segment
from geko_engine.data.processes import in_order, process_count
from geko_engine.data.rendering import Rendered, RenderedRows
from geko_engine.exceptions import DataError, Stopped

TOKENISE_ROWS = 1000  # rows of a batch; the stop flag is read between two
CUT_ANSWERS = "with answers that are not learned, because they lie beyond the cut"


@dataclass
class _Encoded:
    """One sample: its place, its ids and which of them are learned, both [length]."""

    row: int
    part: int
    ids: NDArray[Any]
    learnt: NDArray[Any]


@dataclass
class _Collected:
    """What has been found so far; row numbers from 0."""

    limit: int
    keep_end: bool
    begins: int  # tokens that the tokenizer begins every text with
    kept: list[_Encoded] = field(default_factory=list)
    truncated: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    masked: list[int] = field(default_factory=list)
    unusable: dict[int, str] = field(default_factory=dict)
    notes: dict[str, list[int]] = field(default_factory=dict)
    remarks: dict[str, list[int]] = field(default_factory=dict)

    def add(self, sample: _Encoded) -> None:
        if not sample.learnt[1:].any():
            self.empty.append(sample.row)
            return
        left = self._cut(sample)
        if not left.learnt[1:].any():
            self.masked.append(sample.row)
            return
        if len(left.ids) < len(sample.ids):
            self.truncated.append(sample.row)
            if _answers(left.learnt) < _answers(sample.learnt):
                _add(self.notes, [CUT_ANSWERS], sample.row)
        self.kept.append(left)

    def _cut(self, sample: _Encoded) -> _Encoded:
        if len(sample.ids) <= self.limit:
            return sample
        kept = np.arange(self.limit)
        if self.keep_end:  # the beginning of the text is cut, but not the token that every text begins with
            kept[self.begins :] = np.arange(len(sample.ids) - self.limit + self.begins, len(sample.ids))
        return _Encoded(sample.row, sample.part, sample.ids[kept], sample.learnt[kept])


def _add(rows: dict[str, list[int]], sentences: Sequence[str], row: int) -> None:
    for sentence in sentences:
        rows.setdefault(sentence, []).append(row)


def _answers(learnt: NDArray[Any]) -> int:
    """How many runs of learnt tokens there are."""
    return int(learnt[0]) + int((learnt[1:] & ~learnt[:-1]).sum())


def tokenise(
    rows: Sequence[Row | None], format: Format, tokenizer: Any, max_length: int, **options: Any
) -> TokenizedData:
    """Render `rows` by `format` and tokenise them; `options` and errors are those of `tokenise_rendered`."""
    return tokenise_rendered(RenderedRows(rows, format, tokenizer), max_length, **options)


def tokenise_rendered(
    rendered: RenderedRows,
    max_length: int,
    *,
    keep_end: bool = False,
    first: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> TokenizedData:
    """All rows as token ids, cut at `max_length` tokens; samples without a target are left out and listed.

    Args:
        rendered: the rows; those that are left out of them are not listed.
        max_length: tokens.
        keep_end: cut longer samples at their beginning instead of their end.
        first: only so many rows from the beginning.
        should_stop: asked every TOKENISE_ROWS rows.
        on_progress: called with the rows done and the rows to do.

    Raises:
        Stopped: when should_stop says so.
        DataError: when no row is left.
    """
    total = len(rendered) if first is None else min(first, len(rendered))
    found = _Collected(max_length, keep_end, len(begin_ids(rendered.tokenizer)))
    batches = [range(begin, min(begin + TOKENISE_ROWS, total)) for begin in range(0, total, TOKENISE_ROWS)]
    with contextlib.closing(in_order(partial(_work, rendered), batches, process_count(len(batches)))) as results:
        if should_stop():
            raise Stopped
        for rows, (known, encoded) in zip(batches, results, strict=True):
            rendered.keep(known)
            _collect(known, encoded, found)
            on_progress(rows.stop, total)
            if should_stop():
                raise Stopped
    if not found.kept:
        raise _nothing_to_learn(rendered, total, max_length, found)
    return _flat(found)


def _work(rendered: RenderedRows, rows: range) -> tuple[dict[int, Rendered], list[_Encoded]]:
    """One batch of rows, rendered and tokenised."""
    known = rendered.known(rows)
    samples = [
        (n, i, sample) for n, parts in known.items() if not isinstance(parts, str) for i, sample in enumerate(parts)
    ]
    return known, list(_encode_batch(samples, rendered.format, rendered.tokenizer))


def _collect(known: dict[int, Rendered], encoded: list[_Encoded], found: _Collected) -> None:
    for number, parts in known.items():
        if isinstance(parts, str):
            found.unusable[number] = parts
        elif parts:
            _add(found.notes, parts[0].notes, number)
            _add(found.remarks, parts[0].remarks, number)
    for sample in encoded:
        found.add(sample)


def _flat(found: _Collected) -> TokenizedData:
    kept = found.kept
    offsets = np.concatenate([[0], np.cumsum([len(sample.ids) for sample in kept])]).astype(np.int64)
    tokens = np.concatenate([sample.ids for sample in kept])
    digests = np.array([_digest(tokens[a:b]) for a, b in pairwise(offsets)], np.uint64)
    rows = np.array([sample.row for sample in kept], np.int32)
    first = np.unique(digests, return_index=True)[1]
    return TokenizedData(
        tokens,
        np.concatenate([sample.learnt for sample in kept]),
        offsets,
        rows,
        np.array([sample.part for sample in kept], np.int32),
        digests,
        truncated=list(dict.fromkeys(found.truncated)),
        empty=list(dict.fromkeys(found.empty)),
        masked=list(dict.fromkeys(found.masked)),
        duplicates=list(dict.fromkeys(np.delete(rows, first).tolist())),
        unusable=found.unusable,
        notes={sentence: list(dict.fromkeys(numbers)) for sentence, numbers in found.notes.items()},
        remarks=found.remarks,
    )


def _digest(tokens: NDArray[Any]) -> int:
    return int.from_bytes(blake2b(tokens.tobytes(), digest_size=8).digest(), "little")


def _nothing_to_learn(rendered: RenderedRows, total: int, max_length: int, found: _Collected) -> DataError:
    """The error at the field where the way out is."""
    what = "first rows" if total < len(rendered) else "rows"
    count = sum(row is not None for row in rendered.rows[:total])
    nothing = f"None of the {count:,} {what} has anything to learn"
    unusable = f"None of the {count:,} {what} can be used"
    if count == 1:
        nothing, unusable = "The only row has nothing to learn", "The only row cannot be used"
    if found.masked:
        masked = len(found.masked)
        return DataError(
            f"{nothing}: {masked:,} {'has its' if masked == 1 else 'have their'} completion beyond max_length = "
            f"{max_length} tokens. Raise it.",
            "data.max_length",
        )
    column = rendered.format.answer_column
    if found.unusable and not (column and all(EMPTY in reason for reason in found.unusable.values())):
        row, reason = next(iter(found.unusable.items()))
        return DataError(f"{unusable}. {rendered.names.one(row)}: {reason}.", "data.train")
    if column:
        message = f"{nothing}: every completion is empty. Name another column than {column!r}."
        return DataError(message, "data.completion_column")
    return DataError(f"{nothing}: every text is empty.", "data.train")


def encode(pieces: list[Segment], format: Format, tokenizer: Any) -> tuple[list[int], list[bool]]:
    """One rendered row as its ids and which of them are learned, as `tokenise` has them before the cut."""
    (sample,) = _encode_batch([(0, 0, Rendering(pieces))], format, tokenizer)
    return sample.ids.tolist(), sample.learnt.tolist()


def begin_ids(tokenizer: Any) -> list[int]:
    """The ids that the tokenizer begins every text with: BOS, or none."""
    with_special = tokenizer("a", verbose=False)["input_ids"]
    plain = tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"]
    for begin in range(len(with_special) - len(plain) + 1):
        if with_special[begin : begin + len(plain)] == plain:
            return list(with_special[:begin])
    return []


def _encode_batch(samples: list[tuple[int, int, Rendering]], format: Format, tokenizer: Any) -> Iterator[_Encoded]:
    """Many samples in one call of the tokenizer, which works on them in parallel."""
    if not samples:
        return
    begin, end = begin_ids(tokenizer), tokenizer.eos_token_id
    appended = not format.uses_chat_template and end is not None
    texts = [sample.text for _, _, sample in samples]
    for (row, part, _), (ids, flags) in zip(samples, _flagged(texts, samples, tokenizer), strict=True):
        if begin and ids[: len(begin)].tolist() != begin:
            ids, flags = np.concatenate([begin, ids]), np.concatenate([np.zeros(len(begin), bool), flags])
        if appended:
            length = len(ids)
            while length and ids[length - 1] == end:
                length -= 1
            learnt = bool(flags.any())  # nothing is learned from an empty completion
            ids, flags = np.append(ids[:length], end), np.append(flags[:length], learnt)
        yield _Encoded(row, part, ids.astype(np.int32), flags)


def _flagged(
    texts: list[str], samples: list[tuple[int, int, Rendering]], tokenizer: Any
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """(ids, whether each is learned) of each text without special tokens that are not written in it."""
    if not getattr(tokenizer, "is_fast", False):
        yield from (_flagged_in_pieces(sample.segments, tokenizer) for _, _, sample in samples)
        return
    found = tokenizer(
        texts,
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    for (_, _, sample), ids, offsets in zip(samples, found["input_ids"], found["offset_mapping"], strict=True):
        places = np.array(offsets, np.int64).reshape(-1, 2)
        flags = np.zeros(len(ids), bool)
        for begin, end in sample.spans:
            flags |= (places[:, 0] < end) & (places[:, 1] > begin) & (places[:, 0] < places[:, 1])
        yield np.array(ids, np.int64), flags


def _flagged_in_pieces(segments: list[Segment], tokenizer: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """For tokenizers that do not say which characters a token is made of: each piece is tokenised by itself."""
    ids: list[int] = []
    flags: list[bool] = []
    for text, learnt in segments:
        piece = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        ids += piece
        flags += [learnt] * len(piece)
    return np.array(ids, np.int64), np.array(flags, bool)
