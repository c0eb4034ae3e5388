"""The worker process: python -m geko_app.workers.training_worker RUN_FOLDER [--resume | --preview]. Knows no page.

With --preview it trains nothing and only checks the data, memory and time of a run.

Its output goes to worker.log, its events to events.jsonl. Exit code: 0; 1 if the run failed; DISK_FULL if there was no
room on the disk to write that down.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from geko_app.workers.hub_token import TOKEN_OPTION, receive_token
from geko_app.workers.process_limits import limit_memory, most_of_free_memory
from geko_engine.exceptions import RunError
from geko_engine.hub.downloads import exit_despite_downloads
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.stop_flag import StopFlag
from geko_engine.runs.writer import RunWriter
from geko_engine.storage.disk_space import DISK_FULL, is_full

NICENESS = 5  # the page stays responsive while the worker uses every core


def main() -> int:
    """Entry point of the worker process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="geko_app.workers.training_worker")
    parser.add_argument("folder")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--preview", action="store_true")
    parser.add_argument(TOKEN_OPTION, action="store_true", dest="token_on_stdin")
    options = parser.parse_args()
    if options.token_on_stdin:
        receive_token()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    folder = RunFolder.open(options.folder)
    try:
        failed = _work(folder, resume=options.resume, preview=options.preview)
    except RunError as error:  # the disk is so full that not even this could be written
        with contextlib.suppress(OSError):  # the log is on the same disk
            print(error, file=sys.stderr)
        return exit_despite_downloads(DISK_FULL if is_full(error) else 1)
    return exit_despite_downloads(1 if failed else 0)


def _work(folder: RunFolder, *, resume: bool, preview: bool) -> bool:
    """Train or preview; returns whether that failed. Raises RunError if not even the end can be written."""
    stop = StopFlag(folder).install()
    with RunWriter(folder) as write:
        if preview:
            limit_memory(most_of_free_memory())  # it reads files that nobody has looked at yet
            from geko_engine.preflight.preview import inspect

            return bool(inspect(folder.config(), write, stop) == "failed")
        return bool(run(folder, on_event=write, should_stop=stop, resume=resume)["end"] == "failed")


if __name__ == "__main__":
    sys.exit(main())
