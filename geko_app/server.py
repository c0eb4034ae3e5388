"""Serves the page until a signal; then lets the active worker save. Knows no layout."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
import plotly
from gradio.routes import App
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from geko_app.access import Access, AccessMiddleware
from geko_app.form.roots import AllowedRoots
from geko_app.pages import frame
from geko_app.pages.components import SCRIPTS_URL, STATIC
from geko_app.runs.store import RunStore
from geko_app.services import Services
from geko_app.theme import build_theme
from geko_app.workers.data_tables import DataTables
from geko_app.workers.form_checks import FormChecks
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.supervisor import Supervisor

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
SCRIPTS = {path.name: path for path in STATIC.glob("*.js")}
THEME_ON_LOAD = "() => { const t = localStorage.getItem('geko-theme'); if (t) document.body.classList.toggle('dark', t === 'dark'); }"
SESSIONS = (
    100  # tabs whose state Gradio holds, half a megabyte each; the page needs none of it, so an older tab loses nothing
)
LOGIN_NOTE = "After five wrong passwords you have to wait. If nothing happens, reload this page: it says how long."


def serve(
    *,
    host: str,
    port: int,
    runs: str,
    password: str | None,
    access: Access,
    roots: AllowedRoots,
    max_upload: int,
    root_path: str = "",
) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Args:
        host: address to listen on.
        port: to listen on.
        runs: folder for runs.
        password: for the user "geko"; None to ask for none.
        access: who may use the page.
        roots: folders that paths in the form must lie in.
        max_upload: bytes of a file that is uploaded.
        root_path: where a proxy puts the page, such as "/geko"; "" for the top.

    Raises:
        RunError: the folder for runs cannot be written.
        OSError: the port cannot be used.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # before the supervisor starts a queued run
        signal.signal(number, lambda *_: ended.set())
    supervisor = Supervisor(RunStore(runs))
    services = Services(supervisor, ModelDownloads(supervisor.store.root), FormChecks(roots), DataTables(roots))
    gr.set_static_paths([str(PLOTLY.parent)])
    page = frame.build(services)
    page.launch(
        server_name=host,
        server_port=port,
        auth=("geko", password) if password else None,
        auth_message=LOGIN_NOTE,
        root_path=root_path,
        max_file_size=max_upload,
        state_session_capacity=SESSIONS,
        app_kwargs={
            "lifespan": guard(access, login=password is not None),
            "routes": own_routes(services.downloads),
        },
        quiet=True,
        prevent_thread_lock=True,
        share=False,  # explicit, or an environment variable could open a tunnel
        theme=build_theme(),
        css_paths=[STATIC / name for name in frame.STYLES],
        head=f'<script defer src="{root_path}/gradio_api/file={PLOTLY}"></script>',
        js=THEME_ON_LOAD,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        favicon_path=STATIC / "logo.svg",
        ssr_mode=False,
        show_error=False,
    )
    print(
        f"GEKO is at http://{'localhost' if host == '127.0.0.1' else host}:{port}  (runs in {supervisor.store.root})",
        flush=True,
    )
    ended.wait()
    if supervisor.active():
        print("Saving the active run before exit; it can be resumed.", flush=True)
    services.shutdown()
    page.close(verbose=False)


def guard(access: Access, *, login: bool) -> Callable[[App], AbstractAsyncContextManager[None]]:
    """Puts the access rules before everything of Gradio, its own answers to foreign origins included."""

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        def signed_in(request: HTTPConnection) -> bool:
            names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
            return any(request.cookies.get(name) in app.tokens for name in names)

        assert app.middleware_stack is not None  # this runs inside of it
        app.middleware_stack = AccessMiddleware(app.middleware_stack, access, signed_in if login else None)
        yield

    return lifespan


def own_routes(downloads: ModelDownloads) -> list[BaseRoute]:
    """The routes beside Gradio's: the page's scripts, and models to download.

    Their first folder is no likely root path: Starlette cuts the root path off every path that begins with it.
    """
    return [
        Route(f"/{SCRIPTS_URL}/{{name}}", script_route),
        Route("/geko-download/{key}", download_route(downloads)),
    ]


def script_route(request: Request) -> Response:
    """Sends a script; its address changes with its text, so browsers may keep it."""
    path = SCRIPTS.get(request.path_params["name"])
    if path is None:
        return PlainTextResponse("There is no such script.", 404)
    return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "max-age=31536000, immutable"})


def download_route(downloads: ModelDownloads) -> Callable[[Request], Response]:
    """Sends the zip of a key. The key is the permission: only visitors who may use the page get one."""

    def download(request: Request) -> Response:
        packed = downloads.take(request.path_params["key"])
        if packed is None:
            return PlainTextResponse("This download was already used or has expired: press the button again.", 404)
        headers = {"Content-Disposition": f'attachment; filename="{packed.name}"', "Content-Length": str(packed.size)}
        return StreamingResponse(packed.chunks(), media_type="application/zip", headers=headers)

    return download
