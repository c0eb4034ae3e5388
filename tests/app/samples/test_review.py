"""The review of a run's samples: the queue, decisions and their undo, bulk actions with what they would do, the diff."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geko_app.pages.review import ANSWER_OPTIONS, CHANGED_MEANWHILE, review_endpoints
from geko_app.pages.samples import sample_endpoints
from geko_app.runs.store import RunStore
from geko_app.samples.store import SampleStore
from geko_app.views import corrections as correction_views
from geko_app.views import review as review_views
from geko_app.workers.inference_jobs import InferenceJobs
from geko_app.workers.issue_checks import IssueChecks
from geko_app.workers.supervisor import Supervisor
from geko_engine.data.corrections import KEEP, REPLACE, Correction, append
from geko_engine.quality.issues import CONFLICT, NEAR_DUPLICATE, Issue
from geko_engine.quality.label_issues import LIKELY, LOOK
from geko_engine.runs.folder import RunFolder
from tests.app.sample_runs import new_run, write_issues, write_texts
from tests.app.workers.test_inference_jobs import FAKE

LABELS = ("red", "blue")
ISSUES = [
    Issue(0, LIKELY, 0.96, note="blue"),
    Issue(3, LIKELY, 0.92, note="red"),
    Issue(5, LOOK, 0.4, note="red"),
    Issue(6, CONFLICT, other=7),
    Issue(2, NEAR_DUPLICATE, other=1),
]
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def run(store: RunStore) -> RunFolder:
    """Twelve samples; every answer begins with the same words, as templates make them."""
    folder = new_run(store, count=12, epochs=0)
    write_texts(folder, [(f"question {i}", f"The color is {LABELS[i % 2]}.") for i in range(12)])
    write_issues(folder, 12, ISSUES)
    return folder


@pytest.fixture
def jobs(store: RunStore) -> Iterator[InferenceJobs]:
    made = InferenceJobs(store, command=FAKE)
    yield made
    made.shutdown()


@pytest.fixture
def ask(store: RunStore, run: RunFolder, jobs: InferenceJobs) -> Ask:
    """Calls a function of the page on the run."""
    samples, supervisor = SampleStore(store), Supervisor(store)
    listed = [*review_endpoints(supervisor, samples, jobs), *sample_endpoints(supervisor, samples, IssueChecks())]
    functions = {function.__name__: function for function in listed}

    def call(function: str, /, **query: Any) -> dict[str, Any]:
        found = functions[function]({"run": run.id, "filter": "suspicious", **query})
        json.dumps(found, allow_nan=False)
        return found

    return call


def rows(found: dict[str, Any]) -> list[int]:
    return [card["row"] for card in found["cards"]]


def test_the_queue_holds_what_is_undecided_the_most_severe_first(ask: Ask) -> None:
    first = ask("review")
    assert rows(first) == [7, 1, 4] and (first["left_rows"], first["total"], first["reviewed"]) == (5, 5, 0)
    after = ask("decide_sample", id=6, action="keep")
    assert after["sentence"] == "" and rows(after) == [1, 4, 6]
    assert (after["left_rows"], after["total"], after["reviewed"]) == (4, 5, 1)
    assert after["decided"] == {"kept": 1, "edited": 0, "deleted": 0}
    skipping = ask("review", skipped=[0, 3])
    assert rows(skipping) == [6, 3] and (skipping["waiting"], skipping["skipped"]) == (2, 2)
    assert rows(ask("review", filter="likely_mislabeled")) == [1, 4]
    assert rows(ask("review", filter="", text="question 11")) == [12]


def test_a_suggested_answer_is_as_whole_as_the_answers_of_the_run(ask: Ask) -> None:
    card = ask("review", filter="likely_mislabeled")["cards"][0]
    assert card["answer"] == "The color is red." and card["suggested"] == {"answer": "The color is blue."}
    after = ask("decide_sample", id=0, action="replace", origin="suggested", answer=card["suggested"]["answer"])
    assert after["decided"]["edited"] == 1
    line = ask("table", filter="edited")["lines"][0]
    assert (line["row"], line["decision"]) == (1, "edited")
    assert ask("sample", id=0)["replacement"] == [("New answer", "The color is blue.")]


def test_the_answer_of_a_similar_sample_is_offered_unless_it_is_the_same_or_deleted(ask: Ask) -> None:
    cards = {card["row"]: card for card in ask("review")["cards"]}
    assert cards[7]["similar"] == {"answer": "The color is blue.", "row": 8}
    assert ask("review_one", id=2)["card"]["similar"] == {"answer": "The color is blue.", "row": 2}
    ask("decide_sample", id=1, action="replace", origin="edited", answer="The color is green.")
    assert ask("review_one", id=2)["card"]["similar"] == {"answer": "The color is green.", "row": 2}
    ask("decide_sample", id=1, action="delete")
    assert ask("review_one", id=2)["card"]["similar"] is None


def test_an_undo_brings_the_sample_back(ask: Ask) -> None:
    ask("decide_sample", id=6, action="delete")
    assert ask("table", filter="reviewed")["total"] == 1
    assert ask("undo", ids=[6])["ids"] == [6]
    assert rows(ask("review"))[0] == 7 and ask("table", filter="reviewed")["total"] == 0
    assert "undone in another tab" in ask("undo", ids=[6])["sentence"]


def test_the_newest_decisions_are_undone_one_after_the_other_whoever_made_them(ask: Ask, run: RunFolder) -> None:
    ask("decide_sample", id=6, action="delete")
    ask("decide_sample", id=2, action="keep")
    earlier = Correction(9, "0", KEEP, at="2020-01-01T00:00:00.000+00:00")
    append(run.corrections_path, [earlier])
    ask("decide_sample", id=6, action="keep")  # in place of the first decision, which holds again after an undo
    assert ask("undo_newest") == {"sentence": "", "ids": [6], "row": 7, "action": "keep", "origin": ""}
    assert [(found["row"], found["action"]) for found in (ask("undo_newest"), ask("undo_newest"))] == [
        (3, "keep"),
        (7, "delete"),
    ]
    assert ask("undo_newest")["row"] == 9
    assert "undone in another tab" in ask("undo_newest")["sentence"] and ask("pull")["changes"] == 0


def test_a_decision_that_the_tab_has_not_seen_is_not_undone(ask: Ask) -> None:
    ask("decide_sample", id=6, action="keep")
    seen = ask("review")["newest"]
    ask("decide_all", action="delete", key=ask("preview_all", action="delete")["key"])  # by a program, or another tab
    refused = ask("undo_newest", newest=seen)
    assert "made elsewhere" in refused["sentence"] and ask("review")["decided"] == {
        "kept": 1,
        "edited": 0,
        "deleted": 4,
    }
    assert len(ask("undo_newest", newest=ask("review")["newest"])["ids"]) == 4
    assert ask("undo_newest", newest=seen)["row"] == 7


@pytest.mark.parametrize(("action", "rows", "origin"), [("delete", 5, ""), ("accept", 3, "suggested")])
def test_a_bulk_action_is_the_newest_decision_as_a_whole(ask: Ask, action: str, rows: int, origin: str) -> None:
    ask("decide_sample", id=11, action="keep")
    ask("decide_all", action=action, key=ask("preview_all", action=action)["key"])  # accept: two different answers
    undone = ask("undo_newest")
    assert (len(undone["ids"]), undone["origin"]) == (rows, origin)
    assert ask("pull")["changes"] == 1 and ask("undo_newest")["row"] == 12


def test_what_the_run_was_started_with_is_not_undone(ask: Ask, run: RunFolder) -> None:
    append(run.used_corrections_path, [Correction(4, "0", REPLACE, answer="blue", at="2999-01-01T00:00:00.000+00:00")])
    ask("decide_sample", id=0, action="keep")
    assert ask("undo_newest")["row"] == 1 and "undone in another tab" in ask("undo_newest")["sentence"]


def test_of_decisions_without_a_date_one_is_undone_at_a_time(ask: Ask, run: RunFolder) -> None:
    append(run.corrections_path, [Correction(1, "0", KEEP), Correction(2, "0", KEEP)])
    assert [ask("undo_newest")["row"] for _ in range(2)] == [2, 1]


def test_a_bulk_action_says_what_it_would_do_and_is_undone_in_one_step(ask: Ask) -> None:
    found = ask("preview_all", filter="likely_mislabeled", action="delete")
    assert (
        found["said"]
        == "2 rows would be deleted. Expected precision 94 %: less than one of these answers is right as it is."
    )
    assert ask("review", filter="likely_mislabeled")["left_rows"] == 2  # nothing is done yet
    done = ask("decide_all", filter="likely_mislabeled", action="delete", key=found["key"])
    assert sorted(done["ids"]) == [0, 3] and ask("review", filter="likely_mislabeled")["left_rows"] == 0
    assert ask("undo", ids=done["ids"])["ids"] == done["ids"]
    assert ask("review", filter="likely_mislabeled")["left_rows"] == 2


def test_rows_without_a_probability_have_no_expected_precision(ask: Ask) -> None:
    conflict = ask("preview_all", filter="conflict", action="delete")["said"]
    assert conflict == "1 row would be deleted. There is no measured precision for this kind of issue."
    mixed = ask("preview_all", action="delete")["said"]
    assert mixed == (
        "5 rows would be deleted. Expected precision 76 %: less than one of the 3 answers with a probability is right as it is. "
        "For the other 2 there is no measured precision."
    )
    kept = ask("preview_all", filter="likely_mislabeled", action="keep")["said"]
    assert kept.endswith("would not be asked about again. Expected: about 2 of these answers are wrong.")


def test_suggestions_are_accepted_where_there_are_any(ask: Ask) -> None:
    found = ask("preview_all", action="accept")
    assert found["count"] == 3 and found["said"] == (
        "3 rows would get the answer that the label check suggests. About 2 of the old answers are wrong (expected precision 76 %); "
        "how many suggestions are right was not measured."
    )
    ask("decide_all", action="accept", key=found["key"])
    texts = {line["row"]: line["texts"] for line in ask("corrections")["lines"]}
    assert set(texts) == {1, 4, 6} and "".join(text for text, _ in texts[4][0]["after"]) == "The color is red."


def test_of_a_single_answer_its_probability_is_said(ask: Ask) -> None:
    one = {"text": "question 5", "filter": "worth_a_look"}
    assert ask("preview_all", action="delete", **one)["said"] == (
        "1 row would be deleted. The answer is wrong with a probability of 40 %."
    )
    assert ask("preview_all", action="accept", **one)["said"] == (
        "1 row would get the answer that the label check suggests. The old answer is wrong with a probability of 40 %; "
        "whether the suggestion is right was not measured."
    )
    ask("decide_sample", id=0, action="keep")
    ask("decide_sample", id=3, action="keep")
    assert ask("preview_all", action="delete")["said"] == (
        "3 rows would be deleted. One answer is wrong with a probability of 40 %. "
        "For the other 2 there is no measured precision."
    )


def test_a_row_with_several_samples_is_one_row(ask: Ask, run: RunFolder) -> None:
    write_texts(run, [(f"question {i}", "same") for i in range(12)], row=[1, 1, 1, 1, *range(2, 10)])
    found, shown = ask("preview_all", action="delete"), ask("review")
    assert found["count"] == 3 and found["said"].startswith("3 rows would be deleted. Expected precision 76 %: ")
    assert (shown["left_rows"], shown["total"]) == (3, 5)
    done = ask("decide_all", action="delete", key=found["key"])
    after = ask("review")
    assert sorted(done["ids"]) == [0, 5, 6] and after["left_rows"] == 0
    assert after["decided"] == {"kept": 0, "edited": 0, "deleted": 3} and ask("pull")["changes"] == 3
    assert ask("corrections")["total"] == 3 and ask("table", filter="reviewed")["total"] == 6
    assert ask("undo", ids=done["ids"])["ids"] == done["ids"] and ask("review")["left_rows"] == 3


def test_a_suggestion_for_one_of_several_samples_is_none_that_can_be_accepted(ask: Ask, run: RunFolder) -> None:
    texts = [(f"question {i}", f"The color is {LABELS[i % 2]}.") for i in range(12)]
    write_texts(run, texts, row=[1, 1, 1, 1, *range(2, 10)])
    assert ask("review")["suggestions"] == ask("preview_all", action="accept")["count"] == 1


def test_a_suggestion_that_would_change_nothing_is_not_counted(ask: Ask, run: RunFolder) -> None:
    write_issues(run, 12, [*ISSUES, Issue(1, LOOK, 0.4, note="blue")])  # it is blue already
    assert ask("review")["suggestions"] == ask("preview_all", action="accept")["count"] == 3


def test_a_confirmation_of_other_suggestions_than_those_shown_does_nothing(ask: Ask, run: RunFolder) -> None:
    texts = [(f"question {i}", f"The color is {LABELS[i % 2]}.") for i in range(11)]
    write_texts(run, [*texts, ("question 11", "The color is green.")])
    found = ask("preview_all", action="accept")
    write_issues(run, 12, [Issue(0, LIKELY, 0.96, note="green"), *ISSUES[1:]])  # the check has run once more
    assert ask("preview_all", action="accept")["count"] == found["count"] == 3
    assert ask("decide_all", action="accept", key=found["key"])["sentence"] == CHANGED_MEANWHILE
    assert ask("review")["decided"]["edited"] == 0


def test_a_confirmation_of_other_samples_than_those_shown_does_nothing(ask: Ask) -> None:
    found = ask("preview_all", action="delete")
    ask("decide_sample", id=0, action="keep")  # in another tab
    assert ask("decide_all", action="delete", key=found["key"])["sentence"] == CHANGED_MEANWHILE
    assert ask("review")["decided"]["deleted"] == 0


def test_the_diff_shows_the_newest_change_first_with_its_changed_words(ask: Ask) -> None:
    ask("decide_sample", id=0, action="replace", origin="edited", answer="The color is a dark red.")
    ask("decide_sample", id=1, action="delete")
    deleted, edited = ask("corrections")["lines"]
    assert (deleted["label"], deleted["row"]) == ("Deleted", 2)
    assert (edited["label"], edited["origin"], edited["id"]) == ("Edited", "by hand", 0)
    assert [text for text, changed in edited["texts"][0]["after"] if changed] == ["a dark "]
    assert [text for text, changed in edited["texts"][0]["before"] if changed] == []
    assert ask("pull")["export"].startswith("1 row corrected, 1 deleted. ")


def test_the_diff_is_paged_and_long_texts_are_marked_as_a_whole() -> None:
    changes = [
        {"row": i, "action": "keep", "origin": "", "at": f"2026-01-01T00:00:{i:02}", "before": {}, "after": {}}
        for i in range(45)
    ]
    for change in changes:
        change["before"] = change["after"] = {"prompt": "a", "answer": "b"}
    found = correction_views.changes_page(changes, 99, {})
    assert (found["page"], found["pages"], [line["row"] for line in found["lines"]]) == (2, 3, [4, 3, 2, 1, 0])
    long = "word " * 2000
    assert correction_views.marked(long, long + "more") == ([(long, True)], [(long + "more", True)])
    assert correction_views.marked("", "new") == ([], [("new", True)])


@pytest.mark.parametrize(
    ("actions", "sentence"),
    [
        (["keep"], ""),
        (["replace"] * 41 + ["delete"] * 3, "41 rows corrected, 3 deleted."),
        (["delete", "keep"], "1 row deleted."),
    ],
)
def test_what_the_exported_dataset_contains(actions: list[str], sentence: str) -> None:
    assert correction_views.contents_sentence(actions) == sentence


def test_another_tab_learns_of_a_decision(ask: Ask) -> None:
    version = ask("pull")["version"]
    assert "counts" not in ask("pull", version=version)
    ask("decide_sample", id=4, action="keep")
    news = ask("pull", version=version)
    assert news["counts"]["reviewed"] == 1 and news["counts"]["edited"] == 0


def test_the_model_is_asked_greedily_and_a_run_without_one_says_so(
    ask: Ask, run: RunFolder, jobs: InferenceJobs
) -> None:
    assert "no model and no checkpoint" in ask("model_answer", id=0)["error"]
    run.model_path.mkdir()
    (run.model_path / "config.json").write_text("{}", encoding="utf-8")
    key = ask("model_answer", id=0)["key"]
    job = jobs.job(key)
    assert job is not None and job.request is not None and job.request.prompt == "question 0"
    assert ANSWER_OPTIONS["temperature"] == 0.0


def test_a_conversation_is_asked_with_what_was_said_before(store: RunStore, run: RunFolder) -> None:
    said = [("system", "be brief"), ("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    samples = SampleStore(store).samples(run.id)
    samples.texts.one = lambda _: {  # type: ignore[method-assign] # no other column is read
        "messages": json.dumps([{"role": role, "content": text} for role, text in said])
    }
    asked = review_views.asked(samples, 0)
    assert asked == review_views.Asked("three", (("user", "one"), ("assistant", "two")), "be brief")


STRANGE: list[Any] = [None, [], "x", {"id": -1}, {"id": 99, "action": "keep"}, {"id": 0, "action": "explode"}]
REPLACEMENTS: list[Any] = [{"origin": "elsewhere"}, {"origin": ["edited"]}, {"ids": "all", "skipped": {"a": 1}}]


@pytest.mark.parametrize("query", [*STRANGE, *({"id": 0, "action": "replace", **more} for more in REPLACEMENTS)])
def test_whatever_a_visitor_sends_nothing_is_decided(
    store: RunStore, run: RunFolder, jobs: InferenceJobs, ask: Ask, query: Any
) -> None:
    for function in review_endpoints(Supervisor(store), SampleStore(store), jobs):
        function(query)
        function({**(query if isinstance(query, dict) else {}), "run": run.id})
    assert ask("review")["decided"] == {"kept": 0, "edited": 0, "deleted": 0}
    assert "choose one of corrected" in ask("retrain", name="control")["error"]


def test_the_export_holds_the_corrections(store: RunStore, run: RunFolder, ask: Ask, tmp_path: Path) -> None:
    from geko_app.samples.exclusions import write_dataset

    ask("decide_sample", id=0, action="replace", origin="edited", prompt="new question", answer="new answer")
    ask("decide_sample", id=1, action="delete")
    write_dataset(SampleStore(store).samples(run.id), tmp_path / "clean.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "clean.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"prompt": "new question", "completion": "new answer"}
    assert lines[1]["prompt"] == "question 2" and len(lines) == 11
