"""The core set of a run: its rows, its export, the runs that check it, and what these have shown."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geko_app.form.rerun_options import CORE_SET, RANDOM_SET, EndedRun, Subset, changed, offered
from geko_app.pages.core_set import core_set_endpoints, export_core_set
from geko_app.runs.store import RunStore
from geko_app.samples.core_set import SubsetFile, core_set, read_subset, rows_of_set, runs_on, write_subset
from geko_app.samples.exclusions import set_flags
from geko_app.samples.store import Samples, SampleStore
from geko_app.views.core_set import (
    CORRECTED_TOO,
    NO_TEXT_CHECK,
    NOT_COMPARED,
    OTHER_CORRECTIONS,
    UNCHECKED,
    checks,
    verdict,
)
from geko_app.views.worth import worth_of_two
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from geko_engine.data.corrections import DELETE, REPLACE, Correction, append
from geko_engine.data.earlier_run import text_digest
from geko_engine.exceptions import RunError
from geko_engine.quality.issues import NEAR_DUPLICATE, Issue
from geko_engine.quality.label_issues import LIKELY
from geko_engine.runs.evaluation_scores import save
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.issue_check import issues_path
from geko_engine.storage.atomic_files import replace_json
from tests.app.sample_runs import new_run, text_of, write_issues

Ask = Callable[..., dict[str, Any]]
# Of the samples of new_run, 0 from row 1: rows 1, 4, 5, 8 were right in both epochs, rows 3, 7, 11 wrong; rows 2, 6, 10 suspects.


@pytest.fixture
def run(store: RunStore) -> RunFolder:
    folder = new_run(store, count=12)
    end(folder)
    return folder


def end(folder: RunFolder, how: str = "complete") -> None:
    replace_json(folder.path / "status.json", {"phase": how, "end": how})


def samples_of(store: RunStore, run: RunFolder) -> Samples:
    return SampleStore(store).samples(run.id)


def core_rows(store: RunStore, run: RunFolder, share: float | None = None, kind: str = CORE_SET) -> list[int]:
    samples = samples_of(store, run)
    return sorted(rows_of_set(samples, core_set(samples, share), kind))


# ---------------------------------------------------------------- which rows


def test_the_rows_that_the_run_answered_wrong_are_its_core_set(store: RunStore, run: RunFolder) -> None:
    assert core_rows(store, run) == [3, 7, 11]
    assert len(core_rows(store, run, 4 / 12)) == 4  # of which the record chooses three
    assert {3, 7, 11} <= set(core_rows(store, run, 9 / 12))
    assert core_rows(store, run, 1.0) == [1, 3, 4, 5, 7, 8, 9, 11, 12]


def test_flagged_deleted_and_likely_mislabeled_rows_are_left_out(store: RunStore, run: RunFolder) -> None:
    set_flags(run, [3], flagged=True)
    append(run.corrections_path, [Correction(7, digest(6), DELETE)])
    assert core_rows(store, run) == [11]
    write_issues(run, 12, [Issue(10, LIKELY, 0.95, note="x")])
    with pytest.raises(RunError, match="No row carried the training"):
        core_rows(store, run)


def test_near_duplicates_come_last_and_copies_never(store: RunStore) -> None:
    run = new_run(store, count=12, equal_to=[0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0])
    write_issues(run, 12, [Issue(10, NEAR_DUPLICATE, other=2)])
    assert core_rows(store, run) == [3]
    assert core_rows(store, run, 1.0) == [1, 3, 4, 5, 8, 9, 11, 12]


def test_the_random_set_has_as_many_of_the_same_candidates(store: RunStore, run: RunFolder) -> None:
    drawn = core_rows(store, run, kind=RANDOM_SET)
    assert len(drawn) == 3 and set(drawn) <= {1, 3, 4, 5, 7, 8, 9, 11, 12}
    assert drawn == core_rows(store, run, kind=RANDOM_SET)


def digest(index: int) -> str:
    return text_digest("\n".join(text_of(index))).hex()


# ---------------------------------------------------------------- the export


def test_the_export_has_these_rows_as_they_were_edited_and_says_that_no_run_has_checked_them(
    store: RunStore, run: RunFolder, tmp_path: Path
) -> None:
    append(run.corrections_path, [Correction(7, digest(6), REPLACE, answer="better")])
    path, cut = export_core_set(samples_of(store, run), {"percent": None}, tmp_path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [
        {"prompt": "question 2", "completion": "answer 2"},
        {"prompt": "question 6", "completion": "better"},
        {"prompt": "question 10", "completion": "answer 10"},
    ]
    assert (path.name, cut) == (f"{run.id}-core-set-3-not-checked-by-a-run.jsonl", 0)
    started(store, run, CORE_SET)
    assert export_core_set(samples_of(store, run), {}, tmp_path)[0].name == f"{run.id}-core-set-3.jsonl"


# ---------------------------------------------------------------- runs on it


def started(store: RunStore, run: RunFolder, kind: str, change: Callable[[RunConfig], None] | None = None) -> RunFolder:
    """A complete run on a set of `run`, as the page starts it."""
    samples = samples_of(store, run)
    subset = write_subset(samples, rows_of_set(samples, core_set(samples, None), kind), kind)
    config = changed(EndedRun(run.config(), "complete", subset=subset), kind)
    if change:
        change(config)
    later = store.create(config)
    end(later)
    return later


def test_a_run_on_a_set_leaves_out_all_other_rows_and_those_that_were_left_out_before(store: RunStore) -> None:
    before = store.root / "flags.json"
    replace_json(before, {"rows": [40, 41]})
    run = new_run(store, count=12)
    config = run.config()
    config.data.row_flags, config.data.flag_action = str(before), "exclude"
    run.config_path.write_text(config.to_yaml(), encoding="utf-8")
    later = started(store, run, CORE_SET).config()
    path = Path(later.data.row_flags or "")
    assert json.loads(path.read_text(encoding="utf-8"))["rows"] == [1, 2, 4, 5, 6, 8, 9, 10, 12, 40, 41]
    assert path.parent == run.path.absolute() and later.data.flag_action == "exclude"
    assert (later.model, later.training) == (config.model, config.training)
    found = read_subset(path)
    assert found is not None and (found.kind, found.kept, found.of) == (CORE_SET, 3, 12)
    assert read_subset(run.config_path) is None and read_subset(before) is None


def test_a_file_of_a_set_is_never_changed(store: RunStore, run: RunFolder) -> None:
    first = Path(started(store, run, CORE_SET).config().data.row_flags or "")
    kept = first.read_bytes()
    set_flags(run, [3], flagged=True)
    second = Path(started(store, run, CORE_SET).config().data.row_flags or "")
    assert first != second and first.read_bytes() == kept


def test_only_complete_runs_on_a_set_count(store: RunStore, run: RunFolder) -> None:
    later = started(store, run, CORE_SET)
    file = file_of(later)
    assert [found.id for found in runs_on(store.root, [file])] == [later.id]
    end(later, "failed")
    assert runs_on(store.root, [file]) == [] == runs_on(store.root, [])


def file_of(run: RunFolder) -> Path:
    return Path(run.config().data.row_flags or "")


def test_a_run_on_the_set_of_another_run_is_no_check_of_this_one(store: RunStore, run: RunFolder) -> None:
    twin = new_run(store, count=12)
    end(twin)
    later = started(store, twin, CORE_SET)
    found = read_subset(file_of(later))
    assert found is not None and found.source.id == twin.id
    own = run.path / found.path.name
    assert runs_on(store.root, [own]) == [] == checks(run, SubsetFile(own, CORE_SET, 3, 12))
    assert [one.id for one in runs_on(store.root, [found.path])] == [later.id] and checks(twin, found)


def test_runs_on_several_sets_come_with_the_newest_first(store: RunStore, run: RunFolder) -> None:
    files = set()
    for day, kind in enumerate((CORE_SET, RANDOM_SET, CORE_SET), 1):
        later = started(store, run, kind)
        files.add(file_of(later))
        later.path.rename(store.root / f"2026010{day}-120000-demo-0000")
    newest_first = [f"2026010{day}-120000-demo-0000" for day in (3, 2, 1)]
    assert [found.id for found in runs_on(store.root, sorted(files))] == newest_first
    assert [found.id for found in runs_on(store.root, sorted(files, reverse=True))] == newest_first


def unnoticed(path: Path, change: Callable[[], object]) -> None:
    """Make a change that a path's version does not show: whoever looks again sees it all the same."""
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)


