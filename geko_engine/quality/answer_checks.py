"""Answers that look broken by themselves: placeholders, cut-off ones, refusals, unusual lengths. Pure; NumPy only.

Refusals are recognized in English only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PLACEHOLDERS = {
    "",
    "-",
    "--",
    "...",
    "…",
    "n/a",
    "na",
    "nan",
    "none",
    "null",
    "todo",
    "tbd",
    "?",
    "[]",
    "{}",
    "undefined",
}
REFUSAL = re.compile(
    r"\bas an ai\b|\bas a (?:large )?language model\b"
    r"|^\W*(?:i['\u2019]m |i am )?(?:very )?sorry,? (?:but )?(?:i|as an)\b.{0,40}\b(?:can(?:no|['\u2019])t|unable|not able)\b"
    r"|^\W*i (?:can(?:no|['\u2019])t|am unable to|am not able to|won['\u2019]t) (?:help|assist|provide|fulfil|comply|answer|do that)",
    re.IGNORECASE,
)
REFUSAL_WITHIN = 200  # characters from the beginning
LONG = 80  # characters: shorter answers need no sentence
ENDED = re.compile(r"[.!?…:;。\uff01\uff1f\"'”\u2019)\]}>*`|_~=+\-]\s*$|\d\s*$|</\w+>\s*$|https?://\S+\s*$")
USUALLY_ENDED = 0.9  # share of the long answers that must end so before another one counts as cut off
FEWEST_OF_LABEL = 4  # rows with an answer that is a label
LABELLED = 0.5  # share of the rows whose answer must be a label
FEWEST = 50  # answers: with fewer, no length is unusual
UNUSUAL = 5.0  # robust standard deviations of the logarithm of the length
MIN_SPREAD = 0.2  # of that logarithm: where all are of nearly one length, a fifth more is not unusual


def placeholders(answers: Sequence[str]) -> NDArray[Any]:
    """Mask [n] of empty answers and of such as "N/A", unless that is a label: "none" may be the name of a class."""
    plain = [answer.strip().lower() for answer in answers]
    labels = _repeated_labels(plain)
    return np.array([answer in PLACEHOLDERS and answer not in labels for answer in plain], bool)


def _repeated_labels(answers: Sequence[str]) -> set[str]:
    """The answers that come again and again, where most of those that are no placeholder do; empty ones are none."""
    counts = Counter(answers)
    repeated = {answer for answer, count in counts.items() if answer and count >= FEWEST_OF_LABEL}
    others = {answer: count for answer, count in counts.items() if answer not in PLACEHOLDERS}
    labelled = sum(count for answer, count in others.items() if answer in repeated)
    return repeated if labelled > LABELLED * sum(others.values()) else set()


def cut_off(answers: Sequence[str]) -> NDArray[Any]:
    """Mask [n] of long answers that end in the middle of a sentence or of a code block, where others do not."""
    long = np.array([len(answer.strip()) >= LONG for answer in answers], bool)
    open_block = np.array([answer.count("```") % 2 == 1 for answer in answers], bool)
    ended = np.array([bool(ENDED.search(answer[-200:])) for answer in answers], bool)
    usual = long.any() and ended[long].mean() >= USUALLY_ENDED
    return np.asarray(long & (open_block | (~ended if usual else False)))


def refusals(answers: Sequence[str]) -> NDArray[Any]:
    """Mask [n] of answers that decline to answer."""
    return np.array([bool(REFUSAL.search(answer[:REFUSAL_WITHIN])) for answer in answers], bool)


def unusual_lengths(texts: Sequence[str]) -> NDArray[Any]:
    """How many robust standard deviations the length of each text is from the median, [n]; 0 unless it is unusual."""
    lengths = np.log1p(np.array([len(text.strip()) for text in texts], np.float64))
    if len(lengths) < FEWEST:
        return np.zeros(len(lengths))
    away = lengths - np.median(lengths)
    deviations = away / max(1.4826 * float(np.median(np.abs(away))), MIN_SPREAD)
    return np.where(np.abs(deviations) > UNUSUAL, deviations, 0.0)
