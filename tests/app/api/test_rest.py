"""The REST API of a real page, asked by a real client: who is let in, what is wrong by field, and one run to its export."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from geko_app import cli
from geko_app.api.rest import PREFIX
from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from tests.app.api.conftest import AUTHORIZED, TOKEN
from tests.app.sample_runs import new_run
from tests.app.test_cli import geko_app
from tests.app.views.test_runs import ended
from tests.app.workers.test_supervisor import wait_for
from tests.browser.conftest import Server, free_port

CALLS = [
    ("POST", "/runs"),
    ("GET", "/runs"),
    ("GET", "/runs/x"),
    ("GET", "/runs/x/config"),
    ("POST", "/runs/x/stop"),
    ("POST", "/runs/x/resume"),
    ("GET", "/runs/x/samples"),
    ("GET", "/runs/x/samples/0"),
    ("POST", "/runs/x/decisions"),
    ("GET", "/runs/x/decisions"),
    ("GET", "/runs/x/dataset"),
    ("GET", "/runs/x/core-set"),
    ("POST", "/runs/x/retrain"),
    ("POST", "/runs/x/export"),
    ("GET", "/runs/x/export"),
    ("GET", "/nothing"),
    ("DELETE", "/runs/x"),
]
BODIES = {"decisions": {"samples": [0], "action": "keep"}, "retrain": {"rows": "changed"}, "export": {"to": "merged"}}
SHORT: dict[str, Any] = {
    "data": {"sample_count": 64, "eval_count": 16},
    "training": {"num_epochs": 2, "num_processes": 1},
    "lora": {"enabled": True},
}


def store_of(server: Server) -> RunStore:
    return RunStore(server.folder / "runs")


def fields(answer: httpx.Response) -> list[str]:
    return [problem["field"] for problem in answer.json()["problems"]]


# ------------------------------------------------------------ who is let in
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_without_the_token_nothing_is_answered(api_server: Server, method: str, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
    ):
        answer = httpx.request(method, f"{api_server.url}{PREFIX}{path}", headers=headers, json={}, timeout=60)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer TOKEN" in answer.json()["detail"]


def test_the_description_lists_every_call_and_no_other(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    listed = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    called = {(m, PREFIX + p.replace("/0", "/{sample_id}").replace("/x", "/{run_id}")) for m, p in CALLS[:-2]}
    assert listed == called
    page = client.get("/docs").text
    assert "application/jsonl" in page
    assert all(path in page for path in paths) and "//" not in page.replace("http://localhost:7860", "")


def test_foreign_pages_and_rebound_hosts_are_refused_in_json(client: httpx.Client) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = client.get("/runs", headers=headers)
        assert answer.status_code == 403 and answer.json()["problems"][0]["message"]
    assert client.post("/runs", content="{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_where_a_password_is_asked_for_the_token_is_enough_and_nothing_less(tmp_path: Path) -> None:
    server = Server(tmp_path, "--api-token", TOKEN, "--root-path", "/geko", password="a secret")
    server.start()
    try:
        for root in ("", "/geko"):
            url = f"{server.url}{root}{PREFIX}"
            assert httpx.get(f"{url}/runs", headers=AUTHORIZED, timeout=60).json() == {"total": 0, "runs": []}
            assert httpx.get(f"{url}/docs", headers=AUTHORIZED, timeout=60).status_code == 200
            for path in ("/runs", "/docs", "/openapi.json"):
                assert httpx.get(url + path, timeout=60).status_code == 401
        assert httpx.get(f"{server.url}/config", headers=AUTHORIZED, timeout=60).status_code == 401  # it opens no page
    finally:
        server.end()
    assert TOKEN not in (tmp_path / "server.log").read_text(encoding="utf-8")


def test_without_a_token_there_is_no_api(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        for path in (f"{PREFIX}/runs", f"{PREFIX}/docs", "/mcp"):
            answer = httpx.get(server.url + path, headers=AUTHORIZED, timeout=60)
            assert answer.status_code == 404
    finally:
        server.end()


@pytest.mark.parametrize("token", ["short", "with spaces in between", "ümläuts-are-no-header-values"])
def test_a_weak_token_is_refused_and_not_repeated(tmp_path: Path, token: str) -> None:
    done = geko_app("--api-token", token, "--port", str(free_port()), cwd=tmp_path)
    assert done.returncode == 2 and "at least 16 characters" in done.stderr
    assert token not in done.stderr and "Traceback" not in done.stderr


def test_no_process_of_the_page_inherits_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cli.TOKEN_VARIABLE, TOKEN)
    api = cli.api_of(cli.build_parser().parse_args([]))
    assert api is not None and not api.mcp and TOKEN not in repr(api)
    assert cli.TOKEN_VARIABLE not in os.environ
    assert cli.api_of(cli.build_parser().parse_args([])) is None
    with pytest.raises(RunError, match="--mcp needs a token"):
        cli.api_of(cli.build_parser().parse_args(["--mcp"]))


# ------------------------------------------------------------ what is wrong, by field
@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"config": {"training": {"num_epochs": 0}, "model": {"naem": "x"}}}, {"training.num_epochs", "model.naem"}),
        ({"config": {"data": {"train": "/nowhere/rows.jsonl"}}}, {"data.train"}),
        ({"config": {"lora": "on"}}, {"lora"}),
        ({"config": 5}, {"config"}),
        ({"settings": {}}, {"settings"}),
        ({"hub_token": "with a space"}, {""}),
    ],
)
def test_a_start_names_every_field_that_is_wrong(client: httpx.Client, body: Any, wrong: set[str]) -> None:
    answer = client.post("/runs", json=body)
    assert answer.status_code in (422, 409) and wrong == set(fields(answer))
    assert all(problem["message"] for problem in answer.json()["problems"])
    assert client.get("/runs").json()["total"] == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "Expecting property name enclosed in double quotes at character 2"),
        (b'{"config": {}} {}', "Extra data at character 16"),
        (b'{"hub_token": "caf\xe9"}', "it is not UTF-8 at byte 19"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"config": {"training": {"seed": ' + b"1" * 5000 + b"}}}", "it holds a number of too many digits"),
        (b"[1]", "The body must be a JSON object"),
        (b'"text"', "The body must be a JSON object"),
        (b"null", "The body must be a JSON object"),
        (b"", "The body must be a JSON object"),
    ],
    ids=["cut off", "two", "other encoding", "deep", "long number", "list", "text", "null", "empty"],
)
@pytest.mark.parametrize("path", ["runs", "runs/x/decisions", "runs/x/retrain", "runs/x/export"])
def test_a_body_that_cannot_be_read_is_refused_as_every_other(
    client: httpx.Client, path: str, body: bytes, said: str
) -> None:
    answer = client.post(f"/{path}", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, fields(answer)) == (422, [""])
    assert said in answer.json()["problems"][0]["message"] and "/api/v1/docs" in answer.json()["detail"]


@pytest.mark.parametrize(("method", "path"), [call for call in CALLS if "/x" in call[1] or call[1] == "/nothing"])
def test_what_is_not_there_is_404(client: httpx.Client, method: str, path: str) -> None:
    body = BODIES.get(path.rsplit("/", 1)[1]) if method == "POST" else None
    answer = client.request(method, path, json=body)
    assert answer.status_code == 404 and answer.json()["detail"].startswith("There is no")


def test_arguments_out_of_range_are_named(client: httpx.Client, api_server: Server) -> None:
    store = store_of(api_server)
    run = new_run(store).id
    assert fields(client.get("/runs?limit=0")) == ["limit"]
    assert fields(client.get(f"/runs/{run}/samples?limit=10000&offset=-1")) == ["limit", "offset"]
    for name in ("filter", "sort"):
        answer = client.get(f"/runs/{run}/samples?{name}=nonsense")
        assert (answer.status_code, fields(answer)) == (422, [name]) and "'nonsense' is not one of" in answer.json()[
            "detail"
        ]
    store.delete(run) if (store.root / run / "status.json").is_file() else None


# ------------------------------------------------------------ runs and samples
def test_an_ended_run_has_its_figures_and_cannot_be_resumed(client: httpx.Client, api_server: Server) -> None:
    root = store_of(api_server)
    folder = ended(root, RunConfig(output_dir=str(root.root)))
    state = client.get(f"/runs/{folder.id}").json()
    assert (state["state"], state["ended"], state["progress"] is None) == ("complete", True, True)
    assert (state["steps"], state["eval_loss_after"], state["model_folder"]) == (100, 0.5, None)
    answer = client.post(f"/runs/{folder.id}/resume")
    assert answer.status_code == 409 and "complete" in answer.json()["detail"]
    assert client.post(f"/runs/{folder.id}/stop").json()["state"] == "complete"
    config = client.get(f"/runs/{folder.id}/config").json()
    assert RunConfig.from_dict(config).to_dict() == config


def test_the_secret_of_a_webhook_is_not_sent(client: httpx.Client, api_server: Server) -> None:
    root = store_of(api_server)
    config = RunConfig(output_dir=str(root.root))
    config.training.webhook_url = "https://hooks.example.org/services/s3cret"
    shown = client.get(f"/runs/{ended(root, config).id}/config").json()
    assert shown["training"]["webhook_url"] == "https://hooks.example.org/…"
    answer = client.post("/runs", json={"config": shown})
    assert answer.status_code == 422 and fields(answer) == ["training.webhook_url"]


def test_samples_are_filtered_sorted_and_paged(client: httpx.Client, api_server: Server) -> None:
    run = new_run(store_of(api_server), count=12).id
    first = client.get(f"/runs/{run}/samples", params={"sort": "loss", "descending": True, "limit": 2}).json()
    assert first["total"] == 12 and [sample["loss"] for sample in first["samples"]] == [6.0, 6.0]
    rest = client.get(f"/runs/{run}/samples", params={"sort": "loss", "descending": True, "offset": 10}).json()
    assert [sample["loss"] for sample in rest["samples"]] == [0.05, 0.05]
    (found,) = client.get(f"/runs/{run}/samples", params={"search": "question 11"}).json()["samples"]
    assert (found["row"], found["correct"], found["bucket"]) == (12, True, found["bucket"])
    one = client.get(f"/runs/{run}/samples/11").json()
    assert one["text"] == "question 11\nanswer 11" and one["learned"] == ["answer 11"] and len(one["history"]) == 2
    assert client.get(f"/runs/{run}/samples/12").status_code == 404


def test_a_sample_that_only_the_noise_guard_suspects_says_why(client: httpx.Client, api_server: Server) -> None:
    run = new_run(store_of(api_server), epochs=3).id
    suspicions = client.get(f"/runs/{run}/samples/1").json()["suspicions"]
    assert suspicions and all(suspicions)
    assert client.get(f"/runs/{run}/samples/0").json()["suspicions"] == []


@pytest.fixture(scope="module")
def trained(api_server: Server) -> Iterator[dict[str, Any]]:
    """The state of a short demo run that was started by the API and has ended."""
    with httpx.Client(base_url=f"{api_server.url}{PREFIX}", headers=AUTHORIZED, timeout=60) as client:
        answer = client.post("/runs", json={"demo": True, "config": SHORT})
        assert answer.status_code == 201, answer.text
        run = answer.json()["id"]
        wait_for(lambda: client.get(f"/runs/{run}").json()["ended"], "the end of the run")
        yield client.get(f"/runs/{run}").json()


@pytest.mark.slow
def test_a_run_goes_from_its_start_to_its_export(client: httpx.Client, trained: dict[str, Any]) -> None:
    assert trained["state"] == "complete" and trained["samples"] == 64 and trained["epochs_done"] == 2
    run = trained["id"]
    samples = client.get(f"/runs/{run}/samples", params={"limit": 100}).json()
    assert samples["total"] == 64 and all(sample["loss"] is not None for sample in samples["samples"])
    assert client.post(f"/runs/{run}/export", json={"to": "merged"}).status_code == 202
    wait_for(lambda: not client.get(f"/runs/{run}/export").json()["running"], "the end of the export")
    state = client.get(f"/runs/{run}/export").json()
    assert state["error"] == "" and (Path(state["place"]) / "model.safetensors").is_file()
    assert client.post(f"/runs/{run}/export", json={"to": "nonsense"}).status_code == 409


@pytest.mark.slow
def test_a_run_is_stopped_and_resumed_and_the_next_one_waits(client: httpx.Client) -> None:
    config = {**SHORT, "training": {"num_epochs": 500}}
    run = client.post("/runs", json={"demo": True, "config": config}).json()["id"]
    waiting = client.post("/runs", json={"demo": True, "config": config}).json()
    assert (waiting["state"], waiting["queue_position"]) == ("queued", 1)
    assert client.post(f"/runs/{waiting['id']}/stop").json()["state"] == "stopped"
    wait_for(lambda: (client.get(f"/runs/{run}").json()["steps"] or 0) > 2, "some steps")
    assert client.post(f"/runs/{run}/resume").status_code == 409  # it is active
    client.post(f"/runs/{run}/stop")
    wait_for(lambda: client.get(f"/runs/{run}").json()["ended"], "the stop")
    steps = client.get(f"/runs/{run}").json()["steps"]
    assert client.post(f"/runs/{run}/resume").status_code == 202
    wait_for(lambda: (client.get(f"/runs/{run}").json()["steps"] or 0) > steps, "further steps")
    client.post(f"/runs/{run}/stop")
    wait_for(lambda: client.get(f"/runs/{run}").json()["state"] == "stopped", "the second stop")
    runs = client.get("/runs?limit=2").json()["runs"]
    assert {state["id"] for state in runs} == {run, waiting["id"]}


def test_the_log_of_the_page_has_no_token(api_server: Server) -> None:
    assert TOKEN not in (api_server.folder / "server.log").read_text(encoding="utf-8")
    assert TOKEN not in json.dumps([path.name for path in api_server.folder.rglob("*")])
