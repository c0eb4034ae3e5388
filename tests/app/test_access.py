"""Who may use the page: the rules on headers, then a real server that is asked as a foreign page would ask it."""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from geko_app import cli
from geko_app.access import (
    FORMS,
    PRINTED,
    Access,
    AccessMiddleware,
    is_open,
    mended_cookie,
    path_below_root,
    same_host,
    split_host,
)
from geko_app.login_limit import FREE, LoginLimit
from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from tests.app.test_cli import geko_app
from tests.app.views.test_runs import ended
from tests.browser.conftest import Server, free_port

JSON = {"Content-Type": "application/json"}
OWN_NAME = "gpu-box.example.org"
LOCAL = Access.of("127.0.0.1", (OWN_NAME,))


def status_of(access: Access, method: str = "GET", path: str = "/", **headers: str) -> int:
    """200 for what is let in."""
    named = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    refusal = access.refusal(method, path, named)
    return refusal.status if refusal else 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "LOCALHOST:1", "127.0.0.1:7860", "[::1]:80", "[::1]", OWN_NAME)),
        *((host, 403) for host in ("evil.example", "localhost.evil.example:7860", "192.168.0.4:7860", "0.0.0.0")),
        *((host, 403) for host in ("", "localhost:x", "evil@localhost", "localhost/evil", "localhost, evil", "[::1")),
    ],
)
def test_only_hosts_of_the_page_are_answered(host: str, status: int) -> None:
    assert status_of(LOCAL, host=host) == status


def test_an_address_is_no_rebound_name_where_the_page_listens_on_all() -> None:
    everywhere = Access.of("0.0.0.0")
    assert status_of(everywhere, host="192.168.0.4:7860") == 200
    assert status_of(everywhere, host="[fe80::1]:7860") == 200
    assert status_of(everywhere, host="evil.example:7860") == 403
    assert status_of(Access.of("192.168.0.4"), host="192.168.0.4:7860") == 200
    assert status_of(Access.of("192.168.0.4"), host="192.168.0.5:7860") == 403


def test_a_refused_host_is_named_with_the_way_out() -> None:
    refusal = LOCAL.refusal("GET", "/", Headers({"host": "other.example:7860"}))
    assert refusal is not None
    assert "'other.example:7860'" in refusal.sentence and refusal.sentence.endswith("--allow-host other.example.")


