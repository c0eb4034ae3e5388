"""MCP tools over operations.py, served at /mcp by streamable HTTP. Needs the package mcp; knows no page.

Stateless: each request stands for itself, so a restart of the page ends no session.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations
from pydantic import Field, StrictInt
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from geko_app.api.corrections import ACTIONS, MOST_DECIDED, RETRAININGS, CorrectionOperations
from geko_app.api.operations import MOST_RUNS, MOST_SAMPLES, RunOperations
from geko_app.api.schemas import SHARE
from geko_app.api.tokens import NO_TOKEN, ApiToken
from geko_app.views.sample_filters import FILTERS, SORTS
from geko_app.workers.export_jobs import TARGETS, ExportOptions
from geko_engine import __version__
from geko_engine.exceptions import GekoError

PATH = "/mcp"
ABOUT = (
    "GEKO fine-tunes language models and keeps a record of every training sample. Start a run with start_run, watch it with "
    "run_state until `ended` is true, then look at samples and export the model. Wrong samples are found by list_samples, "
    "corrected by decide_samples, and trained on again by retrain_run."
)
RunId = Annotated[str, Field(description="Id of a run, as list_runs and start_run give it.")]
Share = Annotated[float | None, Field(gt=0, le=1, description=SHARE.capitalize())]
Result = dict[str, Any]


class Tools:
    """One method for each tool; its docstring and its arguments are what a model reads."""

    def __init__(self, operations: RunOperations) -> None:
        self._do, self._mend = operations, CorrectionOperations(operations)

    def start_run(
        self,
        config: Annotated[dict[str, Any], Field(description="Sections model, data, lora, training, geko.")],
        demo: Annotated[bool, Field(description="Begin with the settings of the built-in demo.")] = False,
    ) -> Result:
        """Start a training run, or queue it if one is active. `config` has the keys of a geko-train YAML file, such as
        {"model": {"name": "HuggingFaceTB/SmolLM2-135M"}, "data": {"train": "/data/answers.jsonl"}, "lora": {"enabled": true}}."""
        return self._do.start(config, demo=demo)

    def list_runs(
        self, limit: Annotated[int, Field(ge=1, le=MOST_RUNS)] = 20, offset: Annotated[int, Field(ge=0)] = 0
    ) -> Result:
        """List runs with their state and figures, newest first."""
        return self._do.runs(limit=limit, offset=offset)

    def run_state(self, run_id: RunId) -> Result:
        """How a run is going (phase, progress), or how and why it ended, with its figures."""
        return self._do.state(run_id)

    def run_config(self, run_id: RunId) -> Result:
        """All settings of a run; they can be changed and given to start_run. The path of training.webhook_url is hidden: give
        the whole address again, or leave it out."""
        return self._do.config(run_id)

    def stop_run(self, run_id: RunId, now: bool = False) -> Result:
        """Stop an active run (it saves a checkpoint first), or take a queued one out of the queue. `now` ends it by force, which
        may lose the checkpoint that it is writing."""
        return self._do.stop(run_id, now=now)

    def resume_run(self, run_id: RunId) -> Result:
        """Continue a stopped, failed or interrupted run from its newest checkpoint."""
        return self._do.resume(run_id)

    def list_samples(
        self,
        run_id: RunId,
        filter: Annotated[str, Field(description=f"Empty, or one of {', '.join(FILTERS[1:])}.")] = "",
        search: Annotated[str, Field(description="A text that they contain.")] = "",
        sort: Annotated[str, Field(description=f"One of {', '.join(SORTS)}.")] = "row",
        descending: bool = False,
        limit: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 20,
        offset: Annotated[int, Field(ge=0)] = 0,
    ) -> Result:
        """Training samples of a run with loss, confidence, bucket and what looks wrong about them. While `check_state` is
        running or waiting, ask again: before its end nothing is likely_mislabeled."""
        return self._do.samples(
            run_id, filter=filter, search=search, sort=sort, descending=descending, limit=limit, offset=offset
        )

    def show_sample(self, run_id: RunId, sample_id: Annotated[int, Field(ge=0)]) -> Result:
        """One training sample: its text, its state after each epoch, why it is in its bucket, and what could replace its
        answer."""
        return self._do.sample(run_id, sample_id)

    def decide_samples(
        self,
        run_id: RunId,
        samples: Annotated[
            list[StrictInt], Field(min_length=1, max_length=MOST_DECIDED, description="Ids, as list_samples has them.")
        ],
        action: Annotated[str, Field(description=f"One of {', '.join(ACTIONS)}.")],
        prompt: Annotated[str | None, Field(description="For replace: the new prompt; null keeps it.")] = None,
        answer: Annotated[str | None, Field(description="For replace: the new answer; null keeps it.")] = None,
    ) -> Result:
        """Decide what the next run makes of samples: keep them as they are, replace the texts of one, accept the suggested
        answers, delete their rows, or undo the last decision on each. The source is not changed: decisions are added to a log of
        the run."""
        return self._mend.decide(run_id, samples, action, prompt=prompt, answer=answer)

    def list_decisions(
        self,
        run_id: RunId,
        limit: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 20,
        offset: Annotated[int, Field(ge=0)] = 0,
    ) -> Result:
        """What was decided about the rows of a run, with their texts before and after."""
        return self._mend.decisions(run_id, limit=limit, offset=offset)

    def core_set(
        self,
        run_id: RunId,
        share: Share = None,
        limit: Annotated[int, Field(ge=1, description="Row numbers in the answer.")] = 100,
        offset: Annotated[int, Field(ge=0)] = 0,
    ) -> Result:
        """The rows that carried the training of a run: how many, what a run on them has shown, and their numbers."""
        return self._mend.core_set(run_id, share, limit=limit, offset=offset)

    def retrain_run(
        self,
        run_id: RunId,
        rows: Annotated[str, Field(description=f"One of {', '.join(RETRAININGS)}.")],
        share: Share = None,
        changes: Annotated[
            dict[str, Any] | None, Field(description="Settings to change besides, by section as in start_run.")
        ] = None,
    ) -> Result:
        """Train a run again, or queue that: `changed` goes on from its model with what was edited, `corrected` is the same run from
        its base model on the corrected rows, `core_set` and `random_set` are the same run on these rows alone, of `share` of all."""
        return self._mend.retrain(run_id, rows, share=share, changes=changes)

    def export_model(
        self,
        run_id: RunId,
        to: Annotated[str, Field(description=f"One of {', '.join(TARGETS)}.")],
        repo: Annotated[str, Field(description="For hub: the repository, such as ada/answers.")] = "",
    ) -> Result:
        """Begin to export a run's model; export_state says when it is done. New repositories are private."""
        return self._do.export(run_id, to, ExportOptions(repo))

    def export_state(self, run_id: RunId) -> Result:
        """How far the last export of a run has come, and where its result is."""
        return self._do.export_state(run_id)


