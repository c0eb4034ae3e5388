"""The REST API below /api/v1, and its OpenAPI description. Thin endpoints over operations.py; knows no page.

Its routes have whole paths and no mounted application of their own: a proxy may take the root path away or leave it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from geko_app.api import schemas
from geko_app.api.corrections import CORRECTED, DATASETS, CorrectionOperations
from geko_app.api.openapi_page import page
from geko_app.api.operations import MOST_RUNS, MOST_SAMPLES, NotFound, RunOperations
from geko_app.api.tokens import NO_TOKEN, ApiToken
from geko_app.views.sample_filters import FILTERS, SORTS
from geko_app.workers.export_jobs import ExportOptions
from geko_engine import __version__
from geko_engine.exceptions import GekoError

PREFIX = "/api/v1"
TITLE = "GEKO API"
ABOUT = (
    "Starts, watches, stops, resumes and exports the runs of a GEKO page, and corrects their samples. Every request carries the "
    "token of the page: `Authorization: Bearer TOKEN`."
)
CHUNK = 1 << 16  # bytes
NO_OBJECT = f"The body must be a JSON object: {PREFIX}/docs lists what it may hold."
Share = Annotated[float | None, Query(gt=0, le=1, description=schemas.SHARE.capitalize())]
Problems = Sequence[tuple[str, str]]
ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": schemas.ErrorAnswer, "description": "The token is missing or wrong."},
    404: {"model": schemas.ErrorAnswer, "description": "There is no such run, sample or export."},
    409: {"model": schemas.ErrorAnswer, "description": "The state of the run does not allow it."},
    422: {"model": schemas.ErrorAnswer, "description": "A setting or an argument is wrong; `problems` names each."},
}


class JsonRequest(Request):
    """A request whose body says why it cannot be read."""

    async def json(self) -> Any:
        """The body as values; raises HTTPException for whatever the parser refuses."""
        try:
            return await super().json()
        except (ValueError, RecursionError) as error:
            raise HTTPException(422, f"The body cannot be read as JSON ({_why(error)}). {NO_OBJECT}") from error


class JsonErrors(APIRoute):
    """A route whose errors are an ErrorAnswer; those that are bugs are left to the server."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the route, with its errors put into JSON."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(JsonRequest(request.scope, request.receive))
            except HTTPException as error:
                return error_answer(error.status_code, [("", str(error.detail))], error.headers)
            except RequestValidationError as error:
                return error_answer(422, [_problem(found) for found in error.errors()])
            except NotFound as error:
                return error_answer(404, error.problems)
            except GekoError as error:
                return error_answer(422 if any(field for field, _ in error.problems) else 409, error.problems)

        return answer


class JsonLines(StreamingResponse):
    """A file of JSON objects, one a line."""

    media_type = "application/jsonl"


