"""An answer in another language is found among those of one language, and what was asked for is not."""

from __future__ import annotations

import pytest

from geko_engine.quality import issues as kinds
from geko_engine.quality.issues import find_data_issues
from geko_engine.quality.languages import language_of, other_languages, prose

PLACES = ("the station", "the market", "the bridge", "the harbour", "the old town hall", "the library")
THINGS = ("a ticket for the next train", "some bread and a little cheese", "the letter that came last week", "a map")
ENGLISH = [
    f"You can find {thing} near {place}, but please ask before you go there." for place in PLACES for thing in THINGS
]
GERMAN = "Die Fahrkarte bekommen Sie am Schalter neben dem Bahnhof, bitte fragen Sie vorher nach."


def rows(*others: tuple[str, str]) -> tuple[list[str], list[str]]:
    """English rows, and then the (prompt, answer) pairs of `others`."""
    prompts = [f"Where can I get something, number {n}?" for n in range(len(ENGLISH))]
    return [*prompts, *(prompt for prompt, _ in others)], [*ENGLISH, *(answer for _, answer in others)]


def test_the_row_and_both_languages_are_named() -> None:
    found = other_languages(*rows(("Where do I buy a ticket?", GERMAN)))
    assert list(found) == [len(ENGLISH)]
    probability, note = found[len(ENGLISH)]
    assert 0.9 <= probability <= 1 and note == "in German; most are in English"
    issues = find_data_issues(*rows(("Where do I buy a ticket?", GERMAN)))
    assert [issue.row for issue in issues if issue.kind == kinds.LANGUAGE] == [len(ENGLISH)]


@pytest.mark.parametrize(
    "prompt", ["Translate: where do I get the ticket?", "Say it in German, please.", "How do Germans say this?"]
)
def test_a_language_that_was_asked_for_is_no_issue(prompt: str) -> None:
    assert other_languages(*rows((prompt, GERMAN))) == {}


def test_a_language_without_a_name_is_not_found_in_other_words() -> None:
    latin = "Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani, tertiam Galli."
    assert language_of(latin)[0] == "la"
    assert len(ENGLISH) in other_languages(*rows(("Please explain the law.", latin)))


def test_with_several_languages_in_the_data_no_row_is_unusual() -> None:
    assert other_languages(*rows(*[("Where?", f"{GERMAN} Es sind {n} Schritte.") for n in range(8)])) == {}


@pytest.mark.parametrize(
    "answer",
    [
        "Ja, gern.",  # too short to be sure
        "```\nfuer_jede_zeile(datei, funktion, wiederholungen, anfangswert, endwert, schrittweite)\n```",
        "https://example.org/eine/sehr/lange/adresse/mit/vielen/deutschen/woertern/darin.html",
        "def total(prices):\n    return sum(price for price in prices if price is not None)",
        "37 + 45 = 82; 82 * 3 = 246",
    ],
)
def test_short_texts_code_and_links_are_not_judged(answer: str) -> None:
    assert other_languages(*rows(("Where?", answer))) == {}


def test_a_few_rows_alone_say_nothing() -> None:
    assert other_languages(["Where?"] * 6, [*ENGLISH[:5], GERMAN]) == {}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("El paquete fue enviado esta mañana y debería llegar mañana.", "es"),
        ("Le colis a été envoyé ce matin et devrait arriver demain.", "fr"),
        ("Посылка была отправлена сегодня утром и должна прибыть завтра.", "ru"),
        ("荷物は今朝発送されましたので、明日には届くはずです。お待ちください。", "ja"),
        ("Pakken ble sendt i dag morges og burde komme frem i morgen.", "no"),
        ("Pakken blev sendt i morges og burde være fremme i morgen.", "no"),  # Danish, which is not told apart
        ("DIE FAHRKARTE BEKOMMEN SIE AM SCHALTER NEBEN DEM BAHNHOF.", "de"),
    ],
)
def test_languages_are_recognized(text: str, language: str) -> None:
    assert language_of(prose(text))[0] == language
