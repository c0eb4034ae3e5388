"""Whether a generated answer is right, by three measures. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Judged:
    """What the measures say of one answer; all are None where there is no reference.

    Attributes:
        exact: it is the reference, apart from spaces at both ends.
        contains: the reference stands in it, whatever the case of the letters.
        numeric: its last number is that of the reference; None where the reference has no number.
    """

    exact: bool | None = None
    contains: bool | None = None
    numeric: bool | None = None


def judge(answer: str, reference: str) -> Judged:
    """Compare an answer with its reference; numbers may have commas between their digits."""
    answer, reference = answer.strip(), reference.strip()
    if not reference:
        return Judged()
    wanted = last_number(reference)
    numeric = None if wanted is None else last_number(answer) == wanted
    return Judged(answer == reference, reference.casefold() in answer.casefold(), numeric)


def last_number(text: str) -> float | None:
    """The last number in `text`, None where there is none."""
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
