"""Wrong samples by the API: found, decided, taken as a dataset, and trained on again. Real run folders, a real page."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from geko_app.api.corrections import CorrectionOperations
from geko_app.api.operations import RunOperations
from geko_app.api.rest import PREFIX
from geko_app.runs.store import RunStore
from geko_app.samples.core_set import read_subset
from geko_app.services import Services
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import RunError
from geko_engine.quality.issues import CONFLICT, Issue
from geko_engine.quality.label_issues import LIKELY
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.issue_check import issues_path
from geko_engine.storage.atomic_files import replace_json
from tests.app.api.conftest import AUTHORIZED
from tests.app.api.test_mcp import call, refusal
from tests.app.api.test_rest import SHORT, fields, store_of
from tests.app.sample_runs import new_run, write_issues, write_texts
from tests.app.workers.test_supervisor import wait_for
from tests.browser.conftest import Server

LABELS = ("red", "blue")
ISSUES = [Issue(0, LIKELY, 0.96, note="blue"), Issue(3, LIKELY, 0.92, note="red"), Issue(6, CONFLICT, other=7)]
KEPT, NOTHING = {"kept": 1, "edited": 0, "deleted": 0}, {"kept": 0, "edited": 0, "deleted": 0}


def labeled_run(store: RunStore, **facts: Any) -> RunFolder:
    """A complete run of twelve samples; what is wrong with its rows 1, 4 and 7 is known."""
    folder = new_run(store, count=12, **facts)
    write_texts(folder, [(f"question {i}", f"The color is {LABELS[i % 2]}.") for i in range(12)], **facts)
    write_issues(folder, 12, ISSUES)
    replace_json(folder.path / "status.json", {"phase": "complete", "end": "complete"})
    return folder


@pytest.fixture
def run(api_server: Server) -> RunFolder:
    return labeled_run(store_of(api_server))


Decide = Callable[..., httpx.Response]


@pytest.fixture
def decide(client: httpx.Client, run: RunFolder) -> Decide:
    return lambda samples, action, **more: client.post(
        f"/runs/{run.id}/decisions", json={"samples": samples, "action": action, **more}
    )


def rows_of(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


# ------------------------------------------------------------ decisions
def test_samples_are_decided_and_undone(client: httpx.Client, run: RunFolder, decide: Decide) -> None:
    found = client.get(f"/runs/{run.id}/samples", params={"filter": "likely_mislabeled"}).json()
    assert [sample["id"] for sample in found["samples"]] == [0, 3] and found["check"]
    assert found["check_state"] == "done"
    one = client.get(f"/runs/{run.id}/samples/0").json()
    assert (one["prompt"], one["answer"], one["cannot_edit"]) == ("question 0", "The color is red.", "")
    assert (one["suggested_answer"], one["similar_answer"], one["decision"]) == ("The color is blue.", "", "")
    assert decide([0], "accept").json() == {"rows": 1, "log": {**NOTHING, "edited": 1}}
    assert decide([3, 3], "keep").json()["log"] == {**KEPT, "edited": 1}
    assert decide([6, 7], "delete").json() == {"rows": 2, "log": {"kept": 1, "edited": 1, "deleted": 2}}
    assert decide([9], "replace", answer="The color is green.", prompt="question nine").status_code == 200
    listed = client.get(f"/runs/{run.id}/decisions").json()
    assert (listed["total"], listed["log"]) == (5, {"kept": 1, "edited": 2, "deleted": 2})
    by_row = {made["row"]: made for made in listed["decisions"]}
    assert (by_row[1]["origin"], by_row[1]["after"]["answer"]) == ("suggested", "The color is blue.")
    assert (by_row[10]["origin"], by_row[10]["sample"], by_row[10]["action"]) == ("program", 9, "replace")
    assert by_row[10]["before"] == {"prompt": "question 9", "answer": "The color is blue."}
    assert by_row[10]["after"] == {"prompt": "question nine", "answer": "The color is green."}
    assert by_row[7]["before"] == by_row[7]["after"] and by_row[7]["at"]
    page = client.get(f"/runs/{run.id}/decisions", params={"limit": 2, "offset": 3}).json()
    assert page["total"] == 5 and [made["row"] for made in page["decisions"]] == [8, 10]
    assert client.get(f"/runs/{run.id}/samples/9").json()["decision"] == "edited"
    assert decide([0, 3, 6, 7, 9], "undo").json() == {"rows": 5, "log": NOTHING}
    assert client.get(f"/runs/{run.id}/decisions").json()["total"] == 0


@pytest.mark.parametrize(
    ("body", "wrong", "said"),
    [
        ({"samples": [1], "action": "mend"}, "action", "'mend' is not one of keep, replace, accept, delete, undo"),
        ({"samples": [], "action": "keep"}, "samples", "at least 1"),
        ({"samples": ["1"], "action": "keep"}, "samples.0", "valid integer"),
        ({"samples": [1], "action": "replace"}, "answer", "give answer, prompt or both"),
        ({"samples": [1, 2], "action": "replace", "answer": "x"}, "samples", "2 samples would get the same text"),
        ({"samples": [1], "action": "replace", "answer": " "}, "answer", "new answer is empty"),
        ({"samples": [1], "action": "replace", "prompt": ""}, "prompt", "new prompt is empty"),
        ({"samples": [1], "action": "replace", "answer": "The color is blue."}, "answer", "the same as before"),
        (
            {"samples": [1], "action": "delete", "answer": "x"},
            "answer",
            "'x' is a new text, which delete has no use for",
        ),
        ({"samples": [1, 0], "action": "accept"}, "samples", "no suggested answer for sample 1:"),
        ({"samples": [1, 2], "action": "undo"}, "samples", "no decision to undo on samples 1, 2:"),
        ({"samples": [1], "action": "keep", "origin": "edited"}, "origin", "not permitted"),
        ({"action": "keep"}, "samples", "required"),
    ],
)
def test_a_decision_that_is_not_possible_names_its_field(
    client: httpx.Client, run: RunFolder, body: Any, wrong: str, said: str
) -> None:
    answer = client.post(f"/runs/{run.id}/decisions", json=body)
    assert (answer.status_code, fields(answer)) == (422, [wrong])
    assert said in answer.json()["detail"], answer.text
    assert not run.corrections_path.exists()


@pytest.mark.parametrize("unknown", [12, -1])
def test_a_sample_that_is_not_there_is_named_and_nothing_is_decided(
    client: httpx.Client, run: RunFolder, decide: Decide, unknown: int
) -> None:
    answer = decide([0, unknown], "delete")
    assert (answer.status_code, fields(answer)) == (404, ["samples"])
    assert f"has no sample {unknown}: it has 12" in answer.json()["detail"]
    assert client.get(f"/runs/{run.id}/decisions").json()["total"] == 0


def test_a_sample_that_is_asked_for_and_not_there_is_named(client: httpx.Client, run: RunFolder) -> None:
    for unknown in ("12", "-1", "first"):
        answer = client.get(f"/runs/{run.id}/samples/{unknown}")
        assert answer.status_code in (404, 422) and fields(answer) == ["sample_id"]


def test_a_row_with_several_samples_is_decided_once_and_as_a_whole(client: httpx.Client, api_server: Server) -> None:
    run = labeled_run(store_of(api_server), row=[1, 1, 1, *range(2, 11)])
    path = f"/runs/{run.id}/decisions"
    refused = client.post(path, json={"samples": [1], "action": "replace", "answer": "x"})
    assert refused.status_code == 409 and "Row 1 gives several samples" in refused.json()["detail"]
    assert client.get(f"/runs/{run.id}/samples/1").json()["cannot_edit"].startswith("Row 1 gives several samples")
    assert client.post(path, json={"samples": [0, 2, 3], "action": "keep"}).json()["rows"] == 2
    assert client.post(path, json={"samples": [1], "action": "delete"}).json()["log"] == {**KEPT, "deleted": 1}
    assert client.post(path, json={"samples": [0, 1, 2], "action": "undo"}).json()["log"] == {**KEPT, "kept": 2}
    (made, _) = client.get(path).json()["decisions"]
    assert (made["row"], made["sample"]) == (1, 0)
    many = client.post(path, json={"samples": list(range(12)), "action": "undo"})
    assert "samples 4, 5, 6, 7, 8, 9, 10, 11:" in many.json()["detail"]


def test_a_run_without_samples_says_why(client: httpx.Client, api_server: Server) -> None:
    run = new_run(store_of(api_server))
    run.rows_path.unlink()
    for path in ("decisions", "dataset", "core-set"):
        answer = client.get(f"/runs/{run.id}/{path}")
        assert answer.status_code == 409 and answer.json()["detail"]


def test_the_first_look_begins_the_check_of_the_texts(client: httpx.Client, api_server: Server) -> None:
    run = labeled_run(store_of(api_server))
    issues_path(run).unlink()
    first = client.get(f"/runs/{run.id}/samples").json()
    assert first["check_state"] == "running" and first["check"].startswith("Checking the texts")
    wait_for(lambda: client.get(f"/runs/{run.id}/samples").json()["check_state"] == "done", "the check")


# ------------------------------------------------------------ dataset and core set
def left_over() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("geko-dataset-*")}


def test_the_dataset_has_the_corrected_rows(client: httpx.Client, run: RunFolder, decide: Decide) -> None:
    before = left_over()
    decide([0], "accept")
    decide(list(range(3, 12)), "delete")
    answer = client.get(f"/runs/{run.id}/dataset")
    assert answer.headers["content-type"] == "application/jsonl" and answer.headers["geko-left-out"] == "0"
    assert answer.headers["content-disposition"] == f'attachment; filename="{run.id}-cleaned.jsonl"'
    assert rows_of(answer) == [
        {"prompt": "question 0", "completion": "The color is blue."},
        {"prompt": "question 1", "completion": "The color is blue."},
        {"prompt": "question 2", "completion": "The color is red."},
    ]
    core = client.get(f"/runs/{run.id}/dataset", params={"rows": "core_set"})
    assert [row["prompt"] for row in rows_of(core)] == ["question 2"]
    assert f"{run.id}-core-set-1-not-checked-by-a-run.jsonl" in core.headers["content-disposition"]
    assert left_over() == before


def test_a_dataset_of_no_rows_is_refused_with_the_way_out(client: httpx.Client, run: RunFolder, decide: Decide) -> None:
    decide(list(range(12)), "delete")
    answer = client.get(f"/runs/{run.id}/dataset")
    assert answer.status_code == 409 and "Undo some of these decisions first" in answer.json()["detail"]


def test_the_core_set_has_its_rows_and_what_is_known_of_it(client: httpx.Client, run: RunFolder) -> None:
    found = client.get(f"/runs/{run.id}/core-set").json()
    assert found["rows"] == [3, 7, 11] and (found["kept"], found["of"], found["share"]) == (3, 12, 0.25)
    assert found["about"].startswith("3 rows (25 % of the data)") and not found["checked"]
    assert found["verdict"].startswith("Not checked by a run yet")
    half = client.get(f"/runs/{run.id}/core-set", params={"share": 0.5}).json()
    assert len(half["rows"]) == half["kept"] == 6
    assert len(rows_of(client.get(f"/runs/{run.id}/dataset", params={"rows": "core_set", "share": 0.5}))) == 6


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("core-set?share=0", "share"),
        ("core-set?share=nan", "share"),
        ("dataset?rows=core_set&share=1.5", "share"),
        ("dataset?share=0.5", "share"),
        ("dataset?rows=random_set", "rows"),
        ("decisions?limit=0", "limit"),
    ],
)
def test_what_is_asked_for_wrongly_is_named(client: httpx.Client, run: RunFolder, path: str, wrong: str) -> None:
    answer = client.get(f"/runs/{run.id}/{path}")
    assert (answer.status_code, fields(answer)) == (422, [wrong]) and answer.json()["detail"]


# ------------------------------------------------------------ training again
def test_half_a_character_as_a_name_is_refused(client: httpx.Client, run: RunFolder) -> None:
    body = rb'{"rows": "corrected", "changes": {"\ud800": 1}}'
    answer = client.post(f"/runs/{run.id}/retrain", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (409, 422) and answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "wrong", "said"),
    [
        ({"rows": "all"}, 422, "rows", "'all' is not one of changed, corrected, core_set, random_set"),
        ({"rows": "changed", "share": 0.5}, 422, "share", "0.5 is the share of a core set"),
        ({"rows": "core_set", "share": 0}, 422, "share", "greater than 0"),
        ({"rows": "changed"}, 409, "", "No row of this run is edited or deleted"),
        ({"rows": "core_set", "changes": {"training": {"num_epochs": 0}}}, 422, "training.num_epochs", "0"),
        ({"rows": "core_set", "changes": {"data": {"train": "/nowhere/x.jsonl"}}}, 422, "data.train", "/nowhere"),
        ({"rows": "core_set", "changes": {"trainer": {}}}, 422, "trainer", "no setting named"),
        ({"rows": "core_set", "hub_token": "with a space"}, 409, "", "token"),
    ],
)
def test_a_retraining_that_is_not_possible_says_why(
    client: httpx.Client, run: RunFolder, body: Any, status: int, wrong: str, said: str
) -> None:
    before = client.get("/runs").json()["total"]
    answer = client.post(f"/runs/{run.id}/retrain", json=body)
    assert (answer.status_code, fields(answer)) == (status, [wrong]), answer.text
    assert said in answer.json()["detail"] and client.get("/runs").json()["total"] == before


@pytest.fixture
def supervisor(store: RunStore, worker_command: Callable[[str], tuple[str, ...]]) -> Iterator[Supervisor]:
    made = Supervisor(store, command=worker_command("finish"))
    yield made
    made.shutdown()


@pytest.fixture
def operations(supervisor: Supervisor) -> CorrectionOperations:
    return CorrectionOperations(RunOperations(Services(supervisor, ModelDownloads(supervisor.store.root))))


def test_what_was_edited_is_trained_on_as_the_page_would(store: RunStore, operations: CorrectionOperations) -> None:
    run = labeled_run(store)
    operations.decide(run.id, [3], "delete")
    with pytest.raises(RunError, match="only deleted"):
        operations.retrain(run.id, "changed")
    operations.decide(run.id, [0], "replace", answer="The color is green.")
    with pytest.raises(RunError, match="no model to go on from"):
        operations.retrain(run.id, "changed")
    run.model_path.mkdir()
    (run.model_path / "config.json").write_text("{}", encoding="utf-8")
    going_on = store.folder(operations.retrain(run.id, "changed")["id"]).config()
    assert (going_on.model.name, going_on.data.replay) == (str(run.model_path), str(run.path))
    state = operations.retrain(run.id, "corrected", changes={"training": {"batch_size": 3}})
    config, first = store.folder(state["id"]).config(), run.config()
    assert config.data.corrections == str(run.corrections_path) and config.training.batch_size == 3
    config.data.corrections, config.training.batch_size = None, first.training.batch_size
    assert config == first


def test_a_set_of_rows_is_trained_on(store: RunStore, operations: CorrectionOperations) -> None:
    run = labeled_run(store)
    files = []
    for kind in ("core_set", "random_set"):
        state = operations.retrain(run.id, kind, share=0.5)
        config = store.folder(state["id"]).config()
        files.append(read_subset(Path(config.data.row_flags or "")))
        assert config.data.flag_action == "exclude"
    assert [(file.kind, file.kept, file.of) for file in files if file] == [("core_set", 6, 12), ("random_set", 6, 12)]


def test_a_set_of_rows_needs_a_complete_run(store: RunStore, operations: CorrectionOperations) -> None:
    run = labeled_run(store)
    replace_json(run.path / "status.json", {"phase": "stopped", "end": "stopped"})
    with pytest.raises(RunError, match="not complete yet"):
        operations.retrain(run.id, "core_set")


def test_a_run_whose_rows_are_all_deleted_is_not_started(store: RunStore, operations: CorrectionOperations) -> None:
    run = labeled_run(store)
    operations.decide(run.id, range(12), "delete")
    for rows, said in (("corrected", "nothing is left to train on"), ("core_set", "No row is left for a core set")):
        with pytest.raises(RunError, match=said):
            operations.retrain(run.id, rows)
    assert store.ids() == [run.id]


def test_a_preset_among_the_changes_takes_the_place_of_its_section(
    store: RunStore, operations: CorrectionOperations
) -> None:
    run = labeled_run(store)
    made = [
        store.folder(operations.retrain(run.id, "core_set", changes={"geko": geko})["id"]).config().geko
        for geko in ({}, {"preset": "aggressive"})
    ]
    assert made[0] == run.config().geko != made[1]


# ------------------------------------------------------------ as tools
def test_a_model_finds_decides_and_is_refused_in_sentences(api_server: Server, run: RunFolder) -> None:
    found = call(api_server, "list_samples", run_id=run.id, filter="likely_mislabeled")
    ids = [sample["id"] for sample in found["samples"]]
    assert call(api_server, "decide_samples", run_id=run.id, samples=ids, action="accept")["log"]["edited"] == 2
    assert [made["row"] for made in call(api_server, "list_decisions", run_id=run.id)["decisions"]] == [1, 4]
    core = call(api_server, "core_set", run_id=run.id, limit=2)
    assert (core["rows"], core["kept"]) == ([3, 7], 3)
    said = refusal(api_server, "decide_samples", run_id=run.id, samples=[99], action="keep")
    assert "has no sample 99" in said
    assert "no model to go on from" in refusal(api_server, "retrain_run", run_id=run.id, rows="changed")


# ------------------------------------------------------------ from finding to training
@pytest.mark.slow
def test_what_a_run_got_wrong_is_replaced_and_trained_on_again(api_server: Server) -> None:
    with httpx.Client(base_url=f"{api_server.url}{PREFIX}", headers=AUTHORIZED, timeout=120) as client:
        first = client.post("/runs", json={"demo": True, "config": SHORT}).json()["id"]
        wait_for(lambda: client.get(f"/runs/{first}").json()["ended"], "the end of the run")
        wait_for(lambda: client.get(f"/runs/{first}/samples").json()["check_state"] == "done", "the check of the texts")
        worst = client.get(f"/runs/{first}/samples", params={"sort": "loss", "descending": True, "limit": 1}).json()
        body = {"samples": [worst["samples"][0]["id"]], "action": "replace", "answer": "green"}
        assert client.post(f"/runs/{first}/decisions", json=body).json()["log"]["edited"] == 1
        again = client.post(f"/runs/{first}/retrain", json={"rows": "changed"})
        assert again.status_code == 201, again.text
        run = again.json()["id"]
        wait_for(lambda: client.get(f"/runs/{run}").json()["ended"], "the end of the second run")
        state = client.get(f"/runs/{run}").json()
        assert state["state"] == "complete", state["reason"]
        config = client.get(f"/runs/{run}/config").json()
        assert config["model"]["name"].endswith(f"{first}/model") and config["training"]["num_epochs"] == 2
        learned = client.get(f"/runs/{run}/samples", params={"search": "green", "limit": 500}).json()
        assert worst["samples"][0]["row"] in [sample["row"] for sample in learned["samples"]]