@pytest.mark.parametrize("name", ["https://box", "box:7860", "box/geko", "", "a b", "*"])
def test_an_allowed_host_that_is_none_is_named(name: str) -> None:
    with pytest.raises(RunError, match=r"--allow-host .* is no host name"):
        Access.of("127.0.0.1", (name,))


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:7860", 200),
        ("http://LOCALHOST:7860", 200),
        ("http://localhost", 403),
        ("http://localhost:3000", 403),
        ("http://127.0.0.1:7860", 403),
        (f"https://{OWN_NAME}", 403),  # a host of the page, and not the one that was asked
        ("https://evil.example", 403),
        ("http://localhost:7860.evil.example", 403),
        ("null", 403),
        ("", 403),
        ("file://", 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
def test_an_origin_is_the_host_that_was_asked(method: str, origin: str, status: int) -> None:
    assert (
        status_of(LOCAL, method, host="localhost:7860", origin=origin, **{"content-type": "application/json"}) == status
    )


def test_a_proxy_hands_on_its_host_where_that_is_allowed() -> None:
    asked = {"host": "127.0.0.1:7860", "origin": f"https://{OWN_NAME}"}
    assert status_of(LOCAL, **asked) == 403
    assert status_of(LOCAL, **asked, x_forwarded_host=OWN_NAME) == 200
    assert status_of(LOCAL, **asked, x_forwarded_host=f"{OWN_NAME}:443") == 200
    assert status_of(LOCAL, host="localhost", origin="https://evil.example", x_forwarded_host="evil.example") == 403
    assert status_of(LOCAL, host="localhost", x_forwarded_host=f"{OWN_NAME}, evil.example") == 403
    assert status_of(LOCAL, host=f"{OWN_NAME}:443", origin=f"https://{OWN_NAME}") == 200


def test_a_space_is_opened_by_its_own_host() -> None:
    space = Access.of("0.0.0.0", space="ada-geko.hf.space")
    assert status_of(space, host="ada-geko.hf.space", origin="https://ada-geko.hf.space") == 200
    assert status_of(space, host="10.1.2.3:7860", origin="https://ada-geko.hf.space") == 200
    assert status_of(space, host="eve-geko.hf.space") == 403
    assert status_of(space, host="ada-geko.hf.space", origin="https://eve-geko.hf.space") == 403
    framed = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert status_of(space, host="ada-geko.hf.space", **framed) == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_from_another_site_a_link_opens_the_page_and_nothing_else(site: str) -> None:
    def asked(method: str, path: str, mode: str) -> int:
        return status_of(
            LOCAL,
            method,
            path,
            host="localhost",
            sec_fetch_site=site,
            sec_fetch_mode=mode,
            content_type="application/json",
        )

    assert asked("GET", "/", "navigate") == 200
    assert asked("GET", "/", "no-cors") == 403
    assert asked("POST", "/", "navigate") == 403
    for path in ("/config", "/logout", "/geko-download/word", "/gradio_api/queue/data"):
        assert asked("GET", path, "navigate") == 403


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/gradio_api/component_server", "application/json", 200),
        ("/gradio_api/component_server", "application/json; charset=utf-8", 200),
        ("/gradio_api/component_server", "text/plain", 415),
        ("/gradio_api/component_server", "text/plain; application/json", 415),
        ("/gradio_api/component_server/", "multipart/form-data; boundary=x", 415),
        ("/gradio_api/queue/join", "application/x-www-form-urlencoded", 415),
        ("/gradio_api/call/start", "", 415),
        ("/gradio_api/upload", "multipart/form-data; boundary=x", 200),
        ("/gradio_api/upload", "text/plain", 415),
        ("/login", "multipart/form-data; boundary=x", 200),
        ("/login/", "application/x-www-form-urlencoded", 200),
        ("/login", "text/plain", 415),
    ],
)
def test_calls_carry_json(path: str, kind: str, status: int) -> None:
    assert status_of(LOCAL, "POST", path, host="localhost", content_type=kind) == status


def test_hosts_are_split_and_compared_as_browsers_write_them() -> None:
    assert split_host("[::1]:7860") == ("::1", 7860)
    assert split_host("Box") == ("box", None)
    assert split_host("a:99999") == ("", None)
    assert same_host("https://box", "box:443") and same_host("http://box:80", "box")
    assert not same_host("https://box", "box:80") and not same_host("ftp://box", "box")


@pytest.mark.parametrize(
    ("root", "path", "below"),
    [
        ("", "/config", "/config"),
        ("/geko", "/geko/config", "/config"),
        ("/geko", "/config", "/config"),
        ("/geko", "/geko", "/"),
        ("/geko", "/gekos", "/gekos"),
    ],
)
def test_paths_are_read_below_the_root_path(root: str, path: str, below: str) -> None:
    assert path_below_root({"root_path": root, "path": path}) == below


def test_cookies_stay_within_the_site_but_in_the_frame_of_a_space() -> None:
    cookie = "access-token-x=y; HttpOnly; Path=/; SameSite=none; Secure"
    assert mended_cookie(cookie, False, "") == "access-token-x=y; HttpOnly; Path=/; SameSite=Lax; Secure"
    assert mended_cookie(cookie, True, "ada-geko.hf.space") == cookie
    assert mended_cookie("a=b; SameSite=lax", True, "") == "a=b; SameSite=lax; Secure"


