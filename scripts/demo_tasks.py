"""Short tasks of graded difficulty in plain sentences, generated from a seed. Knows no model and no tokenizer.

A kind is a function of a random generator that gives (prompt, completion). The kinds come in three groups: `known`
(the demo model is pre-trained on them), `new` (hardly or never met, quickly learnt) and `hard` (slowly learnt).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from typing import Any

Row = dict[str, Any]
Kind = Callable[[random.Random], tuple[str, str]]
LETTERS = "bcdefghjkl"  # no "a": it would be read as the article
NAMES = ("Ann", "Ben", "Eva", "Tom", "Mia", "Leo")
THINGS = ("pens", "cups", "eggs", "figs", "books", "coins")
DEFAULT_MIX = {"known": 0.5, "new": 0.3, "hard": 0.2}


def letters(rng: random.Random, low: int, high: int, alphabet: str = LETTERS) -> str:
    """Between `low` and `high` letters."""
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(low, high)))


def spaced(word: str) -> str:
    """Letters apart, so that each is a token of its own."""
    return " ".join(word)


def repeat(rng: random.Random) -> tuple[str, str]:
    word = letters(rng, 3, 6)
    return f"Repeat the letters {spaced(word)}.", spaced(word)


def backwards(rng: random.Random) -> tuple[str, str]:
    word = letters(rng, 3, 4)
    return f"Say the letters {spaced(word)} backwards.", spaced(word[::-1])


def last_letter(rng: random.Random) -> tuple[str, str]:
    word = letters(rng, 3, 6)
    return f"Which is the last of the letters {spaced(word)}?", word[-1]


def count_letter(rng: random.Random) -> tuple[str, str]:
    word, letter = letters(rng, 3, 5, "bcd"), rng.choice("bcd")
    return f"How often is {letter} among the letters {spaced(word)}?", str(word.count(letter))


def larger(rng: random.Random) -> tuple[str, str]:
    a, b = rng.sample(range(10, 100), 2)
    return f"Which number is larger, {a} or {b}?", str(max(a, b))


def add_small(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    return f"How much is {a} plus {b}?", str(a + b)


def add_two_digits(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(10, 99), rng.randint(1, 9)
    return f"How much is {a} plus {b}?", str(a + b)


def story_one_step(rng: random.Random) -> tuple[str, str]:
    a, b, thing = rng.randint(1, 9), rng.randint(1, 9), rng.choice(THINGS)
    return f"{rng.choice(NAMES)} has {a} {thing} and gets {b} more. How many {thing}?", str(a + b)


def next_letters(rng: random.Random) -> tuple[str, str]:
    word = letters(rng, 2, 4, "bcdefghijk")
    return f"Name the letter after each of {spaced(word)}.", spaced("".join(chr(ord(c) + 1) for c in word))


def smaller(rng: random.Random) -> tuple[str, str]:
    a, b = rng.sample(range(10, 100), 2)
    return f"Which number is smaller, {a} or {b}?", str(min(a, b))


def twice(rng: random.Random) -> tuple[str, str]:
    word = letters(rng, 2, 4)
    return f"Write each of the letters {spaced(word)} twice.", spaced("".join(c + c for c in word))


def without_first(rng: random.Random) -> tuple[str, str]:
    word = letters(rng, 3, 5)
    return f"Leave out the first of the letters {spaced(word)}.", spaced(word[1:])


def in_order(rng: random.Random) -> tuple[str, str]:
    word = letters(rng, 6, 7)
    return f"Put the letters {spaced(word)} in order.", spaced("".join(sorted(word)))


def subtract(rng: random.Random) -> tuple[str, str]:
    b, a = sorted(rng.sample(range(10, 100), 2))
    return f"How much is {a} minus {b}?", str(a - b)


def story_two_steps(rng: random.Random) -> tuple[str, str]:
    a, b, thing = rng.randint(2, 9), rng.randint(1, 9), rng.choice(THINGS)
    c = rng.randint(1, a + b - 1)
    return (f"{rng.choice(NAMES)} has {a} {thing}, gets {b} more and loses {c}. How many {thing}?", str(a + b - c))


def add_four_digits(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(100, 9999), rng.randint(100, 9999)
    return f"How much is {a} plus {b}?", str(a + b)


GROUPS: dict[str, tuple[Kind, ...]] = {
    "known": (repeat, backwards, last_letter, count_letter, larger, add_small, add_two_digits, story_one_step),
    "new": (next_letters, smaller, twice, without_first),
    "hard": (in_order, subtract, story_two_steps, add_four_digits),
}
SMALL_KINDS = {"add_small", "count_letter", "story_one_step"}  # too few different prompts to keep sets apart


def make_rows(
    count: int,
    seed: int,
    *,
    mix: Mapping[str, float] = DEFAULT_MIX,
    wrong_ratio: float = 0.0,
    avoid: Collection[str] = (),
) -> list[Row]:
    """`count` rows {"prompt", "completion", "kind", "group", "wrong"} in random order.

    Args:
        mix: share of each group; the kinds of a group get equal shares.
        wrong_ratio: share of rows that get another row's completion of the same kind, different from their own.
        avoid: prompts that must not occur (the other set's), except in kinds with few different prompts.
    """
    rng = random.Random(seed)
    rows: list[Row] = []
    for group, share in mix.items():
        kinds = GROUPS[group]
        for index in range(round(count * share)):
            kind = kinds[index % len(kinds)]
            prompt, completion = _fresh(kind, rng, avoid)
            rows.append(
                {"prompt": prompt, "completion": completion, "kind": kind.__name__, "group": group, "wrong": False}
            )
    rng.shuffle(rows)
    return _with_wrong_answers(rows, wrong_ratio, rng)


def _fresh(kind: Kind, rng: random.Random, avoid: Collection[str]) -> tuple[str, str]:
    while True:
        prompt, completion = kind(rng)
        if prompt not in avoid or kind.__name__ in SMALL_KINDS:
            return prompt, completion


def _with_wrong_answers(rows: list[Row], ratio: float, rng: random.Random) -> list[Row]:
    answers: dict[str, list[str]] = {}
    for row in rows:
        answers.setdefault(row["kind"], []).append(row["completion"])
    for index in rng.sample(range(len(rows)), round(ratio * len(rows))):
        row = rows[index]
        others = [answer for answer in answers[row["kind"]] if answer != row["completion"]]
        rows[index] = {**row, "completion": rng.choice(others), "wrong": True}
    return rows
