"""A line of events.jsonl is read only if every value has its type; numbers of the usual kind are let through quickly."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geko_engine.reporting.event_lines import _FIELDS, LARGEST, parse
from tests.app.views.test_dashboard import step

SOUND = {"seq": 1, "time": 1.5, **step(3).to_dict()}
NAMES = [field.name for field in _FIELDS["StepCompleted"]]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)


def line_of(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode()


def sound(name: str, value: Any) -> bool:
    """Whether a field may have this value, by its check alone."""
    return next(field.check(value) for field in _FIELDS["StepCompleted"] if field.name == name)


@given(st.sampled_from(NAMES), VALUES)
def test_the_quick_way_lets_through_what_the_checks_let_through(name: str, value: Any) -> None:
    found = parse(line_of({**SOUND, name: value}))
    assert (found is not None) == sound(name, value)
    if found is not None:
        assert found[name] == value and type(found[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", 1.0), ("step", True), ("step", LARGEST), ("step", -LARGEST), ("step", None),
        ("loss", math.nan), ("loss", math.inf), ("loss", "1"), ("loss", LARGEST), ("phase", 1), ("freeze", [1]),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_damages_the_line(name: str, value: Any) -> None:
    assert parse(line_of({**SOUND, name: value})) is None


def test_numbers_without_a_fraction_and_missing_defaults_are_read() -> None:
    found = parse(line_of({**{k: v for k, v in SOUND.items() if k != "backward_cost"}, "seconds": 7, "loss": None}))
    assert found is not None and (found["seconds"], found["loss"], found["backward_cost"]) == (7, None, 2.0)
    assert parse(line_of({k: v for k, v in SOUND.items() if k != "loss"})) is None
