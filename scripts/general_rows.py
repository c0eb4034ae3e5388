"""The built-in rows of general knowledge, on which a run sees whether the model forgets: assets/demo/general.jsonl.

python -m scripts.general_rows writes the file. Everything in it is common knowledge in short sentences, in the form of an
instruction and its answer, so that any language model of general use knows most of it before the training.
"""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).parent.parent / "assets/demo/general.jsonl"
CAPITALS = {
    "France": "Paris",
    "Japan": "Tokyo",
    "Italy": "Rome",
    "Egypt": "Cairo",
    "Canada": "Ottawa",
    "Kenya": "Nairobi",
    "Peru": "Lima",
    "Norway": "Oslo",
    "Greece": "Athens",
    "Austria": "Vienna",
    "Thailand": "Bangkok",
    "Argentina": "Buenos Aires",
}
OPPOSITES = {
    "hot": "cold",
    "early": "late",
    "buy": "sell",
    "empty": "full",
    "win": "lose",
    "inside": "outside",
    "increase": "decrease",
    "always": "never",
}
PLURALS = {"child": "children", "city": "cities", "mouse": "mice", "leaf": "leaves", "box": "boxes", "man": "men"}
PAST = {"go": "went", "write": "wrote", "take": "took", "see": "saw", "begin": "began", "think": "thought"}
FRENCH = {"water": "eau", "house": "maison", "book": "livre", "cat": "chat", "sun": "soleil", "bread": "pain"}
ANSWERS = {
    "What do bees make?": "Bees make honey.",
    "How many days are there in a week?": "There are seven days in a week.",
    "What colour is the sky on a clear day?": "On a clear day the sky is blue.",
    "Which planet do we live on?": "We live on the planet Earth.",
    "What do you call frozen water?": "Frozen water is called ice.",
    "Who wrote Hamlet?": "Hamlet was written by William Shakespeare.",
    "What is the largest ocean?": "The largest ocean is the Pacific Ocean.",
    "What gas do plants take in from the air?": "Plants take in carbon dioxide from the air.",
    "How many minutes are there in an hour?": "There are sixty minutes in an hour.",
    "What is the chemical symbol of gold?": "The chemical symbol of gold is Au.",
    "In which direction does the sun rise?": "The sun rises in the east.",
    "What is the boiling point of water in degrees Celsius?": "At sea level, water boils at 100 degrees Celsius.",
    "Write a polite sentence that asks for a glass of water.": "Could I please have a glass of water?",
    "Write a short greeting for the start of an email.": "Hello, I hope you are doing well.",
    "Name three fruits.": "Three fruits are apples, bananas and oranges.",
    "Name the four seasons.": "The four seasons are spring, summer, autumn and winter.",
    "Correct the spelling: I recieved your letter.": "I received your letter.",
    "Is this sentence positive or negative? I loved every minute of the film.": "The sentence is positive.",
    "Is this sentence positive or negative? The food was cold and the staff were rude.": "The sentence is negative.",
    "Summarize in one sentence: The meeting was moved from Monday to Tuesday because the manager is ill.": (
        "Because the manager is ill, the meeting was moved to Tuesday."
    ),
}
SUMS = ((2, 2), (3, 5), (7, 6), (10, 15), (20, 30), (9, 9))


def rows() -> list[dict[str, str]]:
    """All rows, as prompt and completion."""
    pairs = [
        (f"What is the capital of {land}?", f"The capital of {land} is {city}.") for land, city in CAPITALS.items()
    ]
    pairs += [
        (f"What is the opposite of {word}?", f"The opposite of {word} is {other}.") for word, other in OPPOSITES.items()
    ]
    pairs += [(f"What is the plural of {word}?", f"The plural of {word} is {many}.") for word, many in PLURALS.items()]
    pairs += [
        (f"What is the past tense of {verb}?", f"The past tense of {verb} is {past}.") for verb, past in PAST.items()
    ]
    pairs += [(f"How do you say {word} in French?", f"In French, {word} is {other}.") for word, other in FRENCH.items()]
    pairs += list(ANSWERS.items())
    pairs += [(f"What is {a} + {b}?", f"{a} + {b} = {a + b}") for a, b in SUMS]
    return [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]


def main() -> None:
    """Write the file."""
    FILE.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    print(f"{len(rows())} rows: {FILE}")


if __name__ == "__main__":
    main()
