"""Who may use the page: host names, origins, the type of a body, and the login. Plain ASGI; knows no Gradio and no layout.

A page of another site can send requests to this server through its visitor's browser, and by DNS rebinding it can even
read the answers. So every request must name a host that belongs to this page, a request of another origin is refused,
and calls carry JSON, which a browser sends to a foreign server only after asking.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geko_app.login_limit import LoginLimit
from geko_engine.exceptions import RunError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|[0-9a-f:.]*:[0-9a-f:.]*")
READING = ("GET", "HEAD", "OPTIONS")
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
UPLOAD = "/gradio_api/upload"  # Gradio writes its body to the disk, and knows the largest size
BODY_TYPES = {"/login": FORMS, UPLOAD: FORMS[:1]}  # every other body is JSON
MAX_BODY = 10_000_000  # bytes of a call; the longest is a form with a YAML text in it
# Answered without a login: the login page, what it is drawn with, and what Gradio asks itself when it starts.
OPEN = ("/", "/login", "/favicon.ico", "/manifest.json", "/pwa_icon", "/robots.txt", "/theme.css")
OPEN_API = ("/gradio_api/theme.css", "/gradio_api/startup-events")
OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/", "/geko-static/")
CALLBACK = "/login/callback"  # where the Hub sends visitors of a Space that have signed in
API = ("/api/v1", "/mcp")  # for programs, which send a token instead of a cookie (geko_app/api)
PRINTED = 20  # different refusals printed in the terminal; a stranger must not fill a log
LONGEST = 100  # characters of a foreign value that are quoted


class Refusal(NamedTuple):
    """The answer to a request that is not let in."""

    status: int
    sentence: str


@dataclass(frozen=True)
class Access:
    """Whom the page belongs to.

    Args:
        hosts: names and addresses, in lower case and without a port, that requests may be sent to.
        any_address: whether an IP address is always one of them. The page listens on every address then, and DNS
            rebinding needs a name.
        space: host of the Hugging Face Space that the page runs in, "" elsewhere.
    """

    hosts: frozenset[str]
    any_address: bool = False
    space: str = ""

    @classmethod
    def of(cls, host: str, allowed: tuple[str, ...] = (), space: str = "") -> Access:
        """For a page that listens on `host`. Raises RunError for an allowed host that is no host name."""
        bound = host.strip("[]").lower()
        names = [name.lower().strip("[]") for name in allowed]
        for given, name in zip(allowed, names, strict=True):
            if not HOST_NAME.fullmatch(name):
                raise RunError(
                    f"--allow-host {given!r} is no host name: give it without a scheme, port or path, such as "
                    "gpu-box.example.org."
                )
        known = (*LOOPBACK, *names, bound, space.lower())
        return cls(frozenset(name for name in known if name), bound in ("0.0.0.0", "::"), space.lower())

    def allows(self, host: str) -> bool:
        """Whether `host`, the value of a Host header, names this page; its port does not matter."""
        name, _ = split_host(host)
        return name in self.hosts or (self.any_address and is_address(name))

    def refusal(self, method: str, path: str, headers: Headers) -> Refusal | None:
        """Why a request is not let in, or None. `path` is below the root path."""
        return (
            self._host_refusal(headers)
            or self._origin_refusal(headers)
            or self._site_refusal(method, path, headers)
            or _body_refusal(method, path, headers)
        )

    def _host_refusal(self, headers: Headers) -> Refusal | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            return Refusal(400, f"A request must name one host; this one names {len(hosts)}.")
        for host in (*hosts, *_forwarded(headers)):
            if not self.allows(host):
                name = split_host(host)[0] or host
                return Refusal(
                    403,
                    f"The host {quoted(host)} is not one of this page. If it is yours, start geko-app with "
                    f"--allow-host {quoted(name).strip(chr(39))}.",
                )
        return None

    def _origin_refusal(self, headers: Headers) -> Refusal | None:
        """An Origin is the host that the browser asked: the Host, or what a proxy before it was asked as."""
        for origin in headers.getlist("origin"):
            if self.space and origin.lower() == f"https://{self.space}":
                continue
            hosts = (headers["host"], *_forwarded(headers))
            if not any(same_host(origin, host) for host in hosts):
                return Refusal(
                    403,
                    f"The origin {quoted(origin)} is not the host {quoted(hosts[-1])} of this page: pages of other sites "
                    "cannot use it. Behind a proxy, hand on the Host header (or set X-Forwarded-Host) and start geko-app "
                    "with --allow-host and that name.",
                )
        return None

    def _site_refusal(self, method: str, path: str, headers: Headers) -> Refusal | None:
        """From another site a link may open the page, and nothing else may be asked; browsers say where from."""
        site = headers.get("sec-fetch-site", "none")
        doors = ("/", CALLBACK) if self.space else ("/",)
        opens = method in READING and path in doors and headers.get("sec-fetch-mode") == "navigate"
        if site in ("same-origin", "none") or opens:
            return None
        return Refusal(
            403, f"This request comes from another site ({quoted(site)}): only the page itself can be opened."
        )


def _body_refusal(method: str, path: str, headers: Headers) -> Refusal | None:
    wanted = BODY_TYPES.get(path.rstrip("/"), ("application/json",))
    given = headers.get("content-type", "")
    length = headers.get("content-length", "")
    if is_api(path) and not given and length in ("", "0"):
        return None  # such as a stop; a foreign page cannot add the token to a request
    if path.rstrip("/") != UPLOAD and length.isdecimal() and int(length[:20]) > MAX_BODY:
        return Refusal(413, f"A call has at most {MAX_BODY:,} bytes, but this one has {quoted(length)}: send less.")
    if method in READING or given.split(";")[0].strip().lower() in wanted:
        return None
    return Refusal(415, f"The Content-Type {quoted(given)} is not accepted here: send {' or '.join(wanted)}.")


def _forwarded(headers: Headers) -> list[str]:
    """The hosts that proxies were asked as, the outermost first."""
    return [host.strip() for value in headers.getlist("x-forwarded-host") for host in value.split(",")]


def split_host(value: str) -> tuple[str, int | None]:
    """Name and port of a Host header; ("", None) for what is none. An IPv6 address comes without its brackets."""
    try:
        parts = urlsplit(f"//{value}")
        port = parts.port
    except ValueError:
        return "", None
    if parts.netloc != value or parts.username is not None or not parts.hostname:
        return "", None
    return parts.hostname, port


def same_host(origin: str, host: str) -> bool:
    """Whether the value of an Origin header names the host and port of a Host header."""
    scheme, separator, netloc = origin.partition("://")
    default = {"http": 80, "https": 443}.get(scheme.lower())
    (name, port), (other, other_port) = split_host(netloc), split_host(host)
    if not separator or not name or default is None:
        return False
    return (name, port or default) == (other, other_port or default)


def is_address(name: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def quoted(value: str) -> str:
    """A foreign value for a sentence: printable, and not too long."""
    return ascii(value if len(value) <= LONGEST else value[:LONGEST] + "...")


class AccessMiddleware:
    """Refuses requests that `access` does not let in, and those of visitors who have not signed in.

    Args:
        signed_in: whether a request carries a valid session; None where no password is asked for.
        limit: counts attempts to sign in.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        signed_in: Callable[[HTTPConnection], bool] | None = None,
        limit: LoginLimit | None = None,
    ) -> None:
        self.app, self.access = app, access
        self._signed_in, self._limit = signed_in, limit or LoginLimit()
        self._printed: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the page has none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), path_below_root(scope)
        refusal = self.access.refusal(scope["method"], path, headers)
        if refusal is not None:
            self._print(refusal.sentence)
            await refused(path, refusal)(scope, receive, send)
            return
        answer = self._login_answer(scope, path)
        bounded = receive if path.rstrip("/") == UPLOAD else bounded_body(receive)
        await (answer or self.app)(scope, bounded, self._sender(scope, path, headers, send))

    def _print(self, sentence: str) -> None:
        if sentence not in self._printed and len(self._printed) < PRINTED:
            self._printed.add(sentence)
            print(f"geko-app refused a request. {sentence}", file=sys.stderr, flush=True)

    def _login_answer(self, scope: Scope, path: str) -> Response | None:
        """The answer to somebody who has not signed in, or has tried too often; None lets the request through."""
        if self._signed_in is None:
            return None
        entering = path.rstrip("/") == "/login" and scope["method"] == "POST"
        if self._signed_in(HTTPConnection(scope)):
            return None
        if entering or path == "/":
            wait = (self._limit.attempt if entering else self._limit.wait)(client_of(scope))
            if wait:
                sentence = f"Too many wrong passwords from your address: try again in {wait} s."
                return JSONResponse({"detail": sentence}, 429, {"Retry-After": str(wait)})
            return None
        if is_open(path):
            return None
        if is_api(path):
            return refused(path, Refusal(401, "Not signed in: send the API token of this page as a bearer token."))
        return JSONResponse({"detail": "Not signed in: open the page and sign in first."}, 401)

    def _sender(self, scope: Scope, path: str, headers: Headers, send: Send) -> Send:
        """`send`, with headers that keep the page out of foreign frames and its cookies out of foreign requests."""
        entering = path.rstrip("/") == "/login" and scope["method"] == "POST"
        secure = scope.get("scheme") == "https" or headers.get("x-forwarded-proto", "").startswith("https")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                if entering and message["status"] == 200:
                    self._limit.forget(client_of(scope))
                answer = MutableHeaders(raw=list(message["headers"]))
                cookies = [mended_cookie(c, secure, self.access.space) for c in answer.getlist("set-cookie")]
                del answer["set-cookie"]
                for cookie in cookies:
                    answer.append("set-cookie", cookie)
                frames = "'self' https://huggingface.co" if self.access.space else "'self'"
                answer.append("content-security-policy", f"frame-ancestors {frames}")
                answer["cross-origin-resource-policy"] = "same-origin"
                message = {**message, "headers": answer.raw}
            await send(message)

        return guarded


