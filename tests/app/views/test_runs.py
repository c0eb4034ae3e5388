"""The parts of the Runs page: facts from a folder, the list and its changes, comparison, notes, and the zip of a model."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from geko_app.formatting import format_bytes, run_name
from geko_app.pages.dashboard import partner_of
from geko_app.pages.runs import _action_endpoints, _comparison_endpoints, _detail_endpoints, _list_endpoints
from geko_app.runs.store import RunStore
from geko_app.runs.summary import (
    LOG_LINES,
    NOTE_LIMIT,
    FactsReader,
    RunFacts,
    flat,
    folder_size,
    log_tail,
    read_note,
    write_note,
)
from geko_app.views import charts, runs
from geko_app.views.corrections_worth import NO_EVALUATION, worth_sentence
from geko_app.views.paired import CAUTION
from geko_app.views.run_summary import loading_code
from geko_app.views.runs import RunTable
from geko_app.workers.model_downloads import MAX_KEPT, ModelDownloads
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.reporting.events import Evaluated, RunEnded
from geko_engine.runs.evaluation_scores import save
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.writer import RunWriter, mark_interrupted
from geko_engine.storage.atomic_files import replace_json
from tests.app.sample_runs import new_run
from tests.app.views.test_corrections_worth import EDIT, evaluate, retrained
from tests.app.views.test_dashboard import STARTED, fold, step

REPORT = {
    "end": "complete",
    "samples": 40,
    "epochs": 2,
    "epochs_done": 2,
    "steps": 100,
    "tokens_backwarded": 8000,
    "compute_saved_ratio": 0.25,
    "eval_loss_before": 0.8,
    "eval_loss_after": 0.5,
    "exact_match_before": 0.5,
    "exact_match_after": 0.75,
    "train_loss": 0.6,
    "seconds": 12.0,
}


def events(*, steps: int) -> list[Any]:
    before, after = Evaluated(0, 0, 0.8, 0.5, 10, 0, 0.3), Evaluated(steps, 1, 0.5, 0.75, 10, 80 * steps, 0.3)
    return [STARTED, before, *[step(i) for i in range(1, steps + 1)], after]


def ended(store: RunStore, config: RunConfig, end: str = "complete", steps: int = 100) -> RunFolder:
    """A run that has gone to its end, as its worker would have written it."""
    folder = store.create(config)
    with RunWriter(folder) as write:
        for event in events(steps=steps):
            write(event)
        replace_json(folder.report_path, {**REPORT, "end": end})
        write(RunEnded(end, "as ordered", {**REPORT, "end": end}))
    return folder


def killed(store: RunStore, config: RunConfig, steps: int = 100) -> RunFolder:
    """A run whose worker wrote no end."""
    folder = store.create(config)
    with RunWriter(folder) as write:
        for event in events(steps=steps):
            write(event)
    replace_json(folder.path / "status.json", {"phase": "training", "pid": 2**22 + 1, "pid_started": 1.0})
    mark_interrupted(folder, "killed")
    return folder


@pytest.fixture
def functions(store: RunStore) -> dict[str, Callable[[Any], Any]]:
    """The public endpoints of the page, by name."""
    supervisor = Supervisor(store)
    table, downloads = RunTable(supervisor), ModelDownloads(store.root)
    made = [
        *_list_endpoints(table),
        *_comparison_endpoints(supervisor, table.reader),
        *_detail_endpoints(supervisor, table.reader),
        *_action_endpoints(supervisor, downloads),
    ]
    return {function.__name__: function for function in made}


def test_facts_of_an_ended_run_are_those_of_its_report(store: RunStore, config: RunConfig) -> None:
    facts = FactsReader().facts(ended(store, config))
    for name in ("samples", "steps", "compute_saved_ratio", "eval_loss_before", "eval_loss_after", "seconds"):
        assert getattr(facts, name) == REPORT[name]
    assert (facts.model, facts.data, facts.phase, facts.reason, facts.tokens) == (
        "demo",
        "demo",
        "complete",
        "as ordered",
        8000,
    )


def test_facts_of_a_killed_run_come_from_both_ends_of_its_events(store: RunStore, config: RunConfig) -> None:
    folder = killed(store, config, steps=1000)
    assert folder.events_path.stat().st_size > 300_000  # far more than is read
    replace_json(folder.report_path, {**REPORT, "steps": 7})  # of a stop long ago
    facts = FactsReader().facts(folder)
    assert (facts.phase, facts.end, facts.samples, facts.steps) == ("interrupted", "interrupted", 40, 1000)
    assert (facts.eval_loss_before, facts.eval_loss_after, facts.exact_match_after) == (0.8, 0.5, 0.75)
    assert facts.seconds == 1000 and facts.compute_saved_ratio == 0.2


def test_what_is_no_configuration_or_no_event_does_not_take_the_list_down(store: RunStore, config: RunConfig) -> None:
    folder = ended(store, config)
    folder.config_path.write_text("model: [\n", encoding="utf-8")
    folder.report_path.write_text("{", encoding="utf-8")
    folder.events_path.write_text("{\n[]\n", encoding="utf-8")
    facts = FactsReader().facts(folder)
    assert facts.model == "" and facts.samples is None and facts.phase == "complete"
    assert runs.run_row(facts)["cells"]["loss"]["text"] == "–"


def test_a_tab_gets_the_lines_that_changed_since_it_last_asked(store: RunStore, config: RunConfig) -> None:
    first, table = ended(store, config), RunTable(Supervisor(store))
    news = table.changes("", 0)
    assert news["ids"] == [first.id] and len(news["rows"]) == 1
    again = table.changes(news["generation"], news["number"])
    assert again["ids"] is None and again["rows"] == []

    second = ended(store, config, "stopped")
    more = table.changes(news["generation"], news["number"])
    assert set(more["ids"]) == {first.id, second.id} and [line["id"] for line in more["rows"]] == [second.id]

    write_note(first, "the best one")
    noted = table.changes(more["generation"], more["number"])
    assert [line["cells"]["name"]["second"] for line in noted["rows"]] == ["the best one"] and noted["ids"] is None

    store.delete(second.id)
    assert table.changes(noted["generation"], noted["number"])["ids"] == [first.id]
    assert len(table.changes("of another page", 3)["rows"]) == 1


def test_a_run_that_goes_is_read_anew(store: RunStore, config: RunConfig) -> None:
    folder, table = store.create(config), RunTable(Supervisor(store))
    with RunWriter(folder) as write:
        for event in events(steps=10):
            write(event)
        (line,) = table.changes("", 0)["rows"]
        assert line["going"] and line["cells"]["status"]["text"] == "Starting 10 %"
        write(step(20))
        assert table.changes("", 0)["rows"][0]["cells"]["status"]["text"] == "Starting 20 %"


def test_a_run_whose_process_is_gone_is_listed_as_interrupted(store: RunStore, config: RunConfig) -> None:
    table, folder = RunTable(Supervisor(store)), store.create(config)
    replace_json(folder.path / "status.json", {"phase": "training", "pid": 2**22 + 1, "pid_started": 1.0})
    (line,) = table.changes("", 0)["rows"]
    assert line["phase"] == "interrupted" and line["ended"]
    assert "Press Resume" in table.changes("", 0)["rows"][0]["cells"]["status"]["second"]


def test_a_plain_run_is_the_baseline_of_the_newest_run_before_it_with_the_same_settings(store: RunStore) -> None:
    def facts(name: str, made: float, twin: str, *, plain: bool) -> RunFacts:
        return RunFacts(id=name, made=made, twin=twin, plain=plain)

    runs_of_today = [
        facts("a", 1, "x", plain=False),
        facts("b", 2, "x", plain=False),
        facts("c", 3, "x", plain=True),
        facts("d", 4, "y", plain=True),
        facts("e", 5, "y", plain=False),
        facts("f", 6, "z", plain=True),
        facts("g", 7, "", plain=True),
    ]
    assert runs.baselines(runs_of_today) == {"c": "b", "d": "e"}


def test_the_list_puts_a_run_and_its_baseline_together_whatever_their_folders(
    store: RunStore, config: RunConfig, tmp_path: Path
) -> None:
    run = ended(store, config)
    config.geko.enabled, config.output_dir = False, str(tmp_path / "elsewhere")
    plain = ended(store, config)
    config.training.seed += 1
    other = ended(store, config)
    rows = {row["id"]: row["baseline_of"] for row in RunTable(Supervisor(store)).changes("", 0)["rows"]}
    assert rows == {run.id: "", plain.id: run.id, other.id: ""}


def test_a_run_and_its_baseline_name_each_other(store: RunStore, config: RunConfig) -> None:
    supervisor, reader = Supervisor(store), FactsReader()
    run = ended(store, config)
    assert partner_of(supervisor, reader, run.id) is None
    config.geko.enabled = False
    plain = ended(store, config)
    for one, other in ((run, plain), (plain, run)):
        found = partner_of(supervisor, reader, one.id)
        assert found is not None and (found.id, found.end) == (other.id, "complete")
    assert partner_of(supervisor, reader, "nowhere") is None


def test_name_and_tags_are_saved_and_the_line_says_so(
    functions: dict[str, Callable], store: RunStore, config: RunConfig
) -> None:
    folder = ended(store, config)
    news = functions["changes"]({})
    label = {"run": folder.id, "name": "the best", "tags": ["banking", 7, "banking"]}
    assert functions["keep_label"](label) == {"error": ""}
    (line,) = functions["changes"](news)["rows"]
    assert (line["name"], line["own_name"], line["tags"]) == ("the best", "the best", ["banking"])
    assert functions["opened"]({"run": folder.id})["name"] == "the best"
    assert functions["curves"]({"runs": [folder.id]})["runs"][0]["name"] == "the best"
    assert "remove one first" in functions["keep_label"]({**label, "tags": [str(i) for i in range(99)]})["error"]


def test_a_run_that_the_user_stopped_says_so_in_its_title(store: RunStore, config: RunConfig) -> None:
    folder = store.create(config)
    replace_json(folder.path / "status.json", {"phase": "stopped", "end": "stopped", "reason": "Stopped by user."})
    status = runs.run_row(FactsReader().facts(folder))["cells"]["status"]
    assert (status["text"], status["second"]) == ("Stopped by user", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(400, "400 B"), (52_000, "52 kB"), (999_900, "1 MB"), (14_900_000, "14.9 MB"), (3.14e9, "3.14 GB")],
)
def test_sizes_have_three_digits(value: int, text: str) -> None:
    assert format_bytes(value) == text


def test_the_size_counts_files_and_not_what_links_point_to(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "big").write_bytes(bytes(9000))
    (tmp_path / "a" / "x").write_bytes(bytes(10))
    (tmp_path / "a" / "b" / "y").write_bytes(bytes(20))
    size = folder_size(tmp_path / "a")
    assert size == 30
    (tmp_path / "a" / "link").symlink_to(tmp_path / "big")
    assert size <= folder_size(tmp_path / "a") < 9000


def test_only_settings_that_differ_are_listed() -> None:
    one, two = RunConfig.demo(), RunConfig.demo()
    two.training.learning_rate, two.lora.enabled = 1e-4, True
    lines = runs.differing_settings([flat(one.to_dict()), flat(two.to_dict())])
    assert lines == [["lora.enabled", "false", "true"], ["training.learning_rate", "0.0007", "0.0001"]]
    assert runs.differing_settings([{"a": 1}, {}]) == [["a", "1", "–"]]


def test_curves_come_by_steps_tokens_and_seconds_and_are_thinned() -> None:
    state = fold(*events(steps=5000))
    curve = runs.curve(state)
    points, evaluations = curve["points"], curve["evaluations"]
    assert len(points["step"]) <= runs.CURVE_POINTS + 1 and points["step"][-1] == 5000
    assert points["tokens"][-1] == 80 * 5000 and points["seconds"][-1] == 5000
    assert evaluations == {"step": [0, 5000], "tokens": [0, 400_000], "seconds": [0, 5000], "loss": [0.8, 0.5]}


def test_a_tab_is_sent_only_the_curves_that_it_has_not(
    functions: dict[str, Callable], store: RunStore, config: RunConfig
) -> None:
    ids = [ended(store, config).id, killed(store, config).id]
    data = functions["curves"]({"runs": [*ids, "../etc", "nowhere", *ids], "drawn": None})
    assert [run["id"] for run in data["runs"]] == ids and all(run["curve"] for run in data["runs"])
    assert data["figures"][0] == ["Status", "Complete", "Interrupted"] and data["differences"] == []
    drawn = {ids[0]: data["runs"][0]["key"], ids[1]: "stale"}
    again = functions["curves"]({"runs": ids, "drawn": drawn})
    assert [run["curve"] is None for run in again["runs"]] == [True, False]
    assert json.dumps(data, allow_nan=False)


def test_two_runs_on_the_same_evaluation_rows_are_compared_row_by_row(
    functions: dict[str, Callable], store: RunStore, config: RunConfig
) -> None:
    older, newer = ended(store, config), ended(store, config)
    rows = np.arange(40)
    for folder, correct in ((older, rows < 10), (newer, rows < 30)):
        save(
            folder.evaluation_path,
            digest=rows.astype(np.uint64),
            loss_sum=np.where(correct, 0.1, 2.0),
            targets=np.ones(40),
            correct=correct,
            step=100,
        )
    (said,) = functions["curves"]({"runs": [older.id, newer.id]})["sentences"]
    assert "On 40 evaluation rows that both answered" in said and "50.0 points more exactly" in said
    assert said.index(run_name(newer.id)) < said.index(run_name(older.id)), (
        "the newer one gains, whichever was chosen first"
    )
    newer.evaluation_path.write_bytes(b"")
    assert functions["curves"]({"runs": [older.id, newer.id]})["sentences"] == []


def test_a_run_with_corrections_is_compared_with_the_run_that_they_are_from(
    functions: dict[str, Callable], store: RunStore
) -> None:
    earlier, later = retrained(store, EDIT)
    other = new_run(store)
    for folder, right, tokens in ((earlier, 100, 1000), (later, 120, 120), (other, 100, 1000)):
        evaluate(folder, right, tokens)
    for ids in ([earlier.id, later.id], [later.id, earlier.id]):
        (said,) = functions["curves"]({"runs": ids})["sentences"]
        assert said == (f"{run_name(later.id)} was made from {run_name(earlier.id)}. {worth_sentence(later)} {CAUTION}")
    (said,) = functions["curves"]({"runs": [other.id, later.id]})["sentences"]
    assert "that both answered" in said and "edited" not in said
    assert functions["curves"]({"runs": [earlier.id, later.id, other.id]})["sentences"] == []


def test_a_run_with_corrections_and_no_evaluation_says_what_is_missing(
    functions: dict[str, Callable], store: RunStore
) -> None:
    earlier, later = retrained(store, EDIT)
    (said,) = functions["curves"]({"runs": [earlier.id, later.id]})["sentences"]
    assert said.endswith(f". 1 edited row. {NO_EVALUATION}")


def test_the_chart_has_a_colour_for_each_run_in_both_themes() -> None:
    chart = charts.compare()
    for theme in ("light", "dark"):
        assert len(set(chart[theme]["colors"])) == charts.RUNS_AT_ONCE
        assert chart[theme]["layout"]["showlegend"] and set(chart["axes"]) == {"step", "tokens", "seconds"}


@pytest.mark.parametrize("query", [None, 7, [], {}, {"run": None}, {"run": "../x"}, {"runs": "x"}, {"runs": [1, None]}])
def test_whatever_a_visitor_sends_nothing_breaks_and_nothing_is_done(
    functions: dict[str, Callable], store: RunStore, config: RunConfig, query: Any
) -> None:
    folder = ended(store, config)
    for function in functions.values():
        json.dumps(function(query))
    assert store.ids() == [folder.id] and functions["opened"](query) is None


def test_the_secret_of_a_webhook_is_not_shown(
    functions: dict[str, Callable], store: RunStore, config: RunConfig
) -> None:
    config.training.webhook_url = "https://hooks.example.org/services/s3cret?token=s3cret"
    with_hook = ended(store, config)
    config.training.webhook_url = ""
    without = ended(store, config)
    opened = functions["opened"]({"run": with_hook.id})
    shown = {**yaml.safe_load(with_hook.config_path.read_text(encoding="utf-8"))}
    assert shown["training"]["webhook_url"].endswith("s3cret")
    shown["training"]["webhook_url"] = "https://hooks.example.org/…"
    assert yaml.safe_load(opened["config"]) == shown
    compared = functions["curves"]({"runs": [with_hook.id, without.id]})
    assert ["training.webhook_url", "https://hooks.example.org/…", ""] in compared["differences"]
    assert "s3cret" not in json.dumps([opened, compared])


def test_an_opened_run_says_where_everything_is(
    functions: dict[str, Callable], store: RunStore, config: RunConfig
) -> None:
    folder = ended(store, config)
    opened = functions["opened"]({"run": folder.id})
    assert opened["command"] == f"geko-train {folder.config_path.resolve()}" and opened["model"] == ""
    assert RunConfig.from_yaml(folder.config_path).to_yaml() == opened["config"]
    assert not opened["resumable"] and not opened["stoppable"] and opened["deletable"] and opened["report"]
    folder.model_path.mkdir()
    assert functions["opened"]({"run": folder.id})["model"] == str(folder.model_path)
    assert functions["opened"]({"run": killed(store, config).id})["resumable"]
    assert json.loads(functions["report"]({"run": folder.id})) == REPORT


def test_a_note_is_kept_with_the_run_and_bounded(
    functions: dict[str, Callable], store: RunStore, config: RunConfig
) -> None:
    folder = ended(store, config)
    note = "Wörter\nsecond line <b>"
    assert functions["keep_note"]({"run": folder.id, "text": f" {note}\n"}) == {"error": ""}
    assert read_note(folder) == note
    assert "Shorten it" in functions["keep_note"]({"run": folder.id, "text": "x" * (NOTE_LIMIT + 1)})["error"]
    assert read_note(folder) == note
    assert functions["keep_note"]({"run": folder.id, "text": "\ud800"}) == {"error": ""}  # half a character
    functions["keep_note"]({"run": folder.id, "text": ""})
    assert not (folder.path / "note.txt").exists() and not list(folder.path.glob(".note*"))


def test_only_the_end_of_a_log_is_sent(store: RunStore, config: RunConfig) -> None:
    folder = store.create(config)
    assert log_tail(folder) == ""
    folder.log_path.write_bytes(b"\xff\n" + b"".join(b"line %d\n" % i for i in range(100_000)))
    lines = log_tail(folder).split("\n")
    assert len(lines) == LOG_LINES and lines[-1] == "line 99999"


# ---------------------------------------------------------------- the zip of a model


@pytest.fixture
def modelled(store: RunStore, config: RunConfig) -> RunFolder:
    folder = store.create(config)
    (folder.model_path / "parts").mkdir(parents=True)
    (folder.model_path / "config.json").write_text("{}", encoding="utf-8")
    (folder.model_path / "parts" / "weights").write_bytes(bytes(3_000_000))
    (folder.model_path / "outside").symlink_to("/etc/hostname")
    return folder


def test_the_zip_holds_the_model_once_and_leaves_nothing(store: RunStore, modelled: RunFolder) -> None:
    before = sorted(store.root.iterdir())
    downloads = ModelDownloads(store.root)
    key = downloads.pack(modelled)
    packed = downloads.take(key)
    assert packed is not None and downloads.take(key) is None and downloads.take("guess") is None
    content = b"".join(packed.chunks())
    assert len(content) == packed.size and packed.file.closed and sorted(store.root.iterdir()) == before
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        top = f"{modelled.id}-model"
        assert sorted(archive.namelist()) == [f"{top}/config.json", f"{top}/parts/weights"]
        assert len(archive.read(f"{top}/parts/weights")) == 3_000_000


def test_zips_that_nobody_fetches_do_not_pile_up(store: RunStore, modelled: RunFolder) -> None:
    downloads = ModelDownloads(store.root)
    keys = [downloads.pack(modelled) for _ in range(MAX_KEPT + 2)]
    assert downloads.take(keys[1]) is None
    packed = downloads.take(keys[2])
    assert packed is not None
    packed.file.close()
    downloads.shutdown()
    assert downloads.take(keys[-1]) is None


def test_a_run_without_a_model_has_no_zip(store: RunStore, config: RunConfig) -> None:
    with pytest.raises(RunError, match="no model yet"):
        ModelDownloads(store.root).pack(store.create(config))


def test_the_code_that_loads_a_model_fits_what_was_saved(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    assert loading_code(tmp_path).count("AutoModelForCausalLM.from_pretrained") == 1
    (tmp_path / "adapter_config.json").touch()
    adapter = loading_code(tmp_path)
    assert "AutoPeftModelForCausalLM" in adapter and "BitsAndBytesConfig" not in adapter
    (tmp_path / "fits_4bit_only.json").touch()  # LoftQ's
    in_4bit = loading_code(tmp_path)
    assert f"from_pretrained({str(tmp_path)!r}, quantization_config=bits)" in in_4bit
    for code in (adapter, in_4bit):
        compile(code, "code", "exec")
