"""Pages of other sites in a real browser: a foreign origin and a rebound host try every call of the page.

Nothing changes on disk and nothing is read. The same script, run by the page itself, does both: the attack is real.
"""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from tests.app.test_access import routes
from tests.app.views.test_runs import ended
from tests.browser.conftest import ARGUMENTS, WAIT, Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

REBOUND = "rebound.example"
EMPTY = "<!doctype html><title>elsewhere</title>"
# Tries every call in every way that a browser lets a page send it; returns what it could read.
ATTACK = """async ({ target, calls }) => {
  const read = [];
  const once = async (path, options, way) => {
    try {
      const answer = await fetch(target + path, { credentials: 'include', signal: AbortSignal.timeout(20000), ...options });
      if (answer.type !== 'opaque') read.push({ path, way, status: answer.status, text: await answer.text() });
    } catch {}  // the browser kept the answer back
  };
  for (const [method, path, body] of calls) {
    for (const mode of ['cors', 'no-cors']) {
      for (const kind of method === 'POST' ? ['text/plain', 'application/json'] : ['']) {
        const headers = kind ? { 'Content-Type': kind } : {};
        await once(path, { method, mode, headers, body: method === 'POST' ? body : undefined }, `${mode} ${kind}`);
      }
    }
  }
  const form = new FormData();
  form.append('files', new Blob(['foreign']), 'foreign.txt');
  for (const mode of ['cors', 'no-cors']) await once('/gradio_api/upload', { method: 'POST', mode, body: form }, mode);
  return read;
}"""
# A form sends text as well, and scripts and frames read without asking; resolves when all have loaded or failed.
ATTACK_BY_TAGS = """async ({ target, call }) => {
  const [, path, body] = call, loaded = [], add = (node) => { document.body.append(node); return node; };
  const frame = (name) => Object.assign(document.createElement('iframe'), { name });
  const sent = add(frame('sent'));
  const form = add(Object.assign(document.createElement('form'), {
    method: 'post', enctype: 'text/plain', action: target + path, target: 'sent' }));
  form.append(Object.assign(document.createElement('input'), { name: body.slice(0, -1) + ',"x":"', value: '"}' }));
  await new Promise((done) => { sent.onload = sent.onerror = done; form.submit(); });
  for (const from of ['/config', '/theme.css', '/favicon.ico']) {
    for (const tag of ['script', 'img']) {
      const node = document.createElement(tag);
      await new Promise((done) => {
        node.onload = () => { loaded.push(tag + ' ' + from); done(); };
        node.onerror = done;
        node.src = target + from;
        add(node);
      });
    }
  }
  const framed = add(frame('framed'));
  await new Promise((done) => { framed.onload = framed.onerror = done; framed.src = target + '/'; });
  return loaded;
}"""


class Elsewhere(BaseHTTPRequestHandler):
    """A web server of somebody else: one empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(EMPTY.encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class StrippingProxy(BaseHTTPRequestHandler):
    """A reverse proxy as nginx is most often set up: hands /geko/... on without /geko, with the host it was asked as."""

    upstream = 0
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.removeprefix("/geko")
        if path == self.path or not path.startswith("/"):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=600)
        connection.request(self.command, path, body, dict(self.headers))
        answer = connection.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while block := answer.read1(65536):
            try:
                self.wfile.write(block)
            except OSError:  # the browser went away
                break
        connection.close()
        self.close_connection = True

    do_POST = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def served() -> Iterator[Any]:
    """Serves with a handler class on a port of its own; returns the port."""
    servers: list[ThreadingHTTPServer] = []

    def serve(handler: type[BaseHTTPRequestHandler]) -> int:
        made = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        made.daemon_threads = True
        servers.append(made)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        return int(made.server_address[1])

    yield serve
    for made in servers:
        made.shutdown()
        made.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A page with one run that can be deleted; uploads go to a folder of the test."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    made = Server(tmp_path)
    made.start()
    ended(RunStore(tmp_path / "runs"), RunConfig(output_dir=str(tmp_path / "runs")))
    yield made
    made.end()


def on_disk(server: Server) -> dict[str, bytes]:
    """Every file of the runs and of the uploads."""
    roots = (server.folder / "runs", server.folder / "uploads")
    return {str(path): path.read_bytes() for root in roots for path in sorted(root.rglob("*")) if path.is_file()}


def every_call(server: Server) -> list[tuple[str, str, str]]:
    """Method, path and body of every call there is: server functions, events with their own values, routes of Gradio."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/config")
    config = json.loads(connection.getresponse().read())
    connection.close()
    (run,) = (path.name for path in server.runs() if path.is_dir())
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    calls = [("GET", path, "") for method, path in sorted(routes()) if method == "GET"]
    for event in config["dependencies"]:
        data = {"data": [values.get(i) for i in event["inputs"]], "fn_index": event["id"], "session_hash": "s"}
        calls.append(("POST", "/gradio_api/queue/join", json.dumps(data)))
    for part in config["components"]:
        for name in part["props"].get("server_fns") or ():
            query = {"run": run, "text": "foreign", "row": 0, "flagged": True}
            body = {"component_id": part["id"], "fn_name": name, "session_hash": "s", "data": query}
            calls.append(("POST", "/gradio_api/component_server", json.dumps(body)))
    assert len(calls) > 60
    return calls


