"""A real server process and a real Chromium. Nothing may leave this machine, and the console must stay clean."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT = 60_000  # milliseconds; how long a test may wait before it gives up, never what it asserts
expect.set_options(timeout=WAIT)  # on a busy machine five seconds are soon over


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """geko-app as its own process over a folder of runs, with `options`; can be killed and started again.

    `environment` replaces variables of this process; without it the Hub is not asked.
    """

    def __init__(
        self, folder: Path, *options: str, password: str = "", environment: dict[str, str] | None = None
    ) -> None:
        self.folder, self.port = folder, free_port()
        self._options, self._password = options, password
        self._environment = environment or {**os.environ, "HF_HUB_OFFLINE": "1"}
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "geko_app", "--port", str(self.port), "--runs", str(self.folder / "runs")]
        command += self._options
        environment = {**self._environment, "GEKO_APP_PASSWORD": self._password}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=environment)
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url, timeout=1).close()
                return
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                assert self.process.poll() is None, (self.folder / "server.log").read_text(encoding="utf-8")
                try:
                    self.process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
        raise AssertionError("the page did not answer")

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def runs(self) -> list[Path]:
        return sorted((self.folder / "runs").iterdir())


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "install chromium: the page is tested in a real browser"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A tab on the page. At its end no request may have left this machine and no script may have failed."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, color_scheme="light")
    context.set_default_timeout(WAIT)
    tab = context.new_page()
    outside: list[str] = []
    errors: list[str] = []
    tab.on("request", lambda r: outside.append(r.url) if not r.url.startswith((server.url, "data:", "blob:")) else None)
    tab.on("pageerror", lambda e: errors.append(str(e)))
    tab.goto(server.url)
    tab.wait_for_selector("#geko-start")
    tab.wait_for_function("window.Plotly !== undefined && document.body.dataset.form === 'ready'")
    yield tab
    context.close()
    assert outside == [] and errors == []
