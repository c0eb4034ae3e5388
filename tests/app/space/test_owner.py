"""Who may do what in a Space: what counts as the owner, and which requests of others are let in."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from geko_app.space.facts import FORGETS, NO_TOKEN, Space
from geko_app.space.owner import CALL, EVENT, READING, OwnerOnly, is_owner

OWNERS = frozenset({"ada", "the-lab"})
HARMLESS = 7


def session(name: str = "", expires_at: float = 9e9, **more: Any) -> dict[str, Any]:
    return {"oauth_info": {"expires_at": expires_at, "userinfo": {"preferred_username": name, **more}}} if name else {}


def org(name: str, role: str) -> dict[str, Any]:
    return {"orgs": [{"preferred_username": name, "roleInOrg": role}]}


@pytest.mark.parametrize(
    ("of", "owner"),
    [
        (session("ada"), True),
        (session("Ada"), True),
        (session("eve"), False),
        (session(), False),
        (session("ada", expires_at=1), False),
        (session("eve", **org("the-lab", "write")), True),
        (session("eve", **org("the-lab", "admin")), True),
        (session("eve", **org("the-lab", "read")), False),
        (session("eve", **org("other-lab", "admin")), False),
        ({"oauth_info": "ada"}, False),
        ({"oauth_info": {"userinfo": {"orgs": "the-lab"}}}, False),
    ],
)
def test_who_counts_as_the_owner(of: dict[str, Any], owner: bool) -> None:
    assert is_owner(of, OWNERS) is owner


class As:
    """Stands for the middleware of the session: everybody has this one."""

    def __init__(self, app: ASGIApp, of: dict[str, Any]) -> None:
        self._app, self._of = app, of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "session": self._of}, receive, send)


def client(name: str = "") -> TestClient:
    async def answer(request: Request) -> Response:
        return JSONResponse({"body": (await request.body()).decode()})

    everything = Route("/{path:path}", answer, methods=["GET", "POST", "DELETE"])
    middleware = [Middleware(As, session(name)), Middleware(OwnerOnly, OWNERS, frozenset({HARMLESS}))]
    return TestClient(Starlette(routes=[everything], middleware=middleware))


@pytest.mark.parametrize("name", ["", "eve"])
def test_a_visitor_reads_and_changes_nothing(name: str) -> None:
    visitor = client(name)
    for path in ("/", "/config", "/gradio_api/queue/data", "/geko-space"):
        assert visitor.get(path).status_code == 200
    for read in sorted(READING):
        body = {"component_id": 1, "fn_name": read, "data": {}}
        answer = visitor.post(CALL, json=body)
        assert answer.status_code == 200 and f'"{read}"' in answer.json()["body"].replace("\\", "")
    for change in (
        "stop",
        "resume",
        "halt",
        "remove",
        "keep_note",
        "pack",
        "export",
        "variant",
        "ask",
        "new_one",
        "decide_sample",
        "decide_all",
        "undo",
        "model_answer",
        "retrain",
        None,
        ["pull"],
    ):
        assert visitor.post(CALL, json={"fn_name": change}).status_code == 403
    for body in ("", "[]", '"pull"', "{", '{"fn_name": "pull"'):
        assert visitor.post(CALL, content=body).status_code == 403
    assert visitor.post(EVENT, json={"fn_index": HARMLESS}).status_code == 200
    for number in (8, True, "7", None, 7.0):
        assert visitor.post(EVENT, json={"fn_index": number}).status_code == 403
    for path in ("/gradio_api/upload", "/gradio_api/call/x", "/gradio_api/run/x", "/geko-space/pause", "/x"):
        assert visitor.post(path, json={"fn_name": "pull", "fn_index": HARMLESS}).status_code == 403
    assert visitor.delete("/x").status_code == 403


def test_the_owner_may_do_everything() -> None:
    owner = client("ada")
    for path in (CALL, EVENT, "/gradio_api/upload", "/geko-space/pause"):
        assert owner.post(path, json={"fn_name": "remove"}).json()["body"]


def test_the_api_has_a_token_of_its_own() -> None:
    assert client().post("/api/v1/runs", json={}).status_code == 200


def test_what_a_space_says_of_itself(tmp_path: Any) -> None:
    assert Space.of({}) is None
    hub = {"SPACE_ID": "the-lab/geko", "SPACE_HOST": "the-lab-geko.hf.space", "SPACE_AUTHOR_NAME": "the-lab"}
    plain = Space.of(hub, tmp_path / "none")
    assert plain is not None and plain.notes() == [FORGETS, NO_TOKEN] and not plain.signs_in
    assert plain.runs_folder("/runs") == "/runs"
    more = {"OAUTH_CLIENT_ID": "x", "HF_TOKEN": "hf_x", "GEKO_SPACE_OWNERS": "Ada, grace,"}
    full = Space.of({**hub, **more}, tmp_path)
    assert full is not None and full.owners == {"the-lab", "ada", "grace"} and full.signs_in
    assert "the-lab/RUN" in full.notes()[0] and len(full.notes()) == 1
    assert full.runs_folder("/runs", tmp_path) == str(tmp_path / "runs")
