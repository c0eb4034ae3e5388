"""What the page's process holds for the tabs that have come and gone."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import psutil
import pytest

from geko_app.server import SESSIONS
from tests.browser.conftest import Server

MOST_BYTES = 150_000_000  # of the sessions that are held; all of those below would take more
OPENED = 4 * SESSIONS


def open_sessions(port: int, numbers: range) -> None:
    """Ask as a tab of its own for each number."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/config")
    config = json.loads(connection.getresponse().read())
    (part,) = (c["id"] for c in config["components"] if "variant" in (c["props"].get("server_fns") or ()))
    for number in numbers:
        body = {"component_id": part, "fn_name": "pull", "session_hash": f"tab-{number}", "data": {}}
        connection.request(
            "POST", "/gradio_api/component_server", json.dumps(body), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        assert response.status == 200
        response.read()


@pytest.mark.slow
def test_tabs_that_are_gone_do_not_fill_the_memory(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        open_sessions(server.port, range(SESSIONS))
        full = process.memory_info().rss
        open_sessions(server.port, range(SESSIONS, OPENED))
        grown = process.memory_info().rss - full
    finally:
        server.end()
    assert grown < MOST_BYTES / 3, f"{OPENED - SESSIONS} more tabs took {grown / 1e6:.0f} MB"