class Client:
    """Sends requests as they are, Host header included."""

    def __init__(self, server: Server) -> None:
        self.port = server.port

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: str | None = None
    ) -> tuple[int, Any, str]:
        """Status, headers and text of the answer, without following it where it leads."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            endless = answer.getheader("content-type", "").startswith("text/event-stream")
            return answer.status, answer.headers, "" if endless else answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def call(self, name: str, query: Any, **headers: str) -> tuple[int, str]:
        """A server function of the page by its name."""
        config = json.loads(self.ask("GET", "/config")[2])
        (number,) = (c["id"] for c in config["components"] if name in (c["props"].get("server_fns") or ()))
        body = json.dumps({"component_id": number, "fn_name": name, "session_hash": "s", "data": query})
        status, _, text = self.ask("POST", "/gradio_api/component_server", {**JSON, **headers}, body)
        return status, text


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("open"), "--allow-host", OWN_NAME, "--root-path", "/geko")
    made.start()
    yield made
    made.end()


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server)


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("GET", "/", {}),
        ("HEAD", "/", {}),
        ("GET", "/geko/", {}),
        ("GET", "/config", {}),
        ("GET", "/assets/index.js", {}),
        ("GET", "/nowhere", {}),
        ("POST", "/gradio_api/component_server", JSON),
        ("POST", "/gradio_api/queue/join", JSON),
        ("OPTIONS", "/config", {"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}),
    ],
)
def test_a_rebound_host_reads_nothing(client: Client, method: str, path: str, more: dict[str, str]) -> None:
    status, headers, text = client.ask(method, path, {"Host": f"evil.example:{client.port}", **more}, "{}")
    assert status == 403 and headers["access-control-allow-origin"] is None
    assert method == "HEAD" or text.endswith("--allow-host evil.example.")


def test_no_other_origin_may_read(client: Client) -> None:
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        for path in ("/", "/config", "/gradio_api/info"):
            status, headers, _ = client.ask("GET", path, {"Origin": origin})
            assert status == 403 and headers["access-control-allow-origin"] is None
    own = {"Origin": f"https://{OWN_NAME}", "Host": OWN_NAME}
    assert client.ask("GET", "/config", own)[0] == 200


def test_a_foreign_page_deletes_no_run(client: Client, server: Server) -> None:
    root = server.folder / "runs"
    folder = ended(RunStore(root), RunConfig(output_dir=str(root)))
    query = {"run": folder.id}
    for headers, status in (
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "text/plain", "Origin": "http://evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 403),
    ):
        assert client.call("remove", query, **headers)[0] == status
        assert folder.path.is_dir()
    assert client.call("remove", query, Origin=f"http://127.0.0.1:{client.port}") == (200, '{"error":""}')
    assert not folder.path.is_dir()


def test_a_foreign_page_uploads_nothing(client: Client) -> None:
    form = '--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello\r\n--b--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    for more in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        assert client.ask("POST", "/gradio_api/upload", {**kind, **more}, form)[0] == 403
    assert client.ask("POST", "/gradio_api/upload", kind, form)[0] == 200


def test_no_foreign_page_frames_it(client: Client) -> None:
    headers = client.ask("GET", "/")[1]
    assert headers["content-security-policy"] == "frame-ancestors 'self'"


def test_everything_is_asked_for_below_the_root_path(client: Client) -> None:
    """Whether or not the proxy takes the root path away; Plotly's script too."""
    for page in ("/", "/geko/"):
        text = client.ask("GET", page)[2]
        (plotly,) = set(re.findall(r'src=\\?"([^"\\]+plotly\.min\.js)', text.replace("\\u003c", "<")))
        assert plotly.startswith("/geko/gradio_api/file=")
        assert client.ask("GET", plotly)[0] == client.ask("GET", plotly.removeprefix("/geko"))[0] == 200


@pytest.mark.parametrize("path", ["geko", "/ge ko", "//", "https://box/geko", "/geko?x"])
def test_a_root_path_that_is_none_is_named(tmp_path: Path, path: str) -> None:
    done = geko_app("--root-path", path, cwd=tmp_path)
    assert done.returncode == 2 and f"--root-path {path!r}" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("locked"), password="a secret")
    made.start()
    yield made
    made.end()


