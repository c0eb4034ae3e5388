"""The sentence on two runs compared row by row."""

from __future__ import annotations

import pytest

from geko_app.views.paired import CAUTION, exact_change, loss_change, paired_sentence
from geko_engine.runs.evaluation_scores import Difference, PairedDifference


def said(exact: tuple[float, float], loss: tuple[float, float]) -> str:
    return paired_sentence("old", "new", PairedDifference(993, Difference(*exact), Difference(*loss)))


def test_a_clear_gain_is_said_with_its_interval() -> None:
    text = said((0.021, 0.008), (-0.05, 0.02))
    assert text == (
        "On 993 evaluation rows that both answered, new answers 2.1 points more exactly than old (95 % interval +1.3 to "
        f"+2.9), and its loss is 0.050 lower (± 0.020): clearly better by exact match and clearly better by loss. {CAUTION}"
    )


@pytest.mark.parametrize(
    ("exact", "loss", "verdict"),
    [
        ((0.002, 0.008), (-0.01, 0.02), ": no clear difference."),
        ((-0.03, 0.01), (-0.01, 0.02), "3.0 points fewer exactly"),
        ((-0.03, 0.01), (-0.01, 0.02), ": clearly worse by exact match."),
        ((0.03, 0.01), (0.05, 0.02), ": clearly better by exact match and clearly worse by loss."),
    ],
)
def test_what_is_within_chance_is_no_gain(exact: tuple[float, float], loss: tuple[float, float], verdict: str) -> None:
    assert verdict in said(exact, loss)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ((0.0004, 0.0001), "0.0004 higher (± 0.0001)"),
        ((-0.0004, 0.0001), "0.0004 lower (± 0.0001)"),
        ((-0.0004, 0.02), "less than 0.001 lower (± 0.020)"),
        ((0.0004, 0.02), "less than 0.001 higher (± 0.020)"),
        ((0.05, 0.0497), "0.0500 higher (± 0.0497)"),
        ((1e-9, 0.0), "less than 0.000001 higher (± 0.000000)"),
        ((0.0, 0.02), "equal (± 0.020)"),
    ],
)
def test_a_small_difference_of_loss_is_neither_none_nor_rounded_to_it(loss: tuple[float, float], words: str) -> None:
    assert loss_change(Difference(*loss)) == words
    assert f", and its loss is {words}: " in said((0.0, 0.01), loss)


@pytest.mark.parametrize(
    ("exact", "words", "change"),
    [
        ((0.0004, 0.0001), "0.04 points more exactly than old (95 % interval +0.03 to +0.05)", "+0.04 points of exact match (± 0.01"),
        ((-0.0004, 0.0001), "0.04 points fewer exactly than old (95 % interval -0.05 to -0.03)", "-0.04 points of exact match (± 0.01"),
        ((0.0004, 0.02), "less than 0.1 points more exactly than old (95 % interval -2.0 to +2.0)", "less than 0.1 points of exact match more (± 2.0"),
        ((-0.0004, 0.02), "less than 0.1 points fewer exactly than old (95 % interval -2.0 to +2.0)", "less than 0.1 points of exact match fewer (± 2.0"),
        ((0.0, 0.02), "as many exactly as old (95 % interval -2.0 to +2.0)", "the same exact match (± 2.0"),
    ],
)  # fmt: skip
def test_a_small_difference_of_matches_is_neither_none_nor_rounded_to_it(
    exact: tuple[float, float], words: str, change: str
) -> None:
    assert f"new answers {words}, and" in said(exact, (0.0, 0.01))
    assert exact_change(Difference(*exact)) == f"{change}, 95 % interval)"


@pytest.mark.parametrize(
    ("exact", "loss", "verdict"),
    [
        ((0.0004, 0.0001), (0.0, 0.01), "clearly better by exact match"),
        ((-0.0004, 0.0001), (-0.0004, 0.0001), "clearly worse by exact match and clearly better by loss"),
        ((0.0004, 0.02), (0.0004, 0.02), "no clear difference"),
    ],
)
def test_the_interval_decides_however_small_the_difference(
    exact: tuple[float, float], loss: tuple[float, float], verdict: str
) -> None:
    assert f": {verdict}. " in said(exact, loss)
