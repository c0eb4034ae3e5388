"""A real page that believes to be in a Space: signing in with a provider on this machine, and what each may do then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from geko_app.runs.store import RunStore
from geko_app.space.facts import FORGETS
from geko_app.space.owner import READING, REFUSED
from geko_engine.config.run_config import RunConfig
from tests.app.space.oauth_server import OAuthServer
from tests.app.views.test_runs import ended
from tests.app.workers.test_supervisor import wait_for
from tests.browser.conftest import free_port

HOST = "ada-geko.hf.space"
SHARED = {  # names of functions that several parts of the page have; all of them only read
    "job": {"geko-playground", "geko-samples"},
    "pull": {"geko-live", "geko-samples"},
    "runs": {"geko-live", "geko-playground"},
}


class SpacePage:
    """geko-app with the environment of a Space, and a visitor's client for it."""

    def __init__(self, folder: Path, oauth: OAuthServer) -> None:
        self.folder, self.port = folder, free_port()
        command = [sys.executable, "-m", "geko_app", "--host", "0.0.0.0", "--port", str(self.port), "--runs", "runs"]
        hub = {"SYSTEM": "spaces", "SPACE_ID": "ada/geko", "SPACE_HOST": HOST, "SPACE_AUTHOR_NAME": "ada"}
        environment = {**os.environ, **hub, **oauth.environment(), "HF_HUB_OFFLINE": "1"}
        with (folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        wait_for(self._answers, "the page")

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "server.log").read_text(encoding="utf-8")
        try:
            return self.visitor().get("/").status_code == 200
        except httpx.TransportError:
            return False

    def visitor(self) -> httpx.Client:
        """Somebody with a browser: it names the host of the Space, as the proxy of the Hub does."""
        headers = {"Host": HOST, "X-Forwarded-Proto": "https"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60)

    def end(self) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0


@pytest.fixture(scope="module")
def oauth() -> Iterator[OAuthServer]:
    with OAuthServer("ada") as made:
        yield made


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, oauth: OAuthServer) -> Iterator[SpacePage]:
    made = SpacePage(tmp_path_factory.mktemp("space"), oauth)
    yield made
    made.end()


def sign_in(client: httpx.Client, oauth: OAuthServer, user: str) -> None:
    """Walk through the sign-in as a browser does. The cookie is for HTTPS only, so it is carried by hand."""
    oauth.user = user
    begun = client.get("/login/huggingface")
    assert begun.status_code in (302, 307)
    _carry(client, begun)
    allowed = httpx.get(begun.headers["location"], timeout=60)
    callback = urlsplit(allowed.headers["location"])
    assert callback.netloc == HOST
    from_the_hub = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    done = client.get(f"{callback.path}?{callback.query}", headers=from_the_hub)
    assert done.status_code in (302, 307), done.text
    _carry(client, done)


def _carry(client: httpx.Client, answer: httpx.Response) -> None:
    for cookie in answer.headers.get_list("set-cookie"):
        assert "secure" in cookie.lower() and "httponly" in cookie.lower()
        client.headers["Cookie"] = cookie.split(";")[0]


def call(client: httpx.Client, name: str, query: Any) -> httpx.Response:
    """A server function of the page."""
    components = client.get("/config").json()["components"]
    number = next(c["id"] for c in components if name in (c["props"].get("server_fns") or ()))
    body = {"component_id": number, "fn_name": name, "session_hash": "s", "data": query}
    return client.post("/gradio_api/component_server", json=body)


def role(client: httpx.Client) -> dict[str, Any]:
    answer = client.get("/geko-space")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("user", ["", "eve"])
def test_a_visitor_watches(space: SpacePage, oauth: OAuthServer, user: str) -> None:
    root = RunStore(space.folder / "runs")
    run = ended(root, RunConfig(output_dir=str(root.root)))
    with space.visitor() as visitor:
        if user:
            sign_in(visitor, oauth, user)
        assert (role(visitor)["name"], role(visitor)["owner"]) == (user, False)
        assert role(visitor)["notes"][0] == FORGETS and role(visitor)["signs_in"]
        assert run.id in call(visitor, "opened", {"run": run.id}).text
        refused = call(visitor, "remove", {"run": run.id})
        assert (refused.status_code, refused.json()["detail"]) == (403, REFUSED)
        assert visitor.post("/geko-space/pause", json={}).status_code == 403
    assert run.path.is_dir()


def test_the_owner_signs_in_and_may_do_everything(space: SpacePage, oauth: OAuthServer) -> None:
    root = RunStore(space.folder / "runs")
    run = ended(root, RunConfig(output_dir=str(root.root)))
    with space.visitor() as owner:
        sign_in(owner, oauth, "ada")
        assert (role(owner)["name"], role(owner)["owner"]) == ("ada", True)
        assert call(owner, "remove", {"run": run.id}).json() == {"error": ""}
        assert not run.path.is_dir()
        _carry(owner, owner.get("/logout"))
        assert role(owner)["owner"] is False


def test_a_cookie_that_the_space_has_not_signed_is_worth_nothing(space: SpacePage) -> None:
    with space.visitor() as eve:
        eve.headers["Cookie"] = "session=eyJvYXV0aF9pbmZvIjp7InVzZXJpbmZvIjp7InByZWZlcnJlZF91c2VybmFtZSI6ImFkYSJ9fX0="
        assert role(eve)["owner"] is False


def test_the_events_of_a_visit_are_answered(space: SpacePage) -> None:
    """The ones that Gradio starts by itself when the page is opened; Start is none of them."""
    with space.visitor() as visitor:
        events = visitor.get("/config").json()["dependencies"]
        names = {event["id"]: event.get("api_name") for event in events}
        answers = {
            number: visitor.post(
                "/gradio_api/queue/join", json={"data": [], "fn_index": number, "session_hash": "s"}
            ).status_code
            for number in names
        }
        assert sum(status != 403 for status in answers.values()) == 2


def test_what_a_visitor_may_read_is_on_the_page_once(space: SpacePage) -> None:
    """READING knows only names, so a second function of the same name would be open, too."""
    with space.visitor() as visitor:
        components = visitor.get("/config").json()["components"]
        refused = call(visitor, "first_rows", {"values": {"data.train": "ada/private"}})
    parts: dict[str, set[str]] = {name: set() for name in READING}
    for component in components:
        for name in READING & set(component["props"].get("server_fns") or ()):
            parts[name].add(component["props"]["elem_id"])
    assert len(parts.pop("gpus")) <= 1, "it is there only where there are several GPUs"
    assert {name: found for name, found in parts.items() if len(found) != 1} == SHARED
    assert parts["table"] == {"geko-samples"} and refused.status_code == 403


def test_a_visitor_sees_what_a_run_is_compared_with_and_served_by(space: SpacePage) -> None:
    with space.visitor() as visitor:
        assert call(visitor, "partner", {"run": "nowhere"}).json() == {"run": "", "end": ""}
        assert call(visitor, "serve", {"run": "nowhere"}).json() == []
