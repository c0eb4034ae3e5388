"""Serves the page, and the API if asked for, until a signal; then lets the active worker save. Knows no layout."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
import plotly
from gradio.routes import App
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from geko_app import hardware
from geko_app.access import Access, AccessMiddleware, is_api, path_below_root
from geko_app.api import rest
from geko_app.api.operations import RunOperations
from geko_app.api.tokens import ApiOptions, ApiToken
from geko_app.end_signal import EndSignal
from geko_app.form.roots import AllowedRoots
from geko_app.languages import catalogue, languages
from geko_app.pages import frame
from geko_app.pages.components import SCRIPTS_URL, STATIC
from geko_app.runs.store import RunStore
from geko_app.services import Services
from geko_app.space.facts import Space
from geko_app.space.owner import OwnerOnly
from geko_app.space.push import PushAtEnd
from geko_app.space.routes import routes as space_routes
from geko_app.theme import build_theme
from geko_app.workers.data_tables import DataTables
from geko_app.workers.form_checks import FormChecks
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.supervisor import Supervisor

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
HOW_LONG = "This can take up to an hour while a large checkpoint is written. Press Ctrl-C or send SIGTERM once more to end now."
CACHED = {"Cache-Control": "max-age=31536000, immutable"}  # the address of a script changes with its text
SCRIPTS = {path.name: path for path in STATIC.glob("*.js")}
THEME_ON_LOAD = "() => { const t = localStorage.getItem('geko-theme'); if (t) document.body.classList.toggle('dark', t === 'dark'); }"
SESSIONS = (
    100  # tabs whose state Gradio holds, half a megabyte each; the page needs none of it, so an older tab loses nothing
)
LOGIN_NOTE = "After five wrong passwords you have to wait. If nothing happens, reload this page: it says how long."
Running = Callable[[], AbstractAsyncContextManager[None]]
HARMLESS = ("_update_exports", "_check_login_status")  # events of the page that change nothing


@dataclass(frozen=True)
class ServerOptions:
    """How the page is served.

    Attributes:
        host, port: to listen on.
        runs: folder for runs.
        password: for the user "geko"; None to ask for none.
        access: who may use the page.
        roots: folders that paths in the form must lie in.
        max_upload: bytes of a file that is uploaded.
        root_path: where a proxy puts the page, such as "/geko"; "" for the top.
        api: the interface for programs; None for none.
        requeue: whether the next start goes on with a training that the signal ends.
        space: the Hugging Face Space whose owner signs in; None elsewhere.
    """

    host: str
    port: int
    runs: str
    password: str | None
    access: Access
    roots: AllowedRoots
    max_upload: int
    root_path: str = ""
    api: ApiOptions | None = None
    requeue: bool = False
    space: Space | None = None


def serve(options: ServerOptions) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Raises:
        RunError: the folder for runs cannot be written.
        OSError: the port cannot be used.
    """
    ended = EndSignal().install()  # before the supervisor starts a queued run
    supervisor = Supervisor(RunStore(options.runs), gpus=range(len(hardware.visible_gpus())))
    services = Services(
        supervisor, ModelDownloads(supervisor.store.root), FormChecks(options.roots), DataTables(options.roots)
    )
    page = frame.build(services, in_space=options.space is not None)
    pushes = PushAtEnd(services, options.space.owner) if options.space and options.space.pushes else None
    _launch(page, services, options)
    host = "localhost" if options.host == "127.0.0.1" else options.host
    print(f"GEKO is at http://{host}:{options.port}  (runs in {supervisor.store.root})", flush=True)
    if pushes:
        pushes.start()
    ended.wait()
    if pushes:
        pushes.stop()
    if active := supervisor.all_active():
        end_at_second_signal(ended, supervisor)
        what, it = ("the active run", "it") if len(active) == 1 else (f"{len(active)} active runs", "them")
        then = f"the next start goes on with {it}" if options.requeue else f"resume {it} to go on"
        print(f"Saving {what} before exit; {then}. {HOW_LONG}", flush=True)
    services.shutdown(requeue=options.requeue)
    page.close(verbose=False)


def end_at_second_signal(ended: EndSignal, supervisor: Supervisor) -> None:
    """Let one more signal from now on end the active runs without their checkpoint."""

    def wait() -> None:
        ended.wait()
        supervisor.request_shutdown(now=True)

    ended.forget()  # some programs send a signal twice
    threading.Thread(target=wait, name="second-signal", daemon=True).start()


