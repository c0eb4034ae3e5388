"""A run again has rows to train on: where all are flagged or deleted, it is refused before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from geko_app.pages.core_set import core_set_endpoints
from geko_app.pages.dashboard import start_variant
from geko_app.runs.store import RunStore
from geko_app.samples.corrections import decide
from geko_app.samples.exclusions import set_flags
from geko_app.samples.reruns import corrected_rows, run_again
from geko_app.samples.store import SampleStore
from geko_app.workers.supervisor import Supervisor
from geko_engine.data.corrections import DELETE, REPLACE, UNDO
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import replace_json
from tests.app.sample_runs import new_run

ALL = range(8)


@pytest.fixture
def run(store: RunStore) -> RunFolder:
    folder = new_run(store)
    replace_json(folder.path / "status.json", {"phase": "complete", "end": "complete"})
    return folder


def decide_all(store: RunStore, run: RunFolder, action: str, ids: Any = ALL, **texts: Any) -> None:
    decide(SampleStore(store).samples(run.id), ids, action, **texts)


def test_a_run_whose_rows_are_all_deleted_or_flagged_is_not_trained_again(store: RunStore, run: RunFolder) -> None:
    decide_all(store, run, DELETE, range(5))
    assert run_again(run, "corrected_anew").data.corrections == str(run.corrections_path)
    set_flags(run, [6, 7, 8], flagged=True)
    with pytest.raises(RunError, match=r"All 8 rows of this run are flagged or deleted.*undo some"):
        run_again(run, "corrected_anew")
    assert run_again(run, "control").data == run.config().data  # it is trained on the rows as they were
    decide_all(store, run, UNDO, [0])
    assert run_again(run, "corrected_anew")


def test_of_a_run_of_one_row_the_refusal_speaks_of_one(store: RunStore) -> None:
    run = new_run(store, count=1, epochs=0)
    decide_all(store, run, DELETE, [0])
    with pytest.raises(RunError, match="The only row of this run is flagged or deleted"):
        run_again(run, "corrected_anew")


def test_edited_rows_that_are_flagged_are_left_out_so_there_is_nothing_to_go_on_with(
    store: RunStore, run: RunFolder
) -> None:
    run.model_path.mkdir()
    decide_all(store, run, REPLACE, [0, 1], answer="new", origin="edited")
    set_flags(run, [1], flagged=True)
    found = corrected_rows(run)
    assert found is not None and (found.edited, found.deleted) == (1, 1) and run_again(run, "corrected")
    set_flags(run, [2], flagged=True)
    with pytest.raises(RunError, match=r"only deleted or flagged.*retrain it anew"):
        run_again(run, "corrected")
    assert run_again(run, "corrected_anew")


def test_files_of_an_earlier_run_that_leave_nothing_out_of_it_any_more_are_read_anew(
    store: RunStore, run: RunFolder, tmp_path: Path
) -> None:
    """What a run was started with can have changed since: it names the files of the run that was reviewed."""
    flags = tmp_path / "flags.json"
    config = run.config()
    config.data.row_flags = str(flags)
    run.config_path.write_text(config.to_yaml(), encoding="utf-8")
    replace_json(run.used_flags_path, {"rows": [9]})
    replace_json(flags, {"rows": [9, 1, 2]})
    assert run_again(run, "control")
    replace_json(flags, {"rows": list(range(1, 10))})
    with pytest.raises(RunError, match="All 8 rows"):
        run_again(run, "control")
    replace_json(flags, {"rows": list(range(1, 9))})  # the row that it had left out is there again
    assert run_again(run, "control")


def test_a_run_that_never_knew_its_rows_can_be_run_again(store: RunStore, run: RunFolder) -> None:
    run.rows_path.unlink()
    assert run_again(run, "control")


def test_the_page_says_why_and_starts_nothing(store: RunStore, run: RunFolder) -> None:
    supervisor, samples = Supervisor(store), SampleStore(store)
    decide_all(store, run, DELETE)
    functions = {function.__name__: function for function in core_set_endpoints(supervisor, samples)}
    refused = [
        start_variant(supervisor, run.id, "corrected_anew")["error"],
        functions["train_on_set"]({"run": run.id, "name": "core_set", "percent": 50})["error"],
        functions["train_on_set"]({"run": run.id, "name": "random_set", "percent": 50})["error"],
    ]
    assert "nothing is left to train on" in refused[0]
    assert refused[1] == refused[2] == "No row is left for a core set: all are flagged, deleted or likely mislabeled."
    assert store.ids() == [run.id]