def test_folders_and_files_are_read_again_only_when_they_have_changed(store: RunStore, run: RunFolder) -> None:
    first = started(store, run, CORE_SET)
    file, config = file_of(first), first.config_path
    assert [found.id for found in runs_on(store.root, [file])] == [first.id]
    unnoticed(store.root, lambda: started(store, run, CORE_SET))
    subset = read_subset(file)
    for path in (config, file):
        unnoticed(path, partial(overwrite, path))
    assert [found.id for found in runs_on(store.root, [file])] == [first.id]
    assert subset is not None and read_subset(file) == subset


def test_a_run_is_found_although_its_folder_was_seen_before_its_configuration(store: RunStore, run: RunFolder) -> None:
    later = started(store, run, CORE_SET)
    file, text = file_of(later), later.config_path.read_text(encoding="utf-8")
    later.config_path.unlink()
    assert runs_on(store.root, [file]) == []
    later.config_path.write_text(text, encoding="utf-8")
    assert [found.id for found in runs_on(store.root, [file])] == [later.id]


@pytest.mark.parametrize(
    ("data", "is_offered"),
    [({}, True), ({"replay": "/runs/first"}, False), ({"row_flags": "f.json", "flag_action": "never_freeze"}, False)],
)
def test_runs_on_a_set_are_offered_where_they_begin_at_the_same_base_model(
    data: dict[str, Any], is_offered: bool
) -> None:
    config = RunConfig.from_dict({"data": {"train": "x.jsonl", **data}, "training": {"max_steps": 75}})
    subset = Subset("/runs/a/core_set-1-00.json", 0.25)
    names = {variant["name"] for variant in offered(EndedRun(config, "complete", subset=subset))}
    assert ({CORE_SET, RANDOM_SET} <= names) is is_offered
    assert not {CORE_SET, RANDOM_SET} & {v["name"] for v in offered(EndedRun(config, "stopped", subset=subset))}
    if is_offered:
        assert changed(EndedRun(config, "complete", subset=subset), CORE_SET).training.max_steps == 19
    else:
        with pytest.raises(RunError, match="cannot be run again on a part of its rows"):
            changed(EndedRun(config, subset=subset), CORE_SET)


