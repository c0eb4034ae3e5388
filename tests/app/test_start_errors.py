"""What the Start button says of a form with errors, whatever the browser sent."""

from __future__ import annotations

from typing import Any

import pytest

from geko_app.form import values as form
from geko_app.form.fields import FIELDS
from geko_app.pages.components import plain
from geko_app.pages.train import field_errors, not_started

SHOWN = form.defaults("/tmp/geko-runs-that-nobody-writes")
PROBLEMS = {
    "training.seed": "It is no number.",
    "own.setting": "It is unknown.",
    "model.name": "No model <b>is</b> given.",
}


def test_the_first_problem_is_the_first_of_the_form() -> None:
    said = not_started(PROBLEMS, "Not started.")
    assert said == r"**Not started.** Model: No model \<b\>is\</b\> given. Also wrong: Seed, own.setting."
    assert [error["key"] for error in field_errors(PROBLEMS)] == ["model.name", "training.seed", "own.setting"]
    assert [error["group"] for error in field_errors(PROBLEMS)] == ["Model", "Optimization", ""]


def test_a_sentence_is_shown_as_it_is() -> None:
    assert plain("a_b *c* [d](e) `f` $g$") == r"a\_b \*c\* \[d\](e) \`f\` \$g\$"


@pytest.mark.parametrize("value", [[], {"a": 1}, "\0", 10**400], ids=["list", "dict", "nul", "huge"])
def test_any_value_of_any_field_is_answered_in_sentences(value: Any) -> None:
    """Gradio's checks are off for the form, so that ours can name the field."""
    for field in FIELDS:
        values = [{**SHOWN, field.key: value}[each.key] for each in FIELDS]
        problems = form.problems_of(values, lambda config: [])
        assert all(isinstance(text, str) and text for text in problems.values())
