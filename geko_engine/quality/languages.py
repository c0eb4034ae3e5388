"""Answers in another language than the rest of the dataset. NumPy and py3langid only.

A text is in the usual language where enough of its words are among the most common ones of that language's rows. Only what is
left is classified, which takes about a millisecond a text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

CHARACTERS = 400  # of a text that are looked at
FEWEST_LETTERS = 40  # in them; a shorter text is not judged
FEWEST_ROWS = 20  # that can be judged
SAMPLED = 300  # rows that the usual language is taken from
USUAL = 0.9  # share of them that must be in one language; else every language is usual
SURE = 0.9  # probability from which a language counts
COMMON, ENOUGH = 100, 0.2  # most common words, and the share of a text that they make up in the usual language
NO_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`]*`|https?://\S+|<[^>]{1,200}>", re.DOTALL)
WORDS = re.compile(r"[^\W\d_]+")
# Languages that short texts do not tell apart.
SAME = {"nb": "no", "nn": "no", "da": "no", "bs": "hr", "sr": "hr", "ms": "id", "gl": "pt", "af": "nl"}
NAMES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "ca": "Catalan",
    "cs": "Czech",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hr": "Croatian or Serbian",
    "hu": "Hungarian",
    "id": "Indonesian or Malay",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "nl": "Dutch",
    "no": "Norwegian or Danish",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sl": "Slovenian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "vi": "Vietnamese",
    "zh": "Chinese",
}


def other_languages(prompts: Sequence[str], answers: Sequence[str]) -> dict[int, tuple[float, str]]:
    """Rows whose answer is in another language than most, unless the prompt asks for that language.

    Args:
        prompts, answers: of the rows, [n] each.

    Returns:
        By the position of the row: the probability of its language, and "in German; most are in English".
    """
    proses = [prose(answer) for answer in answers]
    judged = [row for row, text in enumerate(proses) if letters(text) >= FEWEST_LETTERS]
    if len(judged) < FEWEST_ROWS:
        return {}
    sample = [judged[i] for i in np.unique(np.linspace(0, len(judged) - 1, SAMPLED).astype(int))]
    usual, share, rows = _usual_language(proses, sample)
    if share < USUAL:
        return {}
    counts = Counter(word for row in rows for word in set(WORDS.findall(proses[row].lower())))
    common = {word for word, _ in counts.most_common(COMMON)}
    found = {}
    for row in judged:
        if share_of(common, proses[row]) >= ENOUGH:
            continue
        language, probability = language_of(proses[row])
        if language != usual and probability >= SURE and not _asks_for(prompts[row], language):
            found[row] = probability, f"in {name(language)}; most are in {name(usual)}"
    return found


def prose(text: str) -> str:
    """What is written in a human language: the beginning of `text` without code, links and tags."""
    return NO_PROSE.sub(" ", text[: 4 * CHARACTERS])[:CHARACTERS]


def letters(text: str) -> int:
    """How many letters `text` has."""
    return sum(map(str.isalpha, text))


def share_of(words: set[str], text: str) -> float:
    """Share of the words of `text` that are among `words`."""
    found = WORDS.findall(text.lower())
    return sum(word in words for word in found) / max(1, len(found))


def language_of(text: str) -> tuple[str, float]:
    """The language of `text` as an ISO 639-1 code, and its probability; languages that are hard to tell apart have one code."""
    totals: dict[str, float] = {}
    for code, probability in _identifier().rank(text.lower() if text.isupper() else text):
        language = SAME.get(code, code)
        totals[language] = totals.get(language, 0.0) + float(probability)
    return max(totals.items(), key=lambda item: item[1])


def name(code: str) -> str:
    """The English name of a language, or its code."""
    return NAMES.get(code, f"another language ({code})")


def _usual_language(proses: Sequence[str], sample: Sequence[int]) -> tuple[str, float, list[int]]:
    """The most frequent language of the rows in `sample`, its share of those whose language is sure, and its rows."""
    languages = {row: found for row in sample for found, sure in [language_of(proses[row])] if sure >= SURE}
    if len(languages) < FEWEST_ROWS:
        return "", 0.0, []
    usual, count = Counter(languages.values()).most_common(1)[0]
    return usual, count / len(languages), [row for row, found in languages.items() if found == usual]


def _asks_for(prompt: str, language: str) -> bool:
    """Whether a prompt names the language, or is about a translation."""
    asked = prompt.lower()
    names = [part for part in NAMES.get(language, "").lower().split() if part != "or"]
    return "translat" in asked or any(part in asked for part in names)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # loading its tables takes a second

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