# ---------------------------------------------------------------- what they have shown


def evaluate(folder: RunFolder, loss: float, tokens: int = 1000) -> None:
    """Every second of 200 evaluation rows is a little harder, so that the interval has a width."""
    rows = np.arange(200)
    losses = np.full(200, loss) + 0.01 * (rows % 2) * loss
    columns = {"digest": rows.astype(np.uint64), "targets": np.ones(200), "correct": rows < 100}
    save(folder.evaluation_path, loss_sum=losses, step=1, **columns)
    report = {"tokens_forwarded": tokens, "tokens_backwarded": tokens}
    (folder.path / "report.json").write_text(json.dumps(report), "utf-8")


def test_a_run_on_the_core_set_says_how_far_it_is_from_all_rows_and_from_the_random_set(
    store: RunStore, run: RunFolder
) -> None:
    core = started(store, run, CORE_SET)
    assert verdict(core) == f"Core set of 3 rows (25 % of the data). {NOT_COMPARED}"
    evaluate(run, 1.0)
    evaluate(core, 1.5, 260)
    alone = verdict(core)
    assert alone.startswith(
        "Core set of 3 rows (25 % of the data), 26 % of the compute of the run on all rows: evaluation loss 0.502 higher (± "
    )
    assert "on 200 evaluation rows: worse. No run on a random set of the same size is complete" in alone
    drawn = started(store, run, RANDOM_SET)
    evaluate(drawn, 1.2)
    both = verdict(core)
    assert "With the random set of the same size it is 0.201 higher" in both
    assert "against that, the loss of this run is 0.301 higher (± 0.000): worse." in both
    other = verdict(drawn)
    assert other.startswith("Random set of 3 rows (25 % of the data), 100 % of the compute")
    assert "With the core set of the same size" in other and "0.301 lower (± 0.000): better." in other


def test_a_run_that_is_better_or_equal_says_so(store: RunStore, run: RunFolder) -> None:
    core = started(store, run, CORE_SET)
    evaluate(run, 1.0)
    evaluate(core, 0.9)
    assert "lower" in verdict(core) and "evaluation rows: better." in verdict(core)
    evaluate(core, 1.0004, tokens=2)  # all of its rows are a little harder: the difference is small, and certain
    assert "less than 1 % of the compute of the run on all rows: evaluation loss 0.0004 higher (±" in verdict(core)
    assert "evaluation rows: worse." in verdict(core)
    evaluate(core, 1.0)
    assert "evaluation loss equal (±" in verdict(core) and "evaluation rows: no clear difference." in verdict(core)


def test_other_settings_that_were_changed_are_named(store: RunStore, run: RunFolder) -> None:
    def faster(config: RunConfig) -> None:
        config.training.learning_rate *= 2

    core = started(store, run, CORE_SET, faster)
    evaluate(run, 1.0)
    evaluate(core, 1.0)
    assert "Other settings were changed too: training.learning_rate." in verdict(core)


