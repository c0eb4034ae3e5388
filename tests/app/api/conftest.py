"""A page with its interface for programs, as a real process, and an HTTP client for it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.browser.conftest import Server

TOKEN = "a-token-for-the-tests-0123456789"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("api"), "--api-token", TOKEN, "--mcp")
    made.start()
    yield made
    made.end()


@pytest.fixture
def client(api_server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{api_server.url}/api/v1", headers=AUTHORIZED, timeout=60) as made:
        yield made