class Endpoints:
    """One method for each route."""

    def __init__(self, operations: RunOperations) -> None:
        self._do, self._mend = operations, CorrectionOperations(operations)

    def start(self, request: schemas.StartRequest) -> dict[str, Any]:
        """Start a run. While another one is active, it is queued."""
        return self._do.start(request.config, demo=request.demo, hub_token=request.hub_token)

    def runs(
        self, limit: Annotated[int, Query(ge=1, le=MOST_RUNS)] = 50, offset: Annotated[int, Query(ge=0)] = 0
    ) -> dict[str, Any]:
        """List runs, newest first. Runs of the command line in the same folder are among them."""
        return self._do.runs(limit=limit, offset=offset)

    def state(self, run_id: str) -> dict[str, Any]:
        """How a run is going, or how it ended."""
        return self._do.state(run_id)

    def config(self, run_id: str) -> dict[str, Any]:
        """All settings of a run. Sent to `POST /runs` as `config`, they start the same run again. The path of
        `training.webhook_url` is hidden: give the whole address again, or leave it out."""
        return self._do.config(run_id)

    def stop(self, run_id: str, now: bool = False) -> dict[str, Any]:
        """Stop a run: it saves a checkpoint and ends soon after. A queued run leaves the queue. While a large checkpoint is
        written, this can take up to an hour; with `now=true` the run ends within seconds and may lose that checkpoint."""
        return self._do.stop(run_id, now=now)

    def resume(self, run_id: str) -> dict[str, Any]:
        """Continue a stopped, failed or interrupted run from its newest checkpoint."""
        return self._do.resume(run_id)

    def samples(
        self,
        run_id: str,
        filter: Annotated[str, Query(description=f"Empty, or one of {', '.join(FILTERS[1:])}.")] = "",
        search: Annotated[str, Query(max_length=1000, description="A text that they contain, in any case.")] = "",
        sort: Annotated[str, Query(description=f"One of {', '.join(SORTS)}.")] = "row",
        descending: bool = False,
        limit: Annotated[int, Query(ge=1, le=MOST_SAMPLES)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """Training samples with loss, confidence, bucket and what looks wrong about them."""
        return self._do.samples(
            run_id, filter=filter, search=search, sort=sort, descending=descending, limit=limit, offset=offset
        )

    def sample(self, run_id: str, sample_id: int) -> dict[str, Any]:
        """One training sample with its text and its state after each epoch."""
        return self._do.sample(run_id, sample_id)

    def decide(self, run_id: str, request: schemas.DecideRequest) -> dict[str, Any]:
        """Decide samples: what the next run makes of their rows. Nothing in the source is changed, and an undo takes it back."""
        return self._mend.decide(run_id, request.samples, request.action, prompt=request.prompt, answer=request.answer)

    def decisions(
        self,
        run_id: str,
        limit: Annotated[int, Query(ge=1, le=MOST_SAMPLES)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """What was decided about the rows of a run, by programs and on the page."""
        return self._mend.decisions(run_id, limit=limit, offset=offset)

    def dataset(
        self,
        run_id: str,
        rows: Annotated[str, Query(description=f"One of {', '.join(DATASETS)}.")] = CORRECTED,
        share: Share = None,
    ) -> JsonLines:
        """The corrected samples, or the core set, as a JSONL file to train on; flagged and deleted rows are not in it. The header
        `GEKO-Left-Out` says how many more are missing because the run has not kept their whole text."""
        found = self._mend.dataset(run_id, rows, share)
        headers = {
            "Content-Disposition": f'attachment; filename="{found.name}"',
            "Content-Length": str(found.size),
            "GEKO-Left-Out": str(found.left_out),
        }
        return JsonLines(_chunks(found.file), headers=headers)

    def core_set(self, run_id: str, share: Share = None) -> dict[str, Any]:
        """The rows that carried the training, and what runs on them have shown."""
        return self._mend.core_set(run_id, share)

    def retrain(self, run_id: str, request: schemas.RetrainRequest) -> dict[str, Any]:
        """Train a run again with what was decided about its samples. While another run is active, it is queued."""
        return self._mend.retrain(
            run_id, request.rows, share=request.share, changes=request.changes, hub_token=request.hub_token
        )

    def export(self, run_id: str, request: schemas.ExportRequest) -> dict[str, Any]:
        """Begin to export the model of a run. One export at a time."""
        options = ExportOptions(request.repo, request.merged, request.private, request.hub_token)
        return self._do.export(run_id, request.to, options)

    def export_state(self, run_id: str) -> dict[str, Any]:
        """How far the last export of a run has come."""
        return self._do.export_state(run_id)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


def routes(operations: RunOperations, token: ApiToken) -> list[BaseRoute]:
    """The routes of the API, for an application that lets in whom `geko_app.access` lets in.

    Args:
        operations: on the runs of the page.
        token: that every request but those for the documentation must carry.
    """

    def check(request: Request) -> None:
        if not token.admits(request.headers):
            raise HTTPException(401, NO_TOKEN, {"WWW-Authenticate": "Bearer"})

    bearer = HTTPBearer(auto_error=False, description="The token of --api-token or GEKO_API_TOKEN.")
    router = APIRouter(prefix=PREFIX, route_class=JsonErrors, dependencies=[Depends(check), Depends(bearer)])
    for method, path, endpoint, model, status in _table(Endpoints(operations)):
        router.add_api_route(
            path,
            endpoint,
            methods=[method],
            response_model=None if model is JsonLines else model,
            response_class=JsonLines if model is JsonLines else JSONResponse,
            status_code=status,
            responses=ERRORS,
            operation_id=endpoint.__name__,
            summary=endpoint.__name__.replace("_", " ").capitalize(),
        )
    description = get_openapi(title=TITLE, version=__version__, description=ABOUT, routes=router.routes)
    return [*router.routes, *_documentation(description), _unknown(check)]


def _table(end: Endpoints) -> tuple[tuple[str, str, Callable[..., Any], Any, int], ...]:
    """(method, path, endpoint, model of its answer, status) of each call."""
    return (
        ("POST", "/runs", end.start, schemas.RunState, 201),
        ("GET", "/runs", end.runs, schemas.RunList, 200),
        ("GET", "/runs/{run_id}", end.state, schemas.RunState, 200),
        ("GET", "/runs/{run_id}/config", end.config, None, 200),
        ("POST", "/runs/{run_id}/stop", end.stop, schemas.RunState, 202),
        ("POST", "/runs/{run_id}/resume", end.resume, schemas.RunState, 202),
        ("GET", "/runs/{run_id}/samples", end.samples, schemas.SampleList, 200),
        ("GET", "/runs/{run_id}/samples/{sample_id}", end.sample, schemas.SampleDetail, 200),
        ("POST", "/runs/{run_id}/decisions", end.decide, schemas.Decided, 200),
        ("GET", "/runs/{run_id}/decisions", end.decisions, schemas.DecisionList, 200),
        ("GET", "/runs/{run_id}/dataset", end.dataset, JsonLines, 200),
        ("GET", "/runs/{run_id}/core-set", end.core_set, schemas.CoreSet, 200),
        ("POST", "/runs/{run_id}/retrain", end.retrain, schemas.RunState, 201),
        ("POST", "/runs/{run_id}/export", end.export, schemas.ExportState, 202),
        ("GET", "/runs/{run_id}/export", end.export_state, schemas.ExportState, 200),
    )


def _documentation(description: dict[str, Any]) -> list[BaseRoute]:
    """The OpenAPI description as JSON and as a page that needs no script and no network."""
    html = page(description)

    def as_json(_request: Request) -> Response:
        return JSONResponse(description)

    def as_page(_request: Request) -> Response:
        return HTMLResponse(html)

    return [Route(f"{PREFIX}/openapi.json", as_json), Route(f"{PREFIX}/docs", as_page)]


def _unknown(check: Callable[[Request], None]) -> BaseRoute:
    """Every other path below the prefix: an error in JSON, not the page."""

    def unknown(request: Request) -> Response:
        try:
            check(request)
        except HTTPException as error:
            return error_answer(error.status_code, [("", str(error.detail))], error.headers)
        sentence = f"There is no {request.method} {request.url.path}: {PREFIX}/docs lists what there is."
        return error_answer(404, [("", sentence)])

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Route(f"{PREFIX}/{{path:path}}", unknown, methods=methods)


def error_answer(status: int, problems: Problems, headers: Any = None) -> JSONResponse:
    """An ErrorAnswer.

    Args:
        status: of HTTP.
        problems: (dotted field or "", message) of each.
        headers: of the answer.
    """
    problems = [(_whole(field), _whole(text)) for field, text in problems]
    detail = "\n".join(f"{field}: {text}" if field else text for field, text in problems)
    found = [{"field": field, "message": text} for field, text in problems]
    return JSONResponse({"detail": detail, "problems": found}, status, headers)


def _whole(text: str) -> str:
    """`text` without halves of characters (lone surrogates), which an answer in UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _why(error: ValueError | RecursionError) -> str:
    """Why a body is no JSON; what Python says of long numbers and of deep nesting is about Python."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1:,}"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start + 1:,}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else "it holds a number of too many digits"


def _problem(found: dict[str, Any]) -> tuple[str, str]:
    """(field, message) of one error of a validation; the first part of its place is only body, query or path."""
    place = [str(part) for part in found["loc"][1:]]
    is_no_object = not place and found["type"] in ("missing", "model_attributes_type")
    return ".".join(place), NO_OBJECT if is_no_object else str(found["msg"])