def removal(calls: list[tuple[str, str, str]]) -> tuple[str, str, str]:
    (found,) = (call for call in calls if '"fn_name": "remove"' in call[2])
    return found


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])  # another site, and another origin of the same site
def test_a_foreign_origin_changes_and_reads_nothing(
    browser: Browser, server: Server, served: Any, tmp_path: Path, name: str
) -> None:
    calls, before = every_call(server), on_disk(server)
    context = browser.new_context()
    context.set_default_timeout(WAIT * 3)
    page = context.new_page()
    elsewhere = f"http://{name}:{served(Elsewhere)}"
    page.goto(elsewhere)
    assert page.evaluate(ATTACK, {"target": server.url, "calls": calls}) == []
    assert page.evaluate(ATTACK_BY_TAGS, {"target": server.url, "call": removal(calls)}) == []
    framed = next(frame for frame in page.frames if frame.name == "framed")
    assert framed.locator("gradio-app, #root, .gradio-container").count() == 0
    assert on_disk(server) == before
    context.close()
    log = (tmp_path / "server.log").read_text(encoding="utf-8")
    assert f"refused a request. The origin '{elsewhere}'" in log  # the server did, not the browser alone


def test_a_rebound_host_changes_and_reads_nothing(browser: Browser, server: Server) -> None:
    calls, before = every_call(server), on_disk(server)
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    rules = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
    unasked = "--disable-features=LocalNetworkAccessChecks"  # newer browsers ask first; the page must not need that
    chromium = browser.browser_type.launch(executable_path=path, args=[*ARGUMENTS, rules, unasked])
    page = chromium.new_page()
    page.set_default_timeout(WAIT * 3)
    own = f"http://{REBOUND}:{server.port}"
    page.route(f"{own}/theirs", lambda route: route.fulfill(content_type="text/html", body=EMPTY))
    page.goto(f"{own}/theirs")  # it came from the name's first address; from now on the name means this machine
    read = page.evaluate(ATTACK, {"target": "", "calls": calls})
    page.goto(own)
    expect(page.locator("body")).to_contain_text(f"The host '{REBOUND}:{server.port}' is not one of this page")
    chromium.close()
    assert len(read) > len(calls)
    assert {answer["status"] for answer in read} == {403}
    assert all(answer["text"].endswith(f"--allow-host {REBOUND}.") for answer in read)
    assert on_disk(server) == before


def test_the_same_script_does_what_the_page_itself_may_do(browser: Browser, server: Server) -> None:
    page, call = browser.new_page(), removal(every_call(server))
    before = on_disk(server)
    page.goto(f"{server.url}/robots.txt")
    read = page.evaluate(ATTACK, {"target": "", "calls": [("GET", "/config", ""), call]})
    assert [answer["text"] for answer in read if answer["way"] == "cors application/json"] == ['{"error":""}']
    assert any(answer["path"] == "/config" and answer["status"] == 200 for answer in read)
    after = on_disk(server)
    assert not any("report.json" in name for name in after) and any("report.json" in name for name in before)
    assert any("foreign.txt" in name for name in after)
    page.close()


def test_behind_a_proxy_everything_loads_below_the_root_path(browser: Browser, served: Any, tmp_path: Path) -> None:
    server = Server(tmp_path, "--root-path", "/geko")
    server.start()
    port = served(type("Proxy", (StrippingProxy,), {"upstream": server.port}))
    failed: list[str] = []
    outside: list[str] = []
    context = browser.new_context()
    context.set_default_timeout(WAIT)
    page = context.new_page()
    prefix = f"http://127.0.0.1:{port}/geko/"
    page.on("response", lambda r: failed.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.on("request", lambda r: outside.append(r.url) if not r.url.startswith((prefix, "data:", "blob:")) else None)
    page.goto(prefix)
    page.wait_for_selector("#geko-start")
    page.wait_for_function("window.Plotly !== undefined && document.body.dataset.form === 'ready'")
    page.locator("#geko-preview-button").click()  # a call through the queue, and its answer
    expect(page.locator(".l-sample")).to_be_visible(timeout=WAIT)
    link = page.evaluate("() => Object.assign(document.createElement('a'), { href: 'geko-download/x' }).href")
    assert link == f"{prefix}geko-download/x"  # as the Runs page asks for a model
    assert "This download" in page.request.get(link).text()  # answered by the page, not by Gradio
    context.close()
    server.end()
    assert (failed, outside) == ([], [])


def test_a_visitor_signs_in(browser: Browser, tmp_path: Path) -> None:
    server = Server(tmp_path, password="a secret")
    server.start()
    context = browser.new_context()
    context.set_default_timeout(WAIT)
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("body")).to_contain_text("After five wrong passwords")
    page.get_by_label("username").fill("geko")
    page.get_by_label("password").fill("wrong")
    page.get_by_role("button", name="Login").click()
    expect(page.locator(".creds")).to_be_visible()
    page.get_by_label("username").fill("geko")
    page.get_by_label("password").fill("a secret")
    page.get_by_role("button", name="Login").click()
    page.wait_for_selector("#geko-start")
    page.wait_for_function("window.Plotly !== undefined && document.body.dataset.form === 'ready'")
    cookies = context.cookies()
    assert cookies and {cookie["sameSite"] for cookie in cookies} == {"Lax"}
    context.close()
    server.end()
