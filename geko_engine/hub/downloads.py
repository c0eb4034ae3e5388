"""Waiting for the network: bounded requests, downloads that a stop ends at once, a process that leaves beside one.

Knows huggingface_hub and threads, and neither models nor rows. Torch-free.
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
LOOK_SECONDS = 0.1  # between two looks at the stop flag
TELL_SECONDS = 1.0  # between two words on the progress
_offline = threading.Event()


@dataclass
class DownloadProgress:
    """How far a download has come, in whatever is counted; total 0 = unknown. Written by one thread, read by another."""

    done: int = 0
    total: int = 0


def run_cancellable(
    work: Callable[[], Result],
    should_stop: ShouldStop | None = None,
    progress: DownloadProgress | None = None,
    on_progress: OnProgress | None = None,
) -> Result:
    """The result of `work`, done in a thread while this one looks at the stop flag and tells the progress.

    Raises:
        Stopped: when should_stop says so; the thread is left behind, see `exit_despite_downloads`.
        Exception: whatever `work` raised.
    """
    future: Future[Result] = Future()
    thread = threading.Thread(target=_run_into_future, args=(future, work), name=THREAD_NAME, daemon=True)
    thread.start()
    told, seen = time.monotonic(), DownloadProgress()
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if should_stop is not None and should_stop():
            raise Stopped
        if progress is None or on_progress is None or progress == seen or time.monotonic() - told < TELL_SECONDS:
            continue
        told, seen = time.monotonic(), DownloadProgress(progress.done, progress.total)
        on_progress(seen.done, seen.total)
    return future.result()


def _run_into_future(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits
        future.set_exception(error)


def exit_despite_downloads(code: int) -> int:
    """`code`; but when a stop left a download behind, the process ends here with it: Python would wait for its threads."""
    if any(thread.name == THREAD_NAME for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def limit_request_time() -> None:
    """Give every request to the Hub a time limit: the clients ask some without any, and would wait for ever.

    The limit is that of HF_HUB_DOWNLOAD_TIMEOUT or HF_HUB_ETAG_TIMEOUT, whichever is longer (10 seconds unless set).
    """
    import huggingface_hub

    present = huggingface_hub.get_session()
    while present is None:  # another thread has closed it in between: after a connection broke off the client does that
        present = huggingface_hub.get_session()
    if _limit in present.event_hooks["request"]:
        return
    hooks = {**present.event_hooks, "request": [*present.event_hooks["request"], _limit]}
    client = type(present)
    huggingface_hub.set_client_factory(lambda: client(event_hooks=hooks, follow_redirects=True))


def _limit(request: Any) -> None:
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if _offline.is_set():
        raise OfflineModeIsEnabled(f"{request.url} is not asked: the Hub cannot be reached.")
    seconds = max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT)
    asked = request.extensions.get("timeout") or {}
    limits = {part: min(asked.get(part) or seconds, seconds) for part in ("connect", "read", "write", "pool")}
    request.extensions = {**request.extensions, "timeout": limits}


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Within it no request goes out: the clients turn to their caches at once instead of trying for minutes."""
    _offline.set()
    try:
        yield
    finally:
        _offline.clear()


def progress_bar(progress: DownloadProgress) -> type[Any]:
    """A class for huggingface_hub's `tqdm_class`: shows nothing and keeps bytes and their total in `progress`."""
    from tqdm.std import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "file": io.StringIO()})

        def display(self, *_: object, **__: object) -> None:
            """Nothing is drawn: our events tell how far it is."""

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            if self.unit == "B":  # two bars count the bytes, as received and as written; a third counts files
                progress.done, progress.total = max(progress.done, int(self.n)), int(self.total or 0)
            return shown

    return Bar
