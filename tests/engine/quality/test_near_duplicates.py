"""Near-duplicates are found by MinHash as an exact comparison of all pairs finds them."""

from __future__ import annotations

import random

import numpy as np
import pytest

from geko_engine.quality import near_duplicates
from geko_engine.quality.near_duplicates import first_near, nearly_equal, normalized

WORDS = [
    *(
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "a",
        "lazy",
        "dog",
        "while",
        "seven",
        "wizards",
        "brew",
        "strange",
    ),
    *("potions", "near", "an", "old", "river", "bank"),
]


def sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=20))


def test_case_punctuation_and_a_changed_word_make_no_other_text() -> None:
    text = "Where is the branch of the bank that is open on Sundays, and may I bring my dog there?"
    assert first_near(
        [text, text.upper(), text.replace("Sundays", "Mondays"), "Something else entirely."]
    ).tolist() == [
        -1,
        0,
        0,
        -1,
    ]


def test_other_numbers_make_another_text() -> None:
    question = "What is {} plus 7, when everything else in this long question stays exactly the same as before?"
    assert first_near([question.format(12), question.format(13), question.format(12)]).tolist() == [-1, -1, 0]


def test_it_finds_what_the_comparison_of_all_pairs_finds() -> None:
    chance = random.Random(0)
    texts = [sentence(chance) for _ in range(150)]
    for row in range(0, 150, 3):
        words = texts[row].split()
        words[chance.randrange(20)] = "changed"
        texts.append(" ".join(words))
    plain = [normalized(text) for text in texts]
    exact = [next((j for j in range(i) if nearly_equal(plain[i], plain[j])), -1) for i in range(len(texts))]
    assert first_near(texts).tolist() == exact and np.sum(np.array(exact) >= 0) >= 30


def test_short_empty_and_foreign_texts_are_no_special_case() -> None:
    assert first_near([]).tolist() == []
    assert first_near(["", "", "a", "a", "你好", "你好", "😀"]).tolist() == [-1, -1, -1, 2, -1, 4, -1]


def test_the_shingles_of_the_first_of_many_near_texts_are_made_once_a_band(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(text: str) -> set[str]:
        made.append(text)
        return shingles(text)

    shingles = near_duplicates._shingles
    near_duplicates._shingles_of_first.cache_clear()
    monkeypatch.setattr(near_duplicates, "_shingles", counted)
    texts = [f"the quick brown fox jumps over a lazy dog near an old river {'b' * (i + 1)}" for i in range(40)]
    assert first_near(texts).tolist() == [-1, *[0] * 39]
    assert made.count(texts[0]) <= near_duplicates.BANDS