def sign_in(client: Client, password: str) -> tuple[int, Any, str]:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return client.ask("POST", "/login", kind, f"username=geko&password={password.replace(' ', '+')}")


def routes() -> list[tuple[str, str]]:
    """Every method and path that Gradio serves, each with something in place of its parameters."""
    import gradio as gr
    from gradio.routes import App

    with gr.Blocks() as blocks:
        gr.HTML()
    paths = App.create_app(blocks).openapi()["paths"]
    return [(method.upper(), re.sub(r"\{[^}]+\}", "x", path)) for path in paths for method in paths[path]]


def test_without_a_login_nothing_but_the_login_page_is_answered(locked: Server) -> None:
    client = Client(locked)
    asked = {*routes(), ("GET", "/geko-download/x"), ("GET", "/docs"), ("GET", "/nowhere")}
    assert len(asked) > 60
    answered = set()
    for method, path in asked:
        if client.ask(method, path, JSON, "{}")[0] not in (401, 415):
            answered.add(path)
    assert all(is_open(path) for path in answered)
    assert {"/gradio_api/heartbeat/x", "/gradio_api/cancel", "/gradio_api/token", "/gradio_api/user"}.isdisjoint(
        answered
    )
    text = client.ask("GET", "/")[2]
    assert '"auth_required":true' in text and '"components":[]' in text
    assert '"named_endpoints":{},"unnamed_endpoints":{}' in text


def test_a_login_opens_all_and_its_cookie_stays_within_the_site(locked: Server) -> None:
    client = Client(locked)
    status, headers, _ = sign_in(client, "a secret")
    cookies = headers.get_all("set-cookie")
    assert status == 200 and len(cookies) == 2
    assert all("samesite=lax" in cookie.lower() and "httponly" in cookie.lower() for cookie in cookies)
    for cookie in cookies:
        assert client.ask("GET", "/config", {"Cookie": cookie.split(";")[0]})[0] == 200
    assert client.ask("GET", "/config", {"Cookie": cookies[0].split("=")[0] + "=guessed"})[0] == 401


async def gradio_like(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers as Gradio does: to a login, and to everything else."""
    right = scope["path"] != "/login" or (await Request(scope, receive).body()) == b"right"
    await PlainTextResponse("answered", 200 if right else 400)(scope, receive, send)


def test_after_wrong_passwords_even_the_right_one_has_to_wait() -> None:
    now = [0.0]
    limit = LoginLimit(lambda: now[0])
    client = TestClient(AccessMiddleware(gradio_like, LOCAL, lambda _: False, limit), "http://localhost")
    kind = {"Content-Type": FORMS[0]}

    def attempt(password: str) -> int:
        return client.post("/login", content=password, headers=kind).status_code

    assert [attempt("wrong") for _ in range(FREE)] == [400] * FREE
    answer = client.post("/login", content="right", headers=kind)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["detail"] == "Too many wrong passwords from your address: try again in 1 s."
    assert client.get("/").status_code == 429  # the login form shows no sentence, a reload does
    now[0] += 1
    assert [attempt("wrong"), attempt("right")] == [400, 429]
    now[0] += 2
    assert [attempt("right")] + [attempt("wrong") for _ in range(FREE)] == [200] + [400] * FREE


def test_no_websocket_is_opened() -> None:
    client = TestClient(AccessMiddleware(gradio_like, LOCAL), "http://localhost")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/gradio_api/x"):
        raise AssertionError("a websocket was opened")


def test_a_stranger_does_not_fill_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    client = TestClient(AccessMiddleware(gradio_like, LOCAL), "http://localhost")
    for number in range(PRINTED * 3):
        client.get("/", headers={"Host": f"{number}.{'x' * 500}.example"})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == PRINTED and max(map(len, lines)) < 500


def test_no_process_of_the_page_inherits_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cli.PASSWORD_VARIABLE, "a secret")
    options = cli.build_parser().parse_args(["--port", str(free_port())])
    assert cli.check(options) == "a secret"
    assert cli.PASSWORD_VARIABLE not in os.environ
