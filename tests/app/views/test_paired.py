"""The sentence on two runs compared row by row."""

from __future__ import annotations

import pytest

from geko_app.views.paired import CAUTION, paired_sentence
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


@pytest.mark.parametrize("loss", [(0.0004, 0.0001), (-0.0004, 0.02), (0.0, 0.0)])
@pytest.mark.parametrize("exact", [(0.0004, 0.0001), (-0.0004, 0.02), (0.0, 0.0)])
def test_a_difference_that_no_figure_shows_is_none(exact: tuple[float, float], loss: tuple[float, float]) -> None:
    text = said(exact, loss)
    assert "new answers as many exactly as old (95 % interval" in text and ": no clear difference." in text
    assert f"its loss is equal to three decimals (± {loss[1]:.3f})" in text
