"""The sentence on what corrections were worth: the gain with its interval, and its share of the compute."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import numpy as np
import pytest

from geko_app.form.rerun_options import Corrected, EndedRun, changed
from geko_app.runs.store import RunStore
from geko_app.views.corrections_worth import NO_EVALUATION, worth_sentence
from geko_engine.config.run_config import RunConfig
from geko_engine.data.corrections import DELETE, KEEP, REPLACE, Correction, append
from geko_engine.runs.evaluation_scores import save
from geko_engine.runs.folder import RunFolder
from tests.app.sample_runs import new_run


def no_more(_config: RunConfig) -> None: ...


def retrained(
    store: RunStore, *corrections: Correction, change: Callable[[RunConfig], None] = no_more
) -> tuple[RunFolder, RunFolder]:
    """A run, and one that was started with its corrections, and with what `change` sets in its configuration."""
    earlier = new_run(store)
    append(earlier.corrections_path, corrections)
    config = RunConfig.demo()
    config.output_dir, config.data.corrections = str(store.root), str(earlier.corrections_path)
    change(config)
    later = store.create(config)
    later.used_corrections_path.write_bytes(earlier.corrections_path.read_bytes())
    return earlier, later


def evaluate(folder: RunFolder, correct: int, tokens: int) -> None:
    rows = np.arange(200)
    save(
        folder.evaluation_path,
        digest=rows.astype(np.uint64),
        loss_sum=np.where(rows < correct, 0.1, 2.0),
        targets=np.ones(200),
        correct=rows < correct,
        step=1,
    )
    report = {"tokens_forwarded": tokens, "tokens_backwarded": tokens}
    (folder.path / "report.json").write_text(json.dumps(report), "utf-8")


EDIT, OTHER = Correction(1, "0", REPLACE, answer="x"), Correction(2, "0", REPLACE, answer="y")


def test_the_gain_is_said_with_its_interval_and_its_compute(store: RunStore) -> None:
    earlier, later = retrained(store, EDIT, OTHER, Correction(3, "0", DELETE), Correction(4, "0", KEEP))
    evaluate(earlier, 100, 1000)
    evaluate(later, 120, 120)
    said = worth_sentence(later)
    assert said.startswith(
        "2 edited and 1 deleted rows: +10.0 points of exact match (± 4.2, 95 % interval), loss 0.190 lower"
    )
    assert said.endswith(f"on 200 evaluation rows, for 12 % of the compute of the run {earlier.id}.")


def test_no_clear_difference_and_a_worse_result_are_said_too(store: RunStore) -> None:
    earlier, later = retrained(store, EDIT)
    evaluate(earlier, 100, 1000)
    evaluate(later, 99, 1100)
    said = worth_sentence(later)
    assert said.startswith("1 edited row: -0.5 points") and "no clear difference, for 110 % of the compute" in said


def test_no_difference_is_no_change_and_little_compute_is_not_none(store: RunStore) -> None:
    earlier, later = retrained(store, EDIT)
    evaluate(earlier, 100, 1000)
    evaluate(later, 100, 4)
    assert worth_sentence(later) == (
        "1 edited row: the same exact match (± 0.0, 95 % interval), loss equal (± 0.000) on 200 evaluation "
        f"rows; no clear difference, for less than 1 % of the compute of the run {earlier.id}."
    )


def test_without_the_same_evaluation_rows_it_says_what_is_missing(store: RunStore) -> None:
    _, later = retrained(store, Correction(3, "0", DELETE))
    assert worth_sentence(later) == f"1 deleted row. {NO_EVALUATION}"


def test_runs_without_corrections_say_nothing(store: RunStore) -> None:
    earlier, _ = retrained(store, EDIT)
    assert worth_sentence(earlier) == ""


def test_only_what_the_earlier_run_did_not_have_yet_is_counted(store: RunStore) -> None:
    kept_since = Correction(1, "0", REPLACE, answer="x", at="later")  # the same edit: only its date is another
    earlier, later = retrained(store, kept_since, OTHER)
    append(earlier.used_corrections_path, [EDIT])
    evaluate(earlier, 100, 1000)
    evaluate(later, 120, 120)
    assert worth_sentence(later).startswith("1 edited row: +10.0 points")


def applied(folder: RunFolder, *rows: int) -> None:
    folder.applied_corrections_path.write_text(json.dumps({"rows": rows}), "utf-8")


def test_only_what_was_applied_in_the_training_is_counted(store: RunStore) -> None:
    earlier, later = retrained(store, EDIT, OTHER, Correction(3, "0", DELETE))
    evaluate(earlier, 100, 1000)
    evaluate(later, 120, 120)
    applied(later, 2)  # the other rows had another text by then
    assert worth_sentence(later).startswith("1 edited row: +10.0 points")
    applied(later)
    assert worth_sentence(later) == ""


def test_what_the_earlier_run_was_given_and_did_not_apply_counts_when_it_is_applied(store: RunStore) -> None:
    earlier, later = retrained(store, EDIT, OTHER)
    append(earlier.used_corrections_path, [EDIT, OTHER])
    evaluate(earlier, 100, 1000)
    evaluate(later, 120, 120)
    applied(earlier, 2)
    applied(later, 1, 2)
    assert worth_sentence(later).startswith("1 edited row: +10.0 points")


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 1}', '{"rows": ["one"]}'])
def test_a_damaged_list_of_what_was_applied_is_none(store: RunStore, text: str) -> None:
    _, later = retrained(store, EDIT)
    later.applied_corrections_path.write_text(text, "utf-8")
    assert worth_sentence(later) == f"1 edited row. {NO_EVALUATION}"


def test_the_log_is_read_again_only_when_it_has_changed(store: RunStore) -> None:
    _, later = retrained(store, EDIT, OTHER)
    assert worth_sentence(later).startswith("2 edited rows. ")
    known = later.used_corrections_path.stat()
    with later.used_corrections_path.open("r+b") as file:  # not to be noticed: whoever reads it again finds it damaged
        file.write(b"\0" * known.st_size)
    os.utime(later.used_corrections_path, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert worth_sentence(later).startswith("2 edited rows. ")
    later.used_corrections_path.unlink()
    append(later.used_corrections_path, [EDIT])
    assert worth_sentence(later).startswith("1 edited row. ")


def test_the_same_corrections_once_more_are_worth_nothing_that_could_be_said(store: RunStore) -> None:
    earlier, later = retrained(store, EDIT)
    append(earlier.used_corrections_path, [EDIT])
    assert worth_sentence(later) == ""


def rerun(store: RunStore, variant: str, also: Callable[[RunConfig], None] = no_more) -> str:
    """What is said of a run that a button of the end card started."""
    earlier = new_run(store)
    append(earlier.corrections_path, [EDIT])
    corrected = Corrected(str(earlier.path), str(earlier.model_path), str(earlier.corrections_path), 1, 0)
    config = changed(EndedRun(earlier.config(), "complete", corrected=corrected), variant)
    config.training.webhook_url = "https://example.com/hook"
    also(config)
    later = store.create(config)
    later.used_corrections_path.write_bytes(earlier.corrections_path.read_bytes())
    evaluate(earlier, 100, 1000)
    evaluate(later, 120, 120)
    return worth_sentence(later)


def test_a_run_that_goes_on_is_further_training_too_and_one_anew_is_not(store: RunStore) -> None:
    assert rerun(store, "corrected").startswith("1 edited row and further training: +10.0 points")
    assert rerun(store, "corrected_anew").startswith("1 edited row: +10.0 points")


def another_rank(config: RunConfig) -> None:
    config.lora.r += 1


def another_run(config: RunConfig) -> None:
    config.data.replay = str(config.output_dir)


def test_going_on_with_other_settings_is_no_mere_further_training(store: RunStore) -> None:
    assert rerun(store, "corrected", another_rank).startswith("1 edited row and other settings: ")
    assert rerun(store, "corrected", another_run).startswith("1 edited row and other settings: ")


def another_model(config: RunConfig) -> None:
    config.model.name = "another/model"


def more_epochs(config: RunConfig) -> None:
    config.training.num_epochs = 7


def another_rate(config: RunConfig) -> None:
    config.training.learning_rate *= 2


def plain_training(config: RunConfig) -> None:
    config.geko.enabled = not config.geko.enabled


@pytest.mark.parametrize("change", [another_model, more_epochs, another_rate, plain_training])
def test_the_corrections_are_not_credited_with_other_settings(
    store: RunStore, change: Callable[[RunConfig], None]
) -> None:
    earlier, later = retrained(store, EDIT, change=change)
    assert worth_sentence(later) == f"1 edited row and other settings. {NO_EVALUATION}"
    evaluate(earlier, 100, 1000)
    evaluate(later, 120, 120)
    assert worth_sentence(later).startswith("1 edited row and other settings: +10.0 points")


@pytest.mark.parametrize("text", [None, "model: [", "nothing: known"])
def test_nothing_is_said_where_the_earlier_settings_are_not_known(store: RunStore, text: str | None) -> None:
    earlier, later = retrained(store, EDIT)
    evaluate(earlier, 100, 1000)
    evaluate(later, 120, 120)
    earlier.config_path.unlink() if text is None else earlier.config_path.write_text(text, encoding="utf-8")
    assert worth_sentence(later) == ""


def test_corrections_at_a_path_that_no_system_has_say_nothing(store: RunStore) -> None:
    def nowhere(config: RunConfig) -> None:
        config.data.corrections = "a\0b/corrections.jsonl"

    assert worth_sentence(retrained(store, EDIT, change=nowhere)[1]) == ""
