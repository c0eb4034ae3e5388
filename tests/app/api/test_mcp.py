"""The MCP tools of a real page, used by the client of the protocol's own library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from geko_app.api.mcp_tools import CHANGING, PATH, READ_ONLY
from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from tests.app.api.conftest import AUTHORIZED
from tests.app.sample_runs import new_run
from tests.app.views.test_runs import ended
from tests.browser.conftest import Server


def use(server: Server, steps: Callable[[Client], Awaitable[Any]], headers: dict[str, str] | None = None) -> Any:
    """Connect, and do `steps` with the client."""

    async def session() -> Any:
        given = AUTHORIZED if headers is None else headers
        async with (
            httpx.AsyncClient(headers=given, timeout=60) as http,
            Client(streamable_http_client(f"{server.url}{PATH}", http_client=http)) as client,
        ):
            return await steps(client)

    with ThreadPoolExecutor(1) as pool:  # in this thread a browser's loop may be running
        return pool.submit(asyncio.run, session()).result()


def call(server: Server, tool: str, **arguments: Any) -> Any:
    """What a tool answers."""
    result = use(server, lambda client: client.call_tool(tool, arguments))
    assert not result.is_error, result.content[0].text
    return result.structured_content


def refusal(server: Server, tool: str, **arguments: Any) -> str:
    """The sentence with which a tool refuses."""
    result = use(server, lambda client: client.call_tool(tool, arguments))
    assert result.is_error
    return str(result.content[0].text)


def test_a_client_finds_every_tool_described(api_server: Server) -> None:
    tools = {tool.name: tool for tool in use(api_server, lambda client: client.list_tools()).tools}
    assert set(tools) == {*READ_ONLY, *CHANGING}
    for name, tool in tools.items():
        assert tool.description and tool.annotations.read_only_hint is (name in READ_ONLY)
        assert "self" not in tool.input_schema["properties"]
    assert tools["start_run"].input_schema["required"] == ["config"]


def test_runs_and_samples_are_read(api_server: Server) -> None:
    store = RunStore(api_server.folder / "runs")
    run, samples = ended(store, RunConfig(output_dir=str(store.root))), new_run(store, count=12)
    assert call(api_server, "run_state", run_id=run.id)["state"] == "complete"
    assert run.id in [state["id"] for state in call(api_server, "list_runs", limit=100)["runs"]]
    assert call(api_server, "run_config", run_id=run.id)["model"]["name"] == "demo"
    found = call(api_server, "list_samples", run_id=samples.id, sort="loss", descending=True, limit=2)
    assert found["total"] == 12 and [sample["loss"] for sample in found["samples"]] == [6.0, 6.0]
    assert call(api_server, "show_sample", run_id=samples.id, sample_id=0)["text"] == "question 0\nanswer 0"


def test_what_is_wrong_is_said_with_the_field(api_server: Server) -> None:
    wrong = {"training": {"num_epochs": 0}, "model": {"naem": "x"}}
    said = refusal(api_server, "start_run", config=wrong)
    assert "training.num_epochs: " in said and "model.naem: " in said and "Traceback" not in said
    assert "There is no run 'nothing'" in refusal(api_server, "run_state", run_id="nothing")
    assert "limit" in refusal(api_server, "list_runs", limit=0)


@pytest.mark.slow
def test_a_run_is_queued_and_taken_out_by_tools(api_server: Server) -> None:
    config = {"data": {"sample_count": 64}, "training": {"num_epochs": 500}}
    first = call(api_server, "start_run", config=config, demo=True)["id"]
    second = call(api_server, "start_run", config=config, demo=True)
    assert second["state"] == "queued"
    assert call(api_server, "stop_run", run_id=second["id"])["state"] == "stopped"
    assert call(api_server, "stop_run", run_id=first)["id"] == first


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_without_the_token_there_are_no_tools(api_server: Server, headers: dict[str, str]) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    kinds = {"Accept": "application/json, text/event-stream"}
    answer = httpx.post(f"{api_server.url}{PATH}", json=body, headers={**headers, **kinds}, timeout=60)
    assert answer.status_code == 401 and "tools" not in json.dumps(answer.json())
    foreign = {**AUTHORIZED, **kinds, "Origin": "http://evil.example"}
    assert httpx.post(f"{api_server.url}{PATH}", json=body, headers=foreign, timeout=60).status_code == 403
