"""Serves the page until a signal asks for the end; then lets a running worker save. Knows no layout."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
import plotly
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from geko_app.pages import frame
from geko_app.pages.components import STATIC
from geko_app.runs.store import RunStore
from geko_app.theme import build_theme
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.supervisor import Supervisor

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
THEME_ON_LOAD = "() => { const t = localStorage.getItem('geko-theme'); if (t) document.body.classList.toggle('dark', t === 'dark'); }"


def serve(*, host: str, port: int, runs: str, password: str | None) -> None:
    """Serve until SIGINT or SIGTERM. Raises RunError when the runs folder cannot be written, OSError for the port."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # before a waiting run is begun here
        signal.signal(number, lambda *_: ended.set())
    supervisor = Supervisor(RunStore(runs))
    services = frame.Services(supervisor, ModelDownloads(supervisor.store.root))
    gr.set_static_paths([str(PLOTLY.parent)])
    page = frame.build(services)
    app, _, _ = page.launch(
        server_name=host,
        server_port=port,
        auth=("geko", password) if password else None,
        quiet=True,
        prevent_thread_lock=True,
        share=False,  # said outright: an environment variable could open a tunnel otherwise
        theme=build_theme(),
        css_paths=[STATIC / name for name in frame.STYLES],
        head=f'<script defer src="/gradio_api/file={PLOTLY}"></script>',
        js=THEME_ON_LOAD,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        favicon_path=STATIC / "logo.svg",
        ssr_mode=False,
        show_error=False,
    )
    app.add_route("/geko/download/{word}", download_route(services.downloads))
    print(
        f"GEKO is at http://{'localhost' if host == '127.0.0.1' else host}:{port}  (runs in {supervisor.store.root})",
        flush=True,
    )
    ended.wait()
    if supervisor.active():
        print("Saving the running training before the end; it can be resumed.", flush=True)
    services.shutdown()
    page.close(verbose=False)


def download_route(downloads: ModelDownloads) -> Callable[[Request], Response]:
    """Answers with the file that a word stands for. The word is the key: only a visitor who may use the page has one."""

    def answer(request: Request) -> Response:
        offer = downloads.take(request.path_params["word"])
        if offer is None:
            return PlainTextResponse("This download was fetched or has expired: press the button again.", 404)
        headers = {"Content-Disposition": f'attachment; filename="{offer.name}"', "Content-Length": str(offer.size)}
        return StreamingResponse(offer.chunks(), media_type="application/zip", headers=headers)

    return answer
