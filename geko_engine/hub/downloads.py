"""Downloads: requests with a time limit, downloads that can be cancelled, exit while one is still running.

Knows huggingface_hub and threads, but no models and no rows. Imports no torch.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from geko_engine.exceptions import Stopped

Result = TypeVar("Result")
ShouldStop = Callable[[], bool]
OnProgress = Callable[[int, int], None]
THREAD_NAME = "geko-download"
STOP_POLL_SECONDS = 0.1  # how often the stop flag is read
CONNECT_SECONDS = 3.0  # a network that drops packets is known as quickly as one that refuses them
REPORT_SECONDS = 1.0  # at most one progress report in this time
LONG_SECONDS = 600.0  # the Hub may think about a large commit before it answers
_offline = threading.Event()
_long = threading.Event()


@dataclass
class DownloadProgress:
    """Progress of a download. One thread writes it, another one reads it.

    Attributes:
        done, total: in bytes for models and in rows for datasets; total 0 = unknown.
    """

    done: int = 0
    total: int = 0


def run_cancellable(
    work: Callable[[], Result],
    should_stop: ShouldStop | None = None,
    progress: DownloadProgress | None = None,
    on_progress: OnProgress | None = None,
) -> Result:
    """Run `work` in a thread and return its result, while this thread checks for a stop and reports progress.

    Args:
        work: takes no arguments.
        should_stop: called every 0.1 s; True cancels the wait.
        progress: written by `work`.
        on_progress: called with (done, total) at most once a second, and only if `progress` has changed.

    Raises:
        Stopped: when should_stop returned True. The thread is left running, see `exit_despite_downloads`.
        Exception: whatever `work` raised.
    """
    future: Future[Result] = Future()
    thread = threading.Thread(target=_run_into_future, args=(future, work), name=THREAD_NAME, daemon=True)
    thread.start()
    reported_at, reported = time.monotonic(), DownloadProgress()
    while thread.is_alive():
        thread.join(STOP_POLL_SECONDS)
        if should_stop is not None and should_stop():
            raise Stopped
        if progress is None or on_progress is None or progress == reported:
            continue
        if time.monotonic() - reported_at >= REPORT_SECONDS:
            reported_at, reported = time.monotonic(), DownloadProgress(progress.done, progress.total)
            on_progress(reported.done, reported.total)
    return future.result()


def _run_into_future(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
        future.set_exception(error)


def exit_despite_downloads(code: int) -> int:
    """Return `code`, or end the process with it if a cancelled download is still running.

    Python would wait for the download's threads before it exits.
    """
    if any(thread.name == THREAD_NAME for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def limit_request_time() -> None:
    """Give every request to the Hub a time limit. The clients send some without one and would wait forever.

    The limit is HF_HUB_DOWNLOAD_TIMEOUT or HF_HUB_ETAG_TIMEOUT, whichever is longer (10 seconds by default), and
    CONNECT_SECONDS until there is a connection.
    """
    import huggingface_hub

    session = huggingface_hub.get_session()
    while session is None:  # another thread closed it in between, as the client does after a broken connection
        session = huggingface_hub.get_session()
    if _limit in session.event_hooks["request"]:
        return
    hooks = {**session.event_hooks, "request": [*session.event_hooks["request"], _limit]}
    client = type(session)
    huggingface_hub.set_client_factory(lambda: client(event_hooks=hooks, follow_redirects=True))


def _limit(request: Any) -> None:
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if _offline.is_set():
        raise OfflineModeIsEnabled(f"No request to {request.url}: the Hub cannot be reached.")
    seconds: float = max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT)
    requested = request.extensions.get("timeout") or {}
    if _long.is_set():
        seconds, requested = LONG_SECONDS, {}
    limits = {part: min(requested.get(part) or seconds, seconds) for part in ("connect", "read", "write", "pool")}
    limits["connect"] = min(limits["connect"], CONNECT_SECONDS)
    request.extensions = {**request.extensions, "timeout": limits}


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Send no requests inside this context: the clients use their caches at once instead of retrying for minutes."""
    _offline.set()
    try:
        yield
    finally:
        _offline.clear()


@contextlib.contextmanager
def long_requests() -> Iterator[None]:
    """Give requests inside this context LONG_SECONDS: for uploads."""
    limit_request_time()
    _long.set()
    try:
        yield
    finally:
        _long.clear()


def progress_bar(progress: DownloadProgress) -> type[Any]:
    """A class for huggingface_hub's `tqdm_class` that draws nothing and writes bytes and total to `progress`."""
    from tqdm.std import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]  # generic in its stubs only
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "file": io.StringIO()})

        def display(self, *_: object, **__: object) -> None:
            """Draws nothing: progress is reported as events."""

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            if self.unit == "B":  # two bars count bytes (received, written), a third one counts files
                progress.done, progress.total = max(progress.done, int(self.n)), int(self.total or 0)
            return shown

    return Bar