def _launch(page: gr.Blocks, services: Services, options: ServerOptions) -> None:
    gr.set_static_paths([str(PLOTLY.parent)])
    page.launch(
        server_name=options.host,
        server_port=options.port,
        auth=("geko", options.password) if options.password else None,
        auth_message=LOGIN_NOTE,
        root_path=options.root_path,
        max_file_size=options.max_upload,
        state_session_capacity=SESSIONS,
        app_kwargs=_app_options(page, services, options),
        quiet=True,
        prevent_thread_lock=True,
        share=False,  # explicit, or an environment variable could open a tunnel
        mcp_server=False,  # likewise: it would offer every function of the page
        theme=build_theme(),
        css_paths=[STATIC / name for name in frame.STYLES],
        head=f'<script defer src="{options.root_path}/gradio_api/file={PLOTLY}"></script>'
        f'<script type="module" src="{options.root_path}/{SCRIPTS_URL}/language.js"></script>',
        js=THEME_ON_LOAD,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        favicon_path=STATIC / "logo.svg",
        ssr_mode=False,
        show_error=False,
    )


def _app_options(page: gr.Blocks, services: Services, options: ServerOptions) -> dict[str, Any]:
    """What the application gets beside the page: our routes, the rules of access, and what runs along with it."""
    more, running = api_routes(services, options.api)
    token = options.api.token if options.api else None
    found: dict[str, Any] = {
        "lifespan": guard(options.access, login=options.password is not None, token=token, running=running),
        "routes": [*own_routes(services.downloads), *more],
    }
    if options.space:
        harmless = frozenset(number for number, event in page.fns.items() if event.name in HARMLESS)
        found["routes"] += space_routes(options.space, services.supervisor)
        found["middleware"] = [Middleware(OwnerOnly, options.space.owners, harmless)]
    return found


def guard(
    access: Access, *, login: bool, token: ApiToken | None = None, running: Sequence[Running] = ()
) -> Callable[[App], AbstractAsyncContextManager[None]]:
    """Puts the access rules before everything of Gradio, its own answers to foreign origins included.

    Args:
        access: the rules.
        login: whether visitors have to sign in.
        token: of the API; a program that sends it need not sign in.
        running: contexts to be entered while the page is served.
    """

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        def signed_in(request: HTTPConnection) -> bool:
            names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
            if any(request.cookies.get(name) in app.tokens for name in names):
                return True
            return token is not None and is_api(path_below_root(request.scope)) and token.admits(request.headers)

        assert app.middleware_stack is not None  # this runs inside of it
        app.middleware_stack = AccessMiddleware(app.middleware_stack, access, signed_in if login else None)
        async with AsyncExitStack() as stack:
            for context in running:
                await stack.enter_async_context(context())
            yield

    return lifespan


def api_routes(services: Services, api: ApiOptions | None) -> tuple[list[BaseRoute], list[Running]]:
    """(routes, contexts to be entered while they are served) of the interface for programs."""
    if api is None:
        return [], []
    operations = RunOperations(services)
    routes = rest.routes(operations, api.token)
    if not api.mcp:
        return routes, []
    from geko_app.api.mcp_tools import McpEndpoint  # needs a package that not everybody has

    endpoint = McpEndpoint(operations, api.token)
    return [*routes, *endpoint.routes()], [endpoint.running]


def own_routes(downloads: ModelDownloads) -> list[BaseRoute]:
    """The routes beside Gradio's: the page's scripts, and models to download.

    Their first folder is no likely root path: Starlette cuts the root path off every path that begins with it.
    """
    return [
        Route(f"/{SCRIPTS_URL}/{{name}}", script_route),
        Route(f"/{SCRIPTS_URL}/languages/{{name}}.json", language_route),
        Route("/geko-download/{key}", download_route(downloads)),
    ]


def script_route(request: Request) -> Response:
    """Sends a script."""
    path = SCRIPTS.get(request.path_params["name"])
    if path is None:
        return PlainTextResponse("There is no such script.", 404)
    return FileResponse(path, media_type="text/javascript", headers=CACHED)


def language_route(request: Request) -> Response:
    """Sends the texts of the page in another language."""
    name = request.path_params["name"]
    if name not in languages():
        return PlainTextResponse("The page has no texts in that language.", 404)
    return JSONResponse(catalogue(name), headers=CACHED)


def download_route(downloads: ModelDownloads) -> Callable[[Request], Response]:
    """Sends the zip of a key. The key is the permission: only visitors who may use the page get one."""

    def download(request: Request) -> Response:
        packed = downloads.take(request.path_params["key"])
        if packed is None:
            return PlainTextResponse("This download was already used or has expired: press the button again.", 404)
        headers = {"Content-Disposition": f'attachment; filename="{packed.name}"', "Content-Length": str(packed.size)}
        return StreamingResponse(packed.chunks(), media_type="application/zip", headers=headers)

    return download