def spoken(tool: Callable[..., Result]) -> Callable[..., Result]:
    """The tool, whose refusals reach the model as sentences; the library hides every other error."""

    @wraps(tool)
    def answer(*given: Any, **named: Any) -> Result:
        try:
            return tool(*given, **named)
        except GekoError as error:
            raise ToolError(str(error)) from error

    return answer


READ_ONLY = (
    "list_runs",
    "run_state",
    "run_config",
    "list_samples",
    "show_sample",
    "list_decisions",
    "core_set",
    "export_state",
)
CHANGING = ("start_run", "stop_run", "resume_run", "decide_samples", "retrain_run", "export_model")


class McpEndpoint:
    """The tools as an ASGI application.

    Args:
        operations: on the runs of the page.
        token: that every request must carry.
    """

    def __init__(self, operations: RunOperations, token: ApiToken) -> None:
        tools = Tools(operations)
        self._token = token
        self._server = MCPServer("geko", title="GEKO", instructions=ABOUT, version=__version__, log_level="WARNING")
        for name in (*READ_ONLY, *CHANGING):
            # Nothing is lost by any of them: decisions are lines of a log, and runs get folders of their own.
            hints = ToolAnnotations(read_only_hint=name in READ_ONLY, destructive_hint=False)
            self._server.add_tool(spoken(getattr(tools, name)), name=name, annotations=hints)
        # Hosts and origins are checked by geko_app.access, before this.
        checks = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self._app: ASGIApp = self._server.streamable_http_app(
            streamable_http_path=PATH, json_response=True, stateless_http=True, transport_security=checks
        )

    def routes(self) -> list[BaseRoute]:
        """The one route."""
        return [Route(PATH, self)]

    def running(self) -> AbstractAsyncContextManager[Any]:
        """To be entered while the page is served."""
        return self._server.session_manager.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request that carries the token."""
        if not self._token.admits(Request(scope).headers):
            refusal = JSONResponse({"detail": NO_TOKEN, "problems": []}, 401, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        # Whatever a proxy left of the root path, the tools are asked for at PATH.
        await self._app({**scope, "path": PATH, "root_path": ""}, receive, send)
