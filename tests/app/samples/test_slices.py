"""Groups of a run's samples: what is counted in each, against the record that was written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from geko_app.runs.store import RunStore
from geko_app.samples.slices import Group, slicings
from geko_app.samples.store import SampleStore
from geko_app.views.sample_filters import Query, matching
from geko_app.views.slices import COLUMNS, NONE, group_line, slice_tables
from geko_engine.runs.folder import RunFolder
from tests.app.sample_runs import new_run


def with_slices(folder: RunFolder, **columns: list[str]) -> None:
    encoded = {name: pa.array(values, pa.string()).dictionary_encode() for name, values in columns.items()}
    names = "[" + ", ".join(f'"{name}"' for name in columns) + "]"
    parquet.write_table(pa.table(encoded).replace_schema_metadata({"slices": names}), folder.slices_path)


def found(store: RunStore, **options: Any) -> dict[str, list[Group]]:
    folder = new_run(store, **options)
    with_slices(folder, topic=["a", "b"] * 4, file=["x.jsonl"] * 6 + ["y.jsonl"] * 2)
    return slicings(SampleStore(store).samples(folder.id))


def test_each_group_is_counted(store: RunStore) -> None:
    # Samples are known, wrong, unsure and almost in turn: topic a has known and unsure ones, b wrong and almost ones.
    first, second = found(store)["topic"]
    assert (first.value, first.samples, first.visited, first.right, first.suspected) == ("b", 4, 4, 0.5, 2)
    assert (second.value, second.samples, second.visited, second.right, second.suspected) == ("a", 4, 4, 0.5, 0)
    assert first.loss == pytest.approx((6.0 + 0.5) / 2) and second.loss == pytest.approx((0.05 + 2.0) / 2)
    assert first.compute == second.compute == 0.5 and first.forgotten == second.forgotten == 0
    assert [(group.value, group.samples) for group in found(store)["file"]] == [("x.jsonl", 6), ("y.jsonl", 2)]


def test_a_sample_that_was_right_and_is_wrong_now_is_forgotten(store: RunStore) -> None:
    folder = new_run(store)
    with_slices(folder, topic=["a"] * 4 + ["b"] * 4)
    samples = SampleStore(store).samples(folder.id)
    samples.states.correct[0] = 0
    assert {group.value: group.forgotten for group in slicings(samples)["topic"]} == {"a": 1, "b": 0}


def test_before_the_first_epoch_nothing_is_claimed(store: RunStore) -> None:
    groups = found(store, epochs=0)["topic"]
    assert all(group.visited == 0 and np.isnan(group.loss) for group in groups)
    assert group_line(groups[0]) == ["a", "4", "–", "–", "0", "0", "0.0 %"]


def test_the_page_gets_a_table_for_each_slicing_and_its_filter_selects_a_group(store: RunStore) -> None:
    folder = new_run(store)
    with_slices(folder, topic=["a", "b"] * 4, file=["x.jsonl"] * 6 + ["y.jsonl"] * 2)
    samples = SampleStore(store).samples(folder.id)
    topic, file = slice_tables(samples)["groupings"]
    assert (topic["title"], file["title"]) == ("topic", "File") and topic["columns"] == list(COLUMNS)
    assert topic["lines"][0][:4] == ["b", "4", "3.250", "50.0 %"]
    for query, ids in (
        (Query(slicing="topic", value="b"), [1, 3, 5, 7]),
        (Query(slicing="topic", value="nothing"), []),
        (Query(slicing="nothing", value="b"), list(range(8))),
    ):
        assert matching(samples, query, set()).tolist() == ids


def test_a_run_without_groups_says_so(store: RunStore) -> None:
    samples = SampleStore(store).samples(new_run(store).id)
    assert slice_tables(samples) == {"groupings": [], "note": NONE}
    samples.folder.slices_path.write_bytes(b"PAR1")
    assert slice_tables(SampleStore(store).samples(samples.folder.id))["groupings"] == []
