"""orjson and json read the same."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geko_engine.reporting.quick_json import loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(VALUES)
def test_what_was_written_is_read_as_it_was(value: object) -> None:
    assert loads(json.dumps(value).encode()) == json.loads(json.dumps(value))


def test_what_only_json_accepts_is_read_too() -> None:
    assert loads(b'{"text": "\\ud800"}') == {"text": "\ud800"}
    assert math.isnan(loads(b'{"loss": NaN}')["loss"])
    for damaged in (b"", b'{"loss": ', b"\x00\x00", b"\xff"):
        with pytest.raises(ValueError):
            loads(damaged)
