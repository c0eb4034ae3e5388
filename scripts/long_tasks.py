"""Tasks with long answers of varied wording, generated from a seed: worked solutions, explanations, extraction.

No answer here is ever exactly right, because its wording is drawn anew each time; what can be learnt is the result inside
it. Each kind is a function of a random generator that gives a prompt and the answer as pieces of (text, is a result).
Knows no model and no tokenizer. Groups as in demo_tasks: `known` (the base model is pre-trained on them), `new`, `hard`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from typing import Any

from scripts.demo_tasks import DEFAULT_MIX, LETTERS, NAMES, THINGS, letters, spaced

Row = dict[str, Any]
Piece = tuple[str, bool]
LongKind = Callable[[random.Random], tuple[str, list[Piece]]]
CITIES = ("Rome", "Oslo", "Lima", "Bonn", "Cairo", "Quito", "Delhi", "Kyoto")
JOBS = ("baker", "nurse", "pilot", "tailor", "farmer", "painter")
OPENINGS = ("Let us see.", "Here is how it goes.", "Step by step, then.", "This can be worked out.", "Well now.")
CLOSINGS = ("That is all.", "So it is done.", "This settles it.", "And there we are.", "Nothing else is needed.")


def told(rng: random.Random, *options: str, **values: object) -> list[Piece]:
    """One of the wordings, drawn; {name} is replaced by its value, and the value is a result."""
    rest, pieces = rng.choice(options), []
    while "{" in rest:
        before, _, rest = rest.partition("{")
        name, _, rest = rest.partition("}")
        pieces += [(before, False), (str(values[name]), True)]
    return [*pieces, (rest, False)]


def answer(rng: random.Random, *sentences: list[Piece]) -> list[Piece]:
    """Opening, the sentences in order, closing."""
    whole = [(rng.choice(OPENINGS), False)]
    for sentence in sentences:
        whole += [(" ", False), *sentence]
    return [*whole, (" " + rng.choice(CLOSINGS), False)]


def person(rng: random.Random) -> dict[str, Any]:
    """A made-up person."""
    return {
        "name": rng.choice(NAMES),
        "job": rng.choice(JOBS),
        "city": rng.choice(CITIES),
        "age": rng.randint(20, 79),
        "count": rng.randint(2, 9),
        "thing": rng.choice(THINGS),
    }


def paragraph(rng: random.Random, who: Mapping[str, Any]) -> str:
    """What is known of somebody, in random order and wording."""
    facts = [
        rng.choice(("{name} works as a {job}.", "By trade {name} is a {job}.")),
        rng.choice(("The home of {name} is in {city}.", "{name} lives in {city}.")),
        rng.choice(("{name} is {age} years old.", "The age of {name} is {age}.")),
        rng.choice(("{name} owns {count} {thing}.", "There are {count} {thing} with {name}.")),
    ]
    rng.shuffle(facts)
    return " ".join(facts).format(**who)


def worked_sum(rng: random.Random) -> tuple[str, list[Piece]]:
    a, b, thing, name = rng.randint(10, 79), rng.randint(2, 9), rng.choice(THINGS), rng.choice(NAMES)
    prompt = f"{name} has {a} {thing} and gets {b} more. How many {thing} are there? Explain."
    first = told(rng, "At first there are {a}.", "We begin with {a}.", "The start is {a}.", a=a)
    then = told(
        rng, "Adding {b} gives {c}.", "With {b} more it is {c}.", "Then {b} come, which makes {c}.", b=b, c=a + b
    )
    return prompt, answer(rng, first, then, told(rng, "The answer is {c}.", "So {c} in all.", c=a + b))


def explained_larger(rng: random.Random) -> tuple[str, list[Piece]]:
    a, b = rng.sample(range(10, 100), 2)
    high, low = max(a, b), min(a, b)
    prompt = f"Which is larger, {a} or {b}? Explain."
    why = told(rng, "Of both {high} is above {low}.", "Since {high} exceeds {low}, it wins.", high=high, low=low)
    return prompt, answer(rng, why, told(rng, "The larger one is {high}.", "We choose {high}.", high=high))


def explained_last(rng: random.Random) -> tuple[str, list[Piece]]:
    word = letters(rng, 4, 6)
    whole = told(rng, "The letters are {word}.", "We read {word}.", "Given are {word}.", word=spaced(word))
    end = told(rng, "At the end stands {last}.", "The last of them is {last}.", last=word[-1])
    return f"Which is the last of the letters {spaced(word)}? Explain.", answer(rng, whole, end)


def who_is_it(rng: random.Random) -> tuple[str, list[Piece]]:
    who = person(rng)
    job = told(rng, "{name} is a {job}.", "The job of {name} is {job}.", **who)
    home = told(rng, "The home is in {city}.", "One finds {name} in {city}.", **who)
    return f"{paragraph(rng, who)} Tell of job and home.", answer(rng, job, home)


def explained_smaller(rng: random.Random) -> tuple[str, list[Piece]]:
    a, b = rng.sample(range(10, 100), 2)
    high, low = max(a, b), min(a, b)
    why = told(
        rng, "Of both {low} is below {high}.", "Since {low} falls short of {high}, it counts.", high=high, low=low
    )
    closing = told(rng, "The smaller one is {low}.", "We choose {low}.", low=low)
    return f"Which is smaller, {a} or {b}? Explain.", answer(rng, why, closing)


def explained_next(rng: random.Random) -> tuple[str, list[Piece]]:
    word = letters(rng, 2, 3, "bcdefghijk")
    steps = [
        told(
            rng, "After {x} comes {y}.", "One past {x} is {y}.", "The letter {x} leads to {y}.", x=x, y=chr(ord(x) + 1)
        )
        for x in word
    ]
    result = spaced("".join(chr(ord(x) + 1) for x in word))
    closing = told(rng, "Together {result}.", "The answer is {result}.", result=result)
    return f"Name the letter after each of {spaced(word)}. Explain.", answer(rng, *steps, closing)


def what_is_owned(rng: random.Random) -> tuple[str, list[Piece]]:
    who = person(rng)
    has = told(rng, "{name} has {count} {thing}.", "With {name} are {count} {thing}.", **who)
    age = told(rng, "The age is {age}.", "Years so far: {age}.", **who)
    return f"{paragraph(rng, who)} Tell of goods and age.", answer(rng, has, age)


def worked_difference(rng: random.Random) -> tuple[str, list[Piece]]:
    b, a = sorted(rng.sample(range(10, 100), 2))
    minus = told(rng, "Take {b} from {a}.", "From {a} we remove {b}.", a=a, b=b)
    closing = told(rng, "What stays is {c}.", "The answer is {c}.", "This leaves {c}.", c=a - b)
    return f"How much is {a} minus {b}? Explain.", answer(rng, minus, closing)


def worked_story(rng: random.Random) -> tuple[str, list[Piece]]:
    a, b, name, thing = rng.randint(10, 60), rng.randint(2, 9), rng.choice(NAMES), rng.choice(THINGS)
    c = rng.randint(2, a + b - 1)
    first = told(rng, "We begin with {a}.", "At first there are {a}.", a=a)
    gain = told(rng, "Adding {b} gives {d}.", "With {b} more it is {d}.", b=b, d=a + b)
    loss = told(rng, "Losing {c} leaves {e}.", "Then {c} go, so {e} stay.", c=c, e=a + b - c)
    prompt = f"{name} has {a} {thing}, gets {b} more and loses {c}. How many {thing} stay? Explain."
    return prompt, answer(rng, first, gain, loss, told(rng, "The answer is {e}.", "So {e} in all.", e=a + b - c))


def explained_order(rng: random.Random) -> tuple[str, list[Piece]]:
    word = "".join(rng.sample(LETTERS, rng.randint(4, 5)))
    inorder = spaced("".join(sorted(word)))
    first = told(rng, "The first must be {x}.", "Nothing comes before {x}.", x=min(word))
    last = told(rng, "The last must be {x}.", "Nothing comes after {x}.", x=max(word))
    closing = told(rng, "In order {inorder}.", "The answer is {inorder}.", inorder=inorder)
    return f"Put the letters {spaced(word)} in order. Explain.", answer(rng, first, last, closing)


LONG_GROUPS: dict[str, tuple[LongKind, ...]] = {
    "known": (worked_sum, explained_larger, explained_last, who_is_it),
    "new": (explained_smaller, explained_next, what_is_owned),
    "hard": (worked_difference, worked_story, explained_order),
}


def make_long_rows(
    count: int,
    seed: int,
    *,
    mix: Mapping[str, float] = DEFAULT_MIX,
    wrong_ratio: float = 0.0,
    twice_ratio: float = 0.0,
    avoid: Collection[str] = (),
) -> list[Row]:
    """`count` rows {"prompt", "completion", "results", "kind", "group", "wrong"} in random order.

    Args:
        mix: share of each group; the kinds of a group get equal shares.
        wrong_ratio: share of rows that get the answer to another prompt of the same kind.
        twice_ratio: share of rows that repeat an earlier prompt in another wording of the answer (near-duplicates).
        avoid: prompts that must not occur (the other set's).

    `results` are the (start, end) characters of the results inside the completion.
    """
    rng = random.Random(seed)
    rows: list[Row] = []
    for group, share in mix.items():
        kinds = LONG_GROUPS[group]
        for index in range(round(count * share)):
            rows.append(_row(kinds[index % len(kinds)], group, rng, avoid, wrong=rng.random() < wrong_ratio))
    for index in rng.sample(range(len(rows)), round(twice_ratio * len(rows) / 2)):
        rows[index] = _reworded(rng.choice(rows), rng)
    rng.shuffle(rows)
    return rows


def _row(kind: LongKind, group: str, rng: random.Random, avoid: Collection[str], *, wrong: bool) -> Row:
    own_seed = rng.randrange(2**32)
    prompt, pieces = kind(random.Random(own_seed))
    while prompt in avoid:
        own_seed = rng.randrange(2**32)
        prompt, pieces = kind(random.Random(own_seed))
    if wrong:
        _, pieces = kind(rng)
    row = {"prompt": prompt, "kind": kind.__name__, "group": group, "wrong": wrong}
    return row | _completion(pieces)


def _completion(pieces: list[Piece]) -> Row:
    text, spans = "", []
    for piece, is_result in pieces:
        if is_result:
            spans.append((len(text), len(text) + len(piece)))
        text += piece
    return {"completion": text, "results": spans}


def _reworded(row: Row, rng: random.Random) -> Row:
    """The same task with another opening and closing."""
    opening, closing = rng.choice(OPENINGS), rng.choice(CLOSINGS)
    old_opening = next(o for o in OPENINGS if row["completion"].startswith(o))
    old_closing = next(c for c in CLOSINGS if row["completion"].endswith(c))
    inner = row["completion"][len(old_opening) : -len(old_closing)]
    shift = len(opening) - len(old_opening)
    spans = [(start + shift, end + shift) for start, end in row["results"]]
    return {**row, "completion": opening + inner + closing, "results": spans}