def test_corrections_that_only_one_of_the_runs_had_are_named(store: RunStore, run: RunFolder) -> None:
    drawn = started(store, run, RANDOM_SET)
    core = started(store, run, CORE_SET)
    for one, loss in ((run, 1.0), (drawn, 1.2), (core, 0.9)):
        evaluate(one, loss)
    assert "corrections" not in verdict(core) and "With the random set of the same size" in verdict(core)
    append(core.used_corrections_path, [Correction(7, digest(6), REPLACE, answer="better")])
    edited = verdict(core)
    assert CORRECTED_TOO in edited and OTHER_CORRECTIONS.format("random set") in edited
    assert "With the random set" not in edited and "data.corrections" not in edited
    assert CORRECTED_TOO not in verdict(drawn) and OTHER_CORRECTIONS.format("core set") in verdict(drawn)
    append(drawn.used_corrections_path, [Correction(7, digest(6), REPLACE, answer="better", at="later")])
    assert CORRECTED_TOO in verdict(core) and "With the random set of the same size" in verdict(core)


def test_a_run_on_a_set_is_compared_with_the_run_on_all_rows(store: RunStore, run: RunFolder) -> None:
    core, drawn = started(store, run, CORE_SET), started(store, run, RANDOM_SET)
    for one, loss in ((run, 1.0), (core, 0.9), (drawn, 1.2)):
        evaluate(one, loss)
    assert worth_of_two([core, run], ["set", "all"]) == f"set was made from all. {verdict(core)}"
    assert worth_of_two([core, drawn], ["set", "random"]) == worth_of_two([run], ["all"]) == ""


def test_other_runs_have_no_verdict(store: RunStore, run: RunFolder) -> None:
    assert verdict(run) == ""
    core = started(store, run, CORE_SET)
    Path(core.config().data.row_flags or "").unlink()
    assert verdict(core) == ""


# ---------------------------------------------------------------- what the page calls


@pytest.fixture
def ask(store: RunStore, run: RunFolder, worker_command: Callable[[str], tuple[str, ...]]) -> Iterator[Ask]:
    supervisor = Supervisor(store, command=worker_command("finish"))
    functions = {function.__name__: function for function in core_set_endpoints(supervisor, SampleStore(store))}

    def call(function: str, /, **query: Any) -> dict[str, Any]:
        found = functions[function]({"run": run.id, **query})
        json.dumps(found, allow_nan=False)
        return found

    yield call
    supervisor.shutdown()


def test_the_card_promises_nothing_before_a_run_has_checked_it(store: RunStore, run: RunFolder, ask: Ask) -> None:
    found = ask("core_set")
    assert found["sentence"] == "" and found["verdict"] == UNCHECKED and not found["checked"]
    assert found["size"] == "3 rows (25 % of the data); by the record, 3 of 12 samples carried the training."
    assert [variant["name"] for variant in found["runs"]] == [CORE_SET, RANDOM_SET]
    later = started(store, run, CORE_SET)
    evaluate(run, 1.0)
    evaluate(later, 2.0)
    found = ask("core_set")
    assert found["checked"] and found["verdict"].startswith(f"Checked by the run {later.id}. Core set of 3 rows")
    third = ask("core_set", percent=33)
    assert not third["checked"] and "Drawn at random: 1 of the 4." in third["size"]


def test_the_card_says_where_the_texts_are_not_checked_yet(run: RunFolder, ask: Ask) -> None:
    issues_path(run).unlink()
    assert ask("core_set")["size"].endswith(NO_TEXT_CHECK)


@pytest.mark.parametrize("percent", [0, -1, 101, "ten", True, float("inf")])
def test_a_size_that_is_no_percentage_is_named(ask: Ask, percent: Any) -> None:
    assert "is no percentage" in ask("core_set", percent=percent)["sentence"]
    assert "is no percentage" in ask("train_on_set", percent=percent, name=CORE_SET)["error"]


@pytest.mark.parametrize("kind", [CORE_SET, RANDOM_SET])
def test_a_run_on_a_set_is_started(store: RunStore, run: RunFolder, ask: Ask, kind: str) -> None:
    assert ask("train_on_set", percent=50, name=kind) == {"error": ""}
    config = store.folder(next(one for one in store.ids() if one != run.id)).config()
    found = read_subset(Path(config.data.row_flags or ""))
    assert found is not None and (found.kind, found.kept, found.source.id) == (kind, 6, run.id)


def test_a_set_that_does_not_exist_is_refused(ask: Ask) -> None:
    assert "no set 'control'" in ask("train_on_set", name="control")["error"]
