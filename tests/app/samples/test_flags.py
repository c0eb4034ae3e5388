"""Flags on all samples that filter and search select: a button says how many rows it changes, and changes these."""

from __future__ import annotations

from typing import Any

from geko_app.pages.review import CHANGED_MEANWHILE
from geko_app.pages.samples import sample_endpoints
from geko_app.runs.store import RunStore
from geko_app.samples.exclusions import flagged_rows
from geko_app.samples.store import SampleStore
from geko_app.workers.issue_checks import IssueChecks
from geko_app.workers.supervisor import Supervisor
from geko_engine.runs.folder import RunFolder
from tests.app.sample_runs import new_run, text_of, write_issues, write_record, write_texts


def functions_of(store: RunStore) -> dict[str, Any]:
    return {f.__name__: f for f in sample_endpoints(Supervisor(store), SampleStore(store), IssueChecks())}


def flag_all(functions: dict[str, Any], folder: RunFolder, *, flagged: bool, **query: Any) -> dict[str, Any]:
    """Press the button that flags all samples of a filter and a search, or takes their flags away."""
    asked = {"run": folder.id, **query}
    key = functions["table"](asked)["bulk"]["flag" if flagged else "unflag"]["key"]
    found: dict[str, Any] = functions["flag_samples"]({**asked, "all": True, "flagged": flagged, "key": key})
    return found


def test_the_buttons_for_all_count_rows_as_flags_do(store: RunStore) -> None:
    folder = new_run(store, row=[1, 1, 1, 2, 2, 3, 4, 5])
    functions = functions_of(store)

    def counts(**query: Any) -> tuple[int, int, int]:
        found = functions["table"]({"run": folder.id, **query})
        return found["total"], *(found["bulk"][name]["count"] for name in ("flag", "unflag"))

    assert counts(filter="hard") == (2, 2, 0) and counts(text="question") == (8, 5, 0)
    assert flag_all(functions, folder, flagged=True, filter="hard")["count"] == 2
    assert flagged_rows(folder) == {1, 3} and counts(text="question 1") == (1, 1, 1)
    assert counts(text="question") == (8, 5, 2)
    assert flag_all(functions, folder, flagged=False, text="question")["count"] == 0


def test_a_button_for_all_changes_no_other_rows_than_it_said(store: RunStore) -> None:
    folder = new_run(store, epochs=0)
    functions, asked = functions_of(store), {"run": folder.id, "filter": "hard"}
    write_record(folder, 8, 1)
    shown = functions["table"](asked)["bulk"]
    press = {**asked, "all": True, "key": shown["flag"]["key"], "flagged": True}
    write_record(folder, 4, 1)  # fewer are wrong by now
    write_texts(folder, [text_of(i) for i in range(4)])
    write_issues(folder, 4)
    for key in (shown["flag"]["key"], "", None):
        assert functions["flag_samples"]({**press, "key": key})["sentence"] == CHANGED_MEANWHILE
    assert flagged_rows(folder) == set()
    assert flag_all(functions, folder, flagged=True, filter="hard")["count"] == 1
    seen = functions["table"](asked)["bulk"]["unflag"]
    functions["flag_samples"]({"run": folder.id, "ids": [1], "flagged": False})  # in another tab
    refused = functions["flag_samples"]({**asked, "all": True, "key": seen["key"], "flagged": False})
    assert refused["sentence"] == CHANGED_MEANWHILE
