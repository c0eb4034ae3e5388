"""A further process of a run: python -m geko_engine.peer RUN_FOLDER [--resume], started by the first one (launch.Peers).

It writes nothing, and stops when the first one decides so. Its standard input is a pipe of the first one: one line, the
Hub token, and nothing more until that is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading

from geko_engine.hub.downloads import exit_despite_downloads
from geko_engine.launch import FAILED
from geko_engine.reporting.events import Event, RunEnded
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder


def main() -> int:
    """Entry point of the process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="geko_engine.peer")
    parser.add_argument("folder")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal sends them to all processes, and the first one decides
        signal.signal(number, signal.SIG_IGN)
    token = _read_line()
    if token:
        os.environ["HF_TOKEN"] = token
    threading.Thread(target=_end_with_the_first, name="end", daemon=True).start()
    report = run(RunFolder(options.folder), on_event=_report_failure, resume=options.resume)
    return exit_despite_downloads(1 if report["end"] == "failed" else 0)


def _read_line() -> str:
    """The first line of standard input; unbuffered, so that the thread can wait for its end."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def _end_with_the_first() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _report_failure(event: Event) -> None:
    if isinstance(event, RunEnded) and event.end == "failed":
        print(FAILED + json.dumps([event.reason, event.field]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
