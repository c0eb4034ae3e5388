"""What a person decides about samples: saved, undone, carried on to later runs, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from geko_app.runs.store import RunStore
from geko_app.samples import corrections
from geko_app.samples.correction_log import log_of, version
from geko_app.samples.corrections import as_settings, can_edit, changes, decide, editable
from geko_app.samples.exclusions import as_settings as flag_settings
from geko_app.samples.exclusions import set_flags, write_dataset
from geko_app.samples.reruns import corrected_rows
from geko_app.samples.store import Samples, SampleStore
from geko_app.views.corrections import decided_of
from geko_engine.data.corrections import DELETE, KEEP, REPLACE, UNDO, Correction, append, current
from geko_engine.data.earlier_run import text_digest
from geko_engine.data.formats import Conversation, give_template
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.tokenization import tokenise_rendered
from geko_engine.exceptions import DataError, RunError
from geko_engine.quality.issues import LENGTH, REFUSAL, Issue
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.sample_texts import write_sample_texts
from tests.app.sample_runs import new_run, write_issues, write_texts
from tests.engine.conftest import character_tokenizer


def samples_of(store: RunStore, folder: RunFolder) -> Samples:
    return SampleStore(store).samples(folder.id)


def actions(samples: Samples) -> dict[int, str]:
    return {index: made.action for index, made in decided_of(samples).items()}


def test_decisions_hold_until_they_are_undone_and_the_log_keeps_all(store: RunStore) -> None:
    folder = new_run(store)
    samples, before = samples_of(store, folder), version(folder)
    decide(samples, [0], KEEP)
    decide(samples, [1, 2], DELETE)
    decide(samples, [3], REPLACE, answer="better", origin="edited")
    assert actions(samples) == {0: KEEP, 1: DELETE, 2: DELETE, 3: REPLACE} and version(folder) != before
    decide(samples, [1], UNDO)
    assert actions(samples) == {0: KEEP, 2: DELETE, 3: REPLACE} and len(log_of(folder)) == 5
    assert {made.digest for made in log_of(folder) if made.row == 4} == {text_digest("question 3\nanswer 3").hex()}
    found = {change["row"]: change for change in changes(samples)}
    assert found[4]["before"] == {"prompt": "question 3", "answer": "answer 3"}
    assert found[4]["after"] == {"prompt": "question 3", "answer": "better"} and found[4]["origin"] == "edited"
    assert as_settings(folder) == {"data.corrections": str(folder.corrections_path.absolute())}


def test_a_kept_sample_has_no_issue_any_more_here_and_in_later_runs_with_the_same_text(store: RunStore) -> None:
    first, later, other = (new_run(store) for _ in range(3))
    issues = [Issue(0, REFUSAL), Issue(0, LENGTH), Issue(1, REFUSAL)]
    for folder in (first, later, other):
        write_issues(folder, 8, issues)
    decide(samples_of(store, first), [0], KEEP)
    log = first.corrections_path.read_text("utf-8")
    later.used_corrections_path.write_text(log, "utf-8")
    digest, changed = text_digest("question 0\nanswer 0").hex(), text_digest("another text").hex()
    other.used_corrections_path.write_text(log.replace(digest, changed), "utf-8")
    kept = {folder.id: [i.kind for i in samples_of(store, folder).issues.of(0)] for folder in (first, later, other)}
    assert kept == {first.id: [], later.id: [], other.id: [REFUSAL, LENGTH]}
    assert samples_of(store, first).issues.of(1)


def test_a_run_with_corrections_goes_on_from_them(store: RunStore) -> None:
    """Its samples have the corrected texts; the log goes on being about the rows of the source."""
    first, later = new_run(store), new_run(store)
    decide(samples_of(store, first), [0, 1, 2], REPLACE, answer="edited once", origin="edited")
    write_texts(later, [(f"question {n}", "edited once" if n < 3 else f"answer {n}") for n in range(8)])
    later.used_corrections_path.write_bytes(first.corrections_path.read_bytes())
    samples = samples_of(store, later)
    assert changes(samples) == [] and actions(samples) == {}
    decide(samples, [0], REPLACE, prompt="asked anew", origin="edited")
    decide(samples, [1], DELETE)
    decide(samples, [2], KEEP)
    decide(samples, [3], DELETE)
    found = current(log_of(later))
    source = {row: made.digest for row, made in current(log_of(first)).items()}
    assert (found[1].prompt, found[1].answer, found[1].digest) == ("asked anew", "edited once", source[1])
    assert (found[2].action, found[2].digest) == (DELETE, source[2])
    assert (found[3].action, found[3].answer) == (REPLACE, "edited once")
    assert found[4].digest == text_digest("question 3\nanswer 3").hex()
    assert actions(samples) == {0: REPLACE, 1: DELETE, 2: KEEP, 3: DELETE}
    decide(samples, [1], UNDO)
    assert (current(log_of(later))[2].action, current(log_of(later))[2].answer) == (REPLACE, "edited once")
    assert actions(samples) == {0: REPLACE, 2: KEEP, 3: DELETE}
    assert len(log_of(first)) == 3, "the earlier run's own log stays as it is"


def test_an_earlier_edit_that_could_not_be_applied_has_no_part_in_a_new_one(store: RunStore) -> None:
    """The source has changed since: its row has another text than both before and after that edit."""
    folder = new_run(store)
    old = Correction(1, text_digest("another text").hex(), REPLACE, answer="old edit", origin="edited")
    append(folder.used_corrections_path, [old])
    decide(samples_of(store, folder), [0], REPLACE, prompt="asked anew", origin="edited")
    found = current(log_of(folder))[1]
    assert (found.prompt, found.answer, found.digest) == ("asked anew", None, text_digest("question 0\nanswer 0").hex())


def test_an_undo_takes_back_one_decision_and_no_more(store: RunStore) -> None:
    samples = samples_of(store, new_run(store))
    decide(samples, [0], REPLACE, answer="half an hour of work", origin="edited")
    decide(samples, [0], DELETE)
    decide(samples, [0], UNDO)
    assert actions(samples) == {0: REPLACE} and changes(samples)[0]["after"]["answer"] == "half an hour of work"
    decide(samples, [0], UNDO)
    assert actions(samples) == {}


def test_a_conversation_without_a_question_gets_none(store: RunStore) -> None:
    folder = new_run(store, count=1, epochs=0)
    turns = [{"role": "system", "content": "Say hello."}, {"role": "assistant", "content": "Hello."}]
    tokenizer = character_tokenizer()
    give_template(tokenizer, "plain")
    rendered = RenderedRows([{"messages": turns}], Conversation("messages"), tokenizer)
    write_sample_texts(folder.path, rendered, tokenise_rendered(rendered, 1000))
    samples = samples_of(store, folder)
    with pytest.raises(RunError, match="no question"):
        decide(samples, [0], REPLACE, prompt="Who?", answer="Hi.", origin="edited")
    decide(samples, [0], REPLACE, prompt="", answer="Hi.", origin="edited")
    assert changes(samples)[0]["after"] == {"prompt": "", "answer": "Hi."}


def test_only_files_that_are_there_are_taken_along(store: RunStore) -> None:
    folder = new_run(store)
    assert flag_settings(folder) == {} == as_settings(folder)
    set_flags(folder, [2], flagged=True)
    decide(samples_of(store, folder), [0], DELETE)
    found = corrected_rows(folder)
    assert found is not None and found.flags == flag_settings(folder)["data.row_flags"]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"answer": "  "}, "answer is empty"),
        ({"prompt": " ", "answer": "x"}, "prompt is empty"),
        ({"answer": "half \ud83d"}, "half a character"),
        ({"answer": "answer 0"}, "same as before"),
        ({"prompt": "question 0", "answer": "answer 0"}, "same as before"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused_and_nothing_is_saved(
    store: RunStore, texts: dict[str, str], said: str
) -> None:
    samples = samples_of(store, new_run(store))
    with pytest.raises(RunError, match=said):
        decide(samples, [0], REPLACE, origin="edited", **texts)
    assert decided_of(samples) == {}


def test_a_row_with_several_samples_is_decided_as_a_whole(store: RunStore) -> None:
    samples = samples_of(store, new_run(store, row=[1, 1, 2, 3, 4, 5, 6, 7]))
    assert "several samples" in can_edit(samples, 1) and can_edit(samples, 2) == ""
    with pytest.raises(RunError, match="several samples"):
        decide(samples, [1], REPLACE, answer="new", origin="edited")
    decide(samples, [1], DELETE)
    assert actions(samples) == {0: DELETE, 1: DELETE}


def test_the_editor_shows_what_a_correction_takes_the_place_of() -> None:
    turns = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "well"},
    ]
    talk = {"text": "...", "learnt": [0, 3], "messages": json.dumps(turns)}
    assert corrections.texts_of(talk, "conversation") == ("and?", "well")
    assert corrections.texts_of({"text": "all of it", "learnt": [0, 9], "messages": None}, "text") == ("", "all of it")
    calls = [*turns, {"role": "assistant", "content": "", "tool_calls": [{}]}]
    assert corrections.texts_of({**talk, "messages": json.dumps(calls)}, "conversation") == ("", "")


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("pair", [{"prompt": "question 0", "completion": "new"}, {"prompt": "question 2", "completion": "answer 2"}]),
        ("text", [{"text": "new"}, {"text": "question 2\nanswer 2"}]),
    ],
)
def test_the_exported_dataset_is_the_corrected_one(
    store: RunStore, tmp_path: Path, layout: str, expected: list[dict[str, Any]]
) -> None:
    samples = samples_of(store, new_run(store, count=4, epochs=0, layout=layout))
    decide(samples, [0], REPLACE, answer="new", origin="edited")
    decide(samples, [1, 3], DELETE)
    decide(samples, [2], KEEP)
    assert editable(samples, 2)[1].endswith("answer 2")
    assert write_dataset(samples, tmp_path / "out.jsonl") == (2, 0)
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == expected


def test_only_corrections_that_change_something_are_worth_training_again(store: RunStore) -> None:
    folder = new_run(store)
    samples = samples_of(store, folder)
    assert corrected_rows(folder) is None
    decide(samples, [0], KEEP)
    assert corrected_rows(folder) is None
    decide(samples, [1], DELETE)
    decide(samples, [2, 3], REPLACE, answer="new", origin="suggested")
    found = corrected_rows(folder)
    assert found is not None and (found.edited, found.deleted, found.model) == (2, 1, "")


def test_a_damaged_log_is_a_sentence_and_stays_as_it_is(store: RunStore) -> None:
    folder = new_run(store)
    folder.corrections_path.write_text("no json\n", "utf-8")
    samples = samples_of(store, folder)
    with pytest.raises(DataError, match="Line 1"):
        decide(samples, [0], KEEP)
    assert corrected_rows(folder) is None and folder.corrections_path.read_text("utf-8") == "no json\n"
