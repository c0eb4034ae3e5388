"""The sentence under a run and its baseline: only where exactly that is compared, and whichever way it goes."""

from __future__ import annotations

import dataclasses
from typing import Any

from geko_app.runs.summary import RunFacts
from geko_app.views.control_run import CAUTION, control_sentence

GEKO = RunFacts(
    "a", 0.0, end="complete", tokens=118_000, compute_saved_ratio=0.28, seconds=43.0, eval_loss_after=0.42,
    exact_match_after=0.673,
)  # fmt: skip
PLAIN = dataclasses.replace(
    GEKO, id="b", tokens=166_000, compute_saved_ratio=0.0, seconds=58.0, eval_loss_after=0.431, exact_match_after=0.66
)
ON: dict[str, Any] = {"geko.enabled": True, "training.seed": 1, "output_dir": "x"}
OFF: dict[str, Any] = {"geko.enabled": False, "training.seed": 1, "output_dir": "y"}


def test_a_run_and_its_baseline_are_compared_in_either_order() -> None:
    said = control_sentence([GEKO, PLAIN], [ON, OFF])
    assert said == control_sentence([PLAIN, GEKO], [OFF, ON])
    assert said.startswith(
        "GEKO used 28.0 % less compute than the baseline: 118 k trained tokens instead of 166 k, 43 s"
    )
    assert (
        "0.420 with GEKO and 0.431 without, its exact match 67.3 % and 66.0 %. By this loss, GEKO is no worse." in said
    )
    assert said.endswith(CAUTION)


def test_worse_quality_and_more_compute_are_said_too() -> None:
    worse = dataclasses.replace(GEKO, eval_loss_after=0.5, compute_saved_ratio=-0.1)
    said = control_sentence([worse, PLAIN], [ON, OFF])
    assert "10.0 % more compute" in said and "plain training is better" in said
    blind = [dataclasses.replace(facts, eval_loss_after=None) for facts in (GEKO, PLAIN)]
    assert "cannot be compared" in control_sentence(blind, [ON, OFF])


def test_compute_that_differs_by_nothing_that_is_shown_is_the_same() -> None:
    for saved in (0.0, 0.0004, -0.0004):
        alike = dataclasses.replace(GEKO, compute_saved_ratio=saved)
        assert control_sentence([alike, PLAIN], [ON, OFF]).startswith(
            "GEKO used as much compute as the baseline: 118 k"
        )


def test_where_answers_are_compared_row_by_row_the_figures_give_no_verdict() -> None:
    said = control_sentence([GEKO, PLAIN], [ON, OFF], is_paired=True)
    assert said.endswith("0.420 with GEKO and 0.431 without, its exact match 67.3 % and 66.0 %.")


def test_anything_else_is_no_comparison() -> None:
    assert control_sentence([GEKO, PLAIN], [ON, {**OFF, "training.seed": 2}]) == ""
    assert control_sentence([GEKO, GEKO], [ON, ON]) == "" and control_sentence([GEKO], [ON]) == ""
    running = dataclasses.replace(PLAIN, end="")
    assert control_sentence([GEKO, running], [ON, OFF]) == ""
