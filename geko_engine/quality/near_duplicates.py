"""Texts that are nearly the same: MinHash signatures of their letters, grouped by locality-sensitive hashing. NumPy only.

Two texts are near-duplicates when their sets of five successive letters overlap by at least SIMILAR (Jaccard) and they name
the same numbers: "What is 12 + 7?" is no duplicate of "What is 12 + 8?". Candidates come from the hashing; each is then
compared exactly. Almost all pairs are found (99.9 % at a similarity of 0.8), not all.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIMILAR = 0.8
SHINGLE = 5  # letters
BANDS, ROWS = 16, 4  # of a signature: 64 hash functions
TEXT_LIMIT = 4000  # characters that are compared
AT_A_TIME = 2000  # texts whose shingles are in memory
PAUSES, NUMBERS = re.compile(r"""[\s.,;:!?"'()]+"""), re.compile(r"\d+")  # signs such as + and < are words
BASE, PRIME = np.uint64(1_000_003), np.uint64((1 << 61) - 1)


def first_near(texts: Sequence[str]) -> NDArray[Any]:
    """Of each text the first earlier one that is nearly the same, [n]; -1 where there is none. Equal texts count too."""
    plain = [normalized(text) for text in texts]
    signatures = np.concatenate(
        [_signatures(plain[first : first + AT_A_TIME]) for first in range(0, len(plain), AT_A_TIME)]
        or [np.zeros((0, BANDS * ROWS), np.uint32)]
    )
    found = np.full(len(plain), -1, np.int64)
    for band in range(BANDS):
        part = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        keys = part.view(np.dtype((np.void, part.itemsize * ROWS))).ravel()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        candidates = np.flatnonzero(first[inverse] < np.arange(len(plain)))
        others = first[inverse][candidates]
        order = np.argsort(others, kind="stable")  # bucket by bucket: the shingles of its first text are kept
        for row, other in zip(candidates[order].tolist(), others[order].tolist(), strict=True):
            if (found[row] < 0 or other < found[row]) and nearly_equal(plain[row], plain[other]):
                found[row] = other
    return found


def normalized(text: str) -> str:
    """Lower-case words and signs with one space between them, and at most TEXT_LIMIT characters."""
    return PAUSES.sub(" ", text[:TEXT_LIMIT].lower()).strip()


def nearly_equal(one: str, other: str) -> bool:
    """Whether two normalized texts are near-duplicates."""
    if one == other:
        return bool(one)
    if NUMBERS.findall(one) != NUMBERS.findall(other):
        return False
    mine, theirs = _shingles(one), _shingles_of_first(other)
    return len(mine & theirs) >= SIMILAR * len(mine | theirs) > 0


def _shingles(text: str) -> set[str]:
    return {text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))}


@functools.lru_cache(maxsize=1)
def _shingles_of_first(text: str) -> set[str]:
    return _shingles(text)


def _signatures(texts: Sequence[str]) -> NDArray[Any]:
    """MinHash signatures [n, BANDS * ROWS], uint32."""
    padded = [text.ljust(SHINGLE) for text in texts]
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in padded])
    starts = np.cumsum(lengths) - lengths
    with np.errstate(over="ignore"):
        hashes = np.zeros(len(letters) - SHINGLE + 1, np.uint64)
        for shift in range(SHINGLE):
            hashes = hashes * BASE + letters[shift : shift + len(hashes)]
        # A shingle that reaches into the next text is one more of this text's, but of no other's.
        inside = np.ones(len(letters), bool)
        for back in range(1, SHINGLE):
            inside[starts + lengths - back] = False
        kept = hashes[inside[: len(hashes)]]
        begins = starts - (SHINGLE - 1) * np.arange(len(starts))
        numbers = np.random.default_rng(0)
        signature = np.empty((len(texts), BANDS * ROWS), np.uint32)
        for i in range(BANDS * ROWS):
            factor, add = numbers.integers(1, 1 << 62, 2, np.uint64)
            mixed = (kept * (factor | np.uint64(1)) + add) >> np.uint64(32)
            signature[:, i] = np.minimum.reduceat(mixed, begins)
    return signature
