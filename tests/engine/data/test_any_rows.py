"""Rows of any values end as tokens, or in a sentence: never in a traceback."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geko_engine.config.sections import DataConfig
from geko_engine.data.findings import column_findings, findings
from geko_engine.data.formats import recognise, restore_integers
from geko_engine.data.formats.base import UnreadableCell
from geko_engine.data.preparation import use_template
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.tokenization import tokenise_rendered
from geko_engine.exceptions import DataError
from tests.engine.data.template_families import FAMILIES, tokenizer_of

TEXTS = st.text(st.characters(), max_size=8)  # halves of characters too
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXTS,
    st.binary(max_size=3),
    st.datetimes() | st.dates() | st.times() | st.uuids() | st.decimals(allow_nan=False),
    st.sampled_from(["user", "assistant", "four", 10**30, UnreadableCell("text that is not UTF-8")]),
)
KEYS = (
    st.sampled_from(["role", "content", "from", "value", "function", "name", "arguments", "type", "text", "id"]) | TEXTS
)
VALUES = st.recursive(CELLS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]) | VALUES, "content": TEXTS | VALUES},
    optional=dict.fromkeys(("tool_calls", "weight", "name", "reasoning_content"), VALUES),
)
COLUMNS = ("prompt", "completion", "text", "label", "messages", "tools", "system", "history", "context", "weight", "n")
ROWS = st.dictionaries(st.sampled_from(COLUMNS), VALUES | st.lists(TURNS, max_size=4), min_size=1, max_size=5)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(FAMILIES)), st.lists(ROWS, min_size=1, max_size=4), st.sampled_from(["auto", "raw"]))
def test_rows_of_any_values_are_learned_or_named(family: str, rows: list[dict[str, Any]], template: str) -> None:
    config, tokenizer = DataConfig(chat_template=template), tokenizer_of(family)
    try:
        rows, restored = restore_integers(rows)
        format = recognise(rows, config, tokenizer)
        use_template(format, tokenizer, lambda event: None, template)
        rendered = RenderedRows(rows, format, tokenizer, restored)
        data = tokenise_rendered(rendered, 500)
    except DataError as error:
        assert error.field.startswith("data.") and str(error)
        return
    named = {row for finding in findings(data, 500) for row in finding.rows}
    assert {int(row) + 1 for row in data.rows} | named == set(range(1, len(rows) + 1))
    for finding in column_findings(rendered):
        finding.sentence.encode()