def bounded_body(receive: Receive) -> Receive:
    """`receive` for a body that does not say how long it is: after MAX_BODY bytes it ends as if the line were cut."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= MAX_BODY else {"type": "http.disconnect"}

    return bounded


def mended_cookie(cookie: str, secure: bool, space: str) -> str:
    """Gradio's SameSite=None is needed in the frame of a Space alone; over HTTPS every cookie is Secure."""
    if not space:
        cookie = re.sub(r"(?i)samesite=none", "SameSite=Lax", cookie)
    return cookie if not secure or re.search(r"(?i);\s*secure", cookie) else f"{cookie}; Secure"


def path_below_root(scope: Scope) -> str:
    """The path of a request without the root path, whether or not a proxy has taken that away."""
    root, path = scope.get("root_path", "").rstrip("/"), str(scope["path"])
    below = path.removeprefix(root) if root and (path == root or path.startswith(f"{root}/")) else path
    return below or "/"


def client_of(scope: Scope) -> str:
    """The address that a request comes from."""
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else ""


def is_api(path: str) -> bool:
    """Whether a path belongs to the interface for programs."""
    return any(path == start or path.startswith(f"{start}/") for start in API)


def refused(path: str, refusal: Refusal) -> Response:
    """The answer to a request that is not let in: JSON for a program, plain text for a browser."""
    if not is_api(path):
        return PlainTextResponse(refusal.sentence, refusal.status)
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
    problems = [{"field": "", "message": refusal.sentence}]
    return JSONResponse({"detail": refusal.sentence, "problems": problems}, refusal.status, headers)


def is_open(path: str) -> bool:
    """Whether a path is answered without a login."""
    return path in OPEN or path in OPEN_API or (path.startswith(OPEN_FOLDERS) and ".." not in path)
