"""What the page of a Space asks for beside Gradio's routes: who is signed in, what to know, and a pause. Knows no layout."""

from __future__ import annotations

from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from geko_app.space.facts import Space
from geko_app.space.owner import role_of
from geko_app.workers.supervisor import Supervisor

PATH = "/geko-space"


def routes(space: Space, supervisor: Supervisor) -> list[BaseRoute]:
    """The routes; `OwnerOnly` stands before them.

    Args:
        space: that the page runs in.
        supervisor: of its runs.
    """

    def state(request: Request) -> Response:
        return JSONResponse({**role_of(request, space.owners), **facts_for_page(space, supervisor)})

    def pause(_request: Request) -> Response:
        if supervisor.active() or supervisor.queue.waiting():
            return JSONResponse({"error": "A run is active or queued: stop it first, or wait for its end."}, 409)
        try:
            HfApi().pause_space(space.id)  # with the secret HF_TOKEN
        except (HfHubHTTPError, OSError) as error:
            return JSONResponse({"error": f"The Space cannot be paused ({error}): pause it in its settings."}, 502)
        return JSONResponse({"error": ""})

    return [Route(PATH, state), Route(f"{PATH}/pause", pause, methods=["POST"])]


def facts_for_page(space: Space, supervisor: Supervisor) -> dict[str, Any]:
    """What the banner shows to everybody."""
    idle = supervisor.active() is None and not supervisor.queue.waiting()
    return {"signs_in": space.signs_in, "notes": space.notes(), "can_pause": idle and space.pushes}
