"""The samples of a run: read when they have changed, sorted, filtered, searched, flagged, exported."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geko_app.pages.sample_query import query_of
from geko_app.pages.samples import sample_endpoints
from geko_app.runs.store import RunStore
from geko_app.samples.exclusions import (
    as_settings,
    exported,
    flagged_rows,
    flags_version,
    set_flags,
    write_dataset,
    write_list,
)
from geko_app.samples.store import NEVER_READ, NOT_KEPT, NOT_YET, Samples, SampleStore, Texts
from geko_app.views import samples as sample_views
from geko_app.views.data_map import data_map
from geko_app.views.sample_filters import FILTERS, SORTS, Query
from geko_app.workers.issue_checks import IssueChecks
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.sections import DataConfig
from geko_engine.data.formats import Conversation, Format, PlainText, PromptCompletion, recognise
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.sources import load_rows
from geko_engine.data.tokenization import tokenise, tokenise_rendered
from geko_engine.exceptions import RunError
from geko_engine.quality.issues import DUPLICATE, Issue
from geko_engine.quality.label_issues import LIKELY, LOOK
from geko_engine.runs.sample_texts import write_sample_texts
from geko_engine.selection.history import History
from geko_engine.selection.sample_reasons import NOT_REACHED
from geko_engine.selection.sample_records import SampleStates
from geko_engine.storage.atomic_files import replace_json
from tests.app.sample_runs import new_run, write_issues, write_record, write_texts
from tests.app.samples.test_flags import flag_all
from tests.engine.conftest import character_tokenizer


def read(store: RunStore, **options: Any) -> Samples:
    return SampleStore(store).samples(new_run(store, **options).id)


def rows(found: dict[str, Any]) -> list[int]:
    return [line["row"] for line in found["lines"]]


def ask(samples: Samples, flagged: set[int] | None = None, **query: Any) -> dict[str, Any]:
    return sample_views.lines(samples, Query(**query), flagged or set())


def test_files_are_read_again_only_when_one_of_them_has_changed(store: RunStore) -> None:
    folder, samples = new_run(store, epochs=1), SampleStore(store)
    first, version = samples.samples(folder.id), samples.version(folder.id)
    assert samples.samples(folder.id) is first and samples.version(folder.id) == version
    write_record(folder, 8, 2)
    again = samples.samples(folder.id)
    assert samples.version(folder.id) != version and len(again.history["epochs"]) == 2
    assert again.texts is first.texts  # written once, read once


def test_before_the_first_epoch_the_texts_are_there_and_nothing_is_known(store: RunStore) -> None:
    samples = read(store, epochs=0)
    found = ask(samples, sort="loss", down=True)
    assert found["total"] == 8 and {line["loss"] for line in found["lines"]} == {"–"}
    assert sample_views.overview(samples, set())["counts"]["unseen"] == 8
    assert sample_views.opened(samples, 0, set())["path"] == []
    assert "two epochs" in data_map(samples)["note"]


def test_a_run_without_these_files_gets_a_plain_sentence(store: RunStore) -> None:
    folder = new_run(store)
    for path in (folder.rows_path, folder.texts_path, folder.history_path):
        path.unlink()
    with pytest.raises(RunError, match="earlier version") as caught:
        SampleStore(store).samples(folder.id)
    assert str(caught.value) == NOT_KEPT
    folder.samples_path.unlink()
    with pytest.raises(RunError) as caught:
        SampleStore(store).samples(folder.id)
    assert str(caught.value) == NOT_YET
    replace_json(folder.path / "status.json", {"phase": "failed", "end": "failed"})
    with pytest.raises(RunError) as caught:
        SampleStore(store).samples(folder.id)
    assert str(caught.value) == NEVER_READ


@pytest.mark.parametrize("name", ["rows_path", "samples_path", "history_path", "texts_path"])
def test_a_damaged_or_foreign_file_is_a_sentence(store: RunStore, name: str) -> None:
    folder = new_run(store)
    getattr(folder, name).write_bytes(b"not a file of ours")
    with pytest.raises(RunError, match="cannot be read"):
        SampleStore(store).samples(folder.id)


def test_files_of_different_runs_do_not_belong_together(store: RunStore) -> None:
    folder, other = new_run(store), new_run(store, count=12)
    folder.texts_path.write_bytes(other.texts_path.read_bytes())
    with pytest.raises(RunError, match="do not belong together"):
        SampleStore(store).samples(folder.id)


def test_a_line_says_what_the_record_says(store: RunStore) -> None:
    samples = read(store, contradicts=[0, 5, 0, 0, 2, 0, 0, 0])
    known, wrong = ask(samples)["lines"][:2]
    expected = {"row": 1, "bucket": "freeze", "loss": "0.050", "confidence": "0.95", "correct": "yes", "seen": 2}
    assert {name: known[name] for name in expected} == expected and known["step"] == "20" and known["q"] == "0.99"
    assert (known["prompt"], known["answer"], known["issues"]) == ("question 0", "answer 0", [])
    assert wrong["bucket"] == "hard"
    assert [(issue["kind"], issue["severity"]) for issue in wrong["issues"]] == [
        ("conflict", "high"),
        ("worth_a_look", "medium"),
    ]
    explained = sample_views.opened(samples, 1, set())["explained"]
    assert explained[0]["sentence"].startswith("Row 5 has") and explained[0]["other"] == 4
    assert explained[1]["sentence"].startswith("The model finds it unlikely: HARD on 2 visits")


def test_every_column_sorts_both_ways_and_equal_ones_stay_in_the_order_of_the_source(store: RunStore) -> None:
    samples = read(store)
    assert rows(ask(samples, sort="loss", down=True)) == [2, 6, 3, 7, 4, 8, 1, 5]
    assert rows(ask(samples, sort="loss")) == [1, 5, 4, 8, 3, 7, 2, 6]
    for name in SORTS:
        up, down = rows(ask(samples, sort=name)), rows(ask(samples, sort=name, down=True))
        assert sorted(up) == sorted(down) == list(range(1, 9))
    assert rows(ask(samples, sort="no such column")) == list(range(1, 9))


def test_filters_count_what_they_show(store: RunStore) -> None:
    samples = read(store, truncated=[0, 0, 1, 0, 0, 0, 0, 0], contradicts=[5, 0, 0, 0, 1, 0, 0, 0])
    flagged = {4, 8, 99}
    counts = sample_views.overview(samples, flagged)["counts"]
    shown = {name: rows(ask(samples, flagged, filter=name)) for name in FILTERS}
    assert counts == {name: len(found) for name, found in shown.items()}
    assert shown["hard"] == shown["worth_a_look"] == [2, 6] and shown["freeze"] == [1, 5] and shown["focus"] == [3, 7]
    assert shown["suspicious"] == [1, 2, 3, 5, 6] and shown["truncated"] == [3] and shown["flagged"] == [4, 8]


def test_search_finds_text_whatever_its_case_together_with_a_filter(store: RunStore) -> None:
    samples = read(store, count=2500)  # more than one group of rows in the file
    assert rows(ask(samples, text="QUESTION 2400")) == [2401]
    assert ask(samples, text="answer 24", filter="hard")["total"] == len(
        [i for i in range(1, 2500, 4) if "answer 24" in f"answer {i}"]
    )
    assert ask(samples, text="%.*")["total"] == 0  # no pattern, plain text
    assert sample_views.opened(samples, 2400, set())["pieces"] == [("question 2400\n", False), ("answer 2400", True)]


def test_pages_hold_fifty_lines_and_a_page_beyond_the_end_is_the_last_one(store: RunStore) -> None:
    samples = read(store, count=120)
    found = [ask(samples, page=page) for page in (0, 1, 2, 10**9)]
    assert [len(part["lines"]) for part in found] == [50, 50, 20, 20]
    assert (found[0]["pages"], found[3]["page"], found[0]["total"]) == (3, 2, 120)
    nothing = ask(samples, text="nowhere")
    assert (nothing["lines"], nothing["total"], nothing["page"], nothing["pages"]) == ([], 0, 0, 1)


def test_an_opened_sample_has_its_path_and_the_visit_since_the_last_epoch(store: RunStore) -> None:
    folder = new_run(store, epochs=2)
    found = sample_views.opened(SampleStore(store).samples(folder.id), 1, set())
    assert [(p["epoch"], p["loss"], p["bucket"], p["correct"]) for p in found["path"]] == [
        (1, 6.0, "hard", False),
        (2, 6.0, "hard", False),
    ]
    assert found["why"].startswith("HARD") and found["size"] == "12 tokens, 4 of them learned"
    write_record_later(folder)
    path = sample_views.opened(SampleStore(store).samples(folder.id), 1, set())["path"]
    assert [(p["epoch"], p["loss"]) for p in path] == [(1, 6.0), (2, 6.0), (3, 0.25)]
    json.dumps(path, allow_nan=False)


def write_record_later(folder: Any) -> None:
    """One more visit of sample 1 after the last whole epoch."""
    from geko_engine.config.run_config import RunConfig
    from geko_engine.selection.sample_records import SampleStates

    states = SampleStates(8)
    states.load(folder.samples_path)
    one = [np.array([value]) for value in (0.25, 0.9, True, 0.9)]
    states.record(np.array([1]), *one, step=25, config=RunConfig.demo().geko)
    states.save(folder.samples_path)


def test_the_map_holds_mean_and_spread_and_a_fixed_choice(store: RunStore) -> None:
    samples = read(store, count=6000, epochs=3)
    found = data_map(samples)
    ids = [index for trace in found["traces"] for index in trace["id"]]
    assert len(ids) == 5000 == len(set(ids)) and "fixed random sample of 5,000" in found["note"]
    freeze = found["traces"][0]
    assert set(freeze["x"]) == {0.0} and freeze["y"][0] == pytest.approx(np.exp(-0.05), abs=1e-3)
    assert found == data_map(samples) and {index % 4 for index in freeze["id"]} == {0}
    few = data_map(read(store, count=8))
    assert sum(len(trace["id"]) for trace in few["traces"]) == 8 and "All of them" in few["note"]


def test_flags_are_kept_beside_the_run_and_a_damaged_file_counts_as_none(store: RunStore) -> None:
    folder = new_run(store)
    assert flagged_rows(folder) == set()
    assert set_flags(folder, [3, 5], flagged=True) == 2 and set_flags(folder, [5], flagged=True) == 2
    assert set_flags(folder, [3], flagged=False) == 1 and flagged_rows(folder) == {5}
    assert [p.name for p in folder.path.iterdir() if "tmp" in p.name or "writing" in p.name] == []
    (folder.path / "row_flags.json").write_text('{"rows": "all"', encoding="utf-8")
    assert flagged_rows(folder) == set()


def test_flags_that_version_1_kept_are_read_and_written_under_the_new_name(store: RunStore) -> None:
    folder = new_run(store)
    (folder.path / "marks.json").write_text('{"rows": [3]}', encoding="utf-8")
    assert flagged_rows(folder) == {3} and as_settings(folder)["data.row_flags"].endswith("marks.json")
    before = flags_version(folder)
    assert set_flags(folder, [5], flagged=True) == 2 and flagged_rows(folder) == {3, 5}
    assert flags_version(folder) != before and as_settings(folder)["data.row_flags"].endswith("row_flags.json")


TOKENIZER = character_tokenizer()
SHAPES: dict[str, tuple[Format, list[dict[str, Any]]]] = {
    "pair": (
        PromptCompletion("question", "answer"),
        [{"question": "a\n\n", "answer": " b\n"}, {"question": "", "answer": "c"}, {"question": "d", "answer": "e"}],
    ),
    "text": (PlainText("body"), [{"body": "one\n"}, {"body": "two"}, {"body": "three"}]),
    "conversation": (
        Conversation("talk"),
        [
            {"talk": [{"from": "human", "value": w}, {"from": "gpt", "value": w * 2}, {"from": "human", "value": "?"}]}
            for w in ("a", "b", "c")
        ],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cleaned_dataset_trains_as_the_rows_did(store: RunStore, tmp_path: Path, shape: str) -> None:
    """Exported, detected without a setting, tokenised: the same tokens as before, without the flagged row."""
    format, data = SHAPES[shape]
    from geko_engine.data.formats import PLAIN_TEMPLATE

    TOKENIZER.chat_template = PLAIN_TEMPLATE
    folder = new_run(store, count=3, epochs=0)
    rendered = RenderedRows(data, format, TOKENIZER)
    before = tokenise_rendered(rendered, 1000)
    write_sample_texts(folder.path, rendered, before)
    set_flags(folder, [2], flagged=True)
    assert write_dataset(SampleStore(store).samples(folder.id), tmp_path / "clean.jsonl") == (2, 0)
    rows = load_rows(DataConfig(train=str(tmp_path / "clean.jsonl")))
    after = tokenise(rows, recognise(rows, DataConfig(train="x")), TOKENIZER, 1000)
    assert [after[i]["input_ids"].tolist() for i in (0, 1)] == [before[i]["input_ids"].tolist() for i in (0, 2)]
    assert [after[i]["labels"].tolist() for i in (0, 1)] == [before[i]["labels"].tolist() for i in (0, 2)]


def test_the_tools_of_a_conversation_are_exported_with_it(store: RunStore, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "get_weather", "description": "", "parameters": {}}}]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = {"messages": turns, "tools": tools}
    folder = new_run(store, count=1, epochs=0)
    rendered = RenderedRows([row], recognise([row], DataConfig(train="x"), TOKENIZER), TOKENIZER)
    write_sample_texts(folder.path, rendered, tokenise_rendered(rendered, 1000))
    write_dataset(SampleStore(store).samples(folder.id), tmp_path / "clean.jsonl")
    assert json.loads((tmp_path / "clean.jsonl").read_text(encoding="utf-8")) == row


def test_a_text_that_is_not_whole_is_not_exported(store: RunStore, tmp_path: Path) -> None:
    folder = new_run(store, count=2, epochs=0)
    import pyarrow.parquet as parquet

    table = parquet.read_table(folder.texts_path)
    cut = table.set_column(3, "cut", [[True, False]])
    parquet.write_table(cut.replace_schema_metadata({"layout": "pair"}), folder.texts_path)
    assert write_dataset(SampleStore(store).samples(folder.id), tmp_path / "out.jsonl") == (1, 1)
    assert exported({"text": "a\nb", "learnt": [2, 3]}, "pair") == {"prompt": "a", "completion": "b"}


def test_the_list_is_a_csv_that_no_spreadsheet_runs(store: RunStore, tmp_path: Path) -> None:
    folder = new_run(store)
    write_texts(folder, [("=1+1", "x"), *[("-2", "y")] * 7], truncated=[1, 0, 0, 0, 0, 0, 0, 0])
    samples = SampleStore(store).samples(folder.id)
    assert write_list(sample_views.suspicious_list(samples, {8}), tmp_path / "list.csv") == 4
    with (tmp_path / "list.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(line["row"], line["flagged"]) for line in found] == [("1", "no"), ("2", "no"), ("6", "no"), ("8", "yes")]
    assert (found[0]["prompt"], found[0]["answer"], found[0]["issues"]) == ("'=1+1", "x", "Truncated")


def test_texts_of_any_group_of_rows_are_found(store: RunStore) -> None:
    texts = Texts(new_run(store, count=2100, epochs=0).texts_path)
    for index in (0, 999, 1000, 1999, 2000, 2099):
        assert texts.one(index)["text"] == f"question {index}\nanswer {index}"
    assert texts.pairs(np.array([2099, 0])) == [("question 2099", "answer 2099"), ("question 0", "answer 0")]


STRANGE: list[Any] = [
    None,
    [],
    "x",
    7,
    {"run": "../../etc"},
    {"run": None, "ids": "all", "page": -3, "id": 1e99, "sort": ["row"], "filter": {}, "down": "yes"},
    {"run": "/", "id": -1, "ids": [None, "1", True, 10**9], "all": "yes"},
]


@pytest.mark.parametrize("query", STRANGE)
def test_whatever_a_visitor_sends_the_answer_is_a_sentence_or_nothing_happens(store: RunStore, query: Any) -> None:
    folder = new_run(store)
    functions = {f.__name__: f for f in sample_endpoints(Supervisor(store), SampleStore(store), IssueChecks())}
    for name, function in functions.items():
        assert isinstance(function(query), dict), name
    known = {**(query if isinstance(query, dict) else {}), "run": folder.id}
    for function in functions.values():
        json.dumps(function(known), allow_nan=False)
    assert flagged_rows(folder) == set() and query_of(query).page >= 0


def test_a_poll_reads_nothing_while_nothing_has_changed_and_flags_of_another_tab_are_news(store: RunStore) -> None:
    folder = new_run(store)
    functions = {f.__name__: f for f in sample_endpoints(Supervisor(store), SampleStore(store), IssueChecks())}
    first = functions["pull"]({})
    assert first["run"] == folder.id and first["counts"]["hard"] == 2
    again = functions["pull"]({"version": first["version"]})
    assert "counts" not in again and again["version"] == first["version"]
    assert functions["flag_samples"]({"run": folder.id, "ids": [1, 99, -1], "flagged": True})["count"] == 1
    news = functions["pull"]({"version": first["version"]})
    assert news["counts"]["flagged"] == 1 and "without the 1 flagged row;" in news["export"]
    flag_all(functions, folder, flagged=True, filter="freeze")
    assert flagged_rows(folder) == {1, 2, 5}
    assert "without the 3 flagged rows;" in functions["pull"]({})["export"]
    flag_all(functions, folder, flagged=False, text="question 0")
    assert flagged_rows(folder) == {2, 5}


def test_issues_of_the_texts_and_of_the_record_come_together_the_most_severe_first(store: RunStore) -> None:
    folder = new_run(store, truncated=[1, 0, 0, 0, 0, 0, 0, 0])
    found = [Issue(1, LIKELY, 0.97, note="answer 7"), Issue(2, LOOK, 0.2, note="x"), Issue(3, DUPLICATE, other=0)]
    write_issues(folder, 8, found, expected_precision=0.97)
    samples = SampleStore(store).samples(folder.id)
    counts = sample_views.overview(samples, set())["counts"]
    # Samples 1 and 5 are suspects of the noise guard; the first of them is graded by the text classifier.
    expected = {"likely_mislabeled": 1, "worth_a_look": 2, "duplicate": 1, "truncated": 1, "suspicious": 5}
    assert {name: counts[name] for name in expected} == expected
    assert rows(ask(samples, filter="suspicious", sort="severity", down=True)) == [2, 1, 6, 3, 4]
    chip = ask(samples)["lines"][1]["issues"][0]
    assert (chip["label"], chip["note"]) == ("Likely mislabeled", "97 % likely to be wrong; expected: answer 7")
    assert "Expected precision of “Likely mislabeled”: 97 %" in sample_views.overview(samples, set())["check"]


def test_a_sample_that_was_never_trained_on_says_why(store: RunStore) -> None:
    folder = new_run(store, epochs=0)
    samples = SampleStore(store).samples(folder.id)
    assert sample_views.opened(samples, 0, set())["never_trained"] == NOT_REACHED
    assert sample_views.overview(samples, set())["counts"]["never_trained"] == 8
    write_record(folder, 8, 1)
    samples = SampleStore(store).samples(folder.id)
    assert sample_views.opened(samples, 0, set())["never_trained"] == ""
    assert sample_views.overview(samples, set())["counts"]["never_trained"] == 0


def test_old_scores_say_from_which_step_they_are(store: RunStore) -> None:
    folder = new_run(store, epochs=2)
    assert "Loss and confidence are from step 20 (epoch 2)." in notes_of(store, folder.id, 1)
    states, history = SampleStates(8), History(8)
    states.load(folder.samples_path)
    history.load(folder.history_path)
    history.append(states, epoch=3, step=30)  # nothing was visited in the third epoch
    history.save(folder.history_path)
    assert "Loss and confidence are from step 20 (epoch 2), and it was skipped in 1 later epoch." in notes_of(
        store, folder.id, 1
    )


def notes_of(store: RunStore, run: str, index: int) -> list[str]:
    return sample_views.opened(SampleStore(store).samples(run), index, set())["notes"]
