"""Who may change what in a Space: its owner everything, everybody else nothing. Plain ASGI; knows no layout.

The session is that of Gradio's sign-in with the Hub, which is signed. A visitor reads what the page shows, with the functions
in READING; a function that is not listed there is refused, so a new one is closed until it is listed. A name in READING opens
every function of that name, so only functions that everybody may call share one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geko_app.access import READING as READING_METHODS
from geko_app.access import is_api, path_below_root

CALL, EVENT = "/gradio_api/component_server", "/gradio_api/queue/join"
WRITERS = ("admin", "write")  # roles in an organization
READING = frozenset(
    (
        "chart",
        "changes",
        "core_set",
        "corrections",
        "curves",
        "data_map",
        "exports",
        "figures",
        "gpus",
        "job",
        "layout",
        "groups",
        "map_figure",
        "opened",
        "partner",
        "preview",
        "preview_all",
        "pull",
        "report",
        "review",
        "review_one",
        "runs",
        "sample",
        "serve",
        "sizes",
        "table",
    )
)
REFUSED = "Only the owner of this Space may do that: sign in, or duplicate the Space to have your own."


class OwnerOnly:
    """Refuses what changes something to everybody but the owner.

    Args:
        app: the page, inside of the session's middleware.
        owners: names of users and organizations of the Hub, in lower case.
        harmless: numbers of the page's events that anybody may start.
    """

    def __init__(self, app: ASGIApp, owners: frozenset[str], harmless: frozenset[int] = frozenset()) -> None:
        self._app, self._owners, self._harmless = app, owners, harmless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http" or await self._allowed(scope):
            await self._app(scope, receive, send)
            return
        path = path_below_root(scope).rstrip("/")
        if path not in (CALL, EVENT):
            await JSONResponse({"detail": REFUSED}, 403)(scope, receive, send)
            return
        messages, body = await _read(receive)
        if not self._reads(path, body):
            await JSONResponse({"detail": REFUSED}, 403)(scope, receive, send)
            return
        await self._app(scope, _again(messages, receive), send)

    async def _allowed(self, scope: Scope) -> bool:
        """Whether a request is let in whatever its body says. The API has a token of its own."""
        reads = scope["method"] in READING_METHODS
        return reads or is_api(path_below_root(scope)) or is_owner(session_of(scope), self._owners)

    def _reads(self, path: str, body: bytes) -> bool:
        try:
            asked = json.loads(body)
        except ValueError:
            return False
        if not isinstance(asked, dict):
            return False
        if path == CALL:
            return isinstance(asked.get("fn_name"), str) and asked["fn_name"] in READING
        return type(asked.get("fn_index")) is int and asked["fn_index"] in self._harmless


def session_of(scope: Scope) -> Mapping[str, Any]:
    """The session of a request; {} without one."""
    session = scope.get("session")
    return session if isinstance(session, Mapping) else {}


def user_of(session: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
    """What the Hub says of who has signed in; {} for nobody, and after the sign-in has expired."""
    found = session.get("oauth_info")
    if not isinstance(found, dict) or not isinstance(found.get("userinfo"), dict):
        return {}
    expires = found.get("expires_at")
    if isinstance(expires, int | float) and expires < (time.time() if now is None else now):
        return {}
    user: dict[str, Any] = found["userinfo"]
    return user


def is_owner(session: Mapping[str, Any], owners: frozenset[str]) -> bool:
    """Whether who has signed in is one of `owners`, or may write in an organization that is."""
    user = user_of(session)
    organizations = user.get("orgs")
    found = [one for one in organizations if isinstance(one, dict)] if isinstance(organizations, list) else []
    writable = [one for one in found if one.get("roleInOrg") in WRITERS]
    return any(str(one.get("preferred_username", "")).lower() in owners for one in (user, *writable))


def role_of(connection: HTTPConnection, owners: frozenset[str]) -> dict[str, Any]:
    """For the page: the name of who has signed in ("" for nobody), and whether that is the owner."""
    session = session_of(connection.scope)
    return {"name": str(user_of(session).get("preferred_username", "")), "owner": is_owner(session, owners)}


async def _read(receive: Receive) -> tuple[list[Message], bytes]:
    """The messages of a body, and the body; `geko_app.access` has limited its size."""
    messages: list[Message] = []
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request" or not message.get("more_body", False):
            return messages, b"".join(m.get("body", b"") for m in messages)


def _again(messages: list[Message], receive: Receive) -> Receive:
    """`receive` that begins with messages that were read already."""
    waiting = iter(messages)

    async def replay() -> Message:
        return next(waiting, None) or await receive()

    return replay
