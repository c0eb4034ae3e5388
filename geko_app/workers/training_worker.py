"""The worker process: python -m geko_app.workers.training_worker RUN_FOLDER [--resume | --look]. Runs the engine; knows no page.

With --look it only looks at what a run would use: data, memory and time.

What it prints goes to worker.log; what it does goes to events.jsonl. Ends with 0, with 1 when the run failed, with
DISK_FULL when there was no room to say so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from geko_engine.exceptions import RunError
from geko_engine.hub.downloads import leave
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.stop_flag import StopFlag
from geko_engine.runs.writer import RunWriter
from geko_engine.storage.disk_space import DISK_FULL, is_full

NICENESS = 5  # the page stays quick while the worker uses every core


def main() -> int:
    """Entry of the worker process."""
    parser = argparse.ArgumentParser(prog="geko_app.workers.training_worker")
    parser.add_argument("folder")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--look", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    folder = RunFolder.open(options.folder)
    try:
        failed = _work(folder, resume=options.resume, look=options.look)
    except RunError as error:  # the disk is so full that not even this could be written
        with contextlib.suppress(OSError):  # the log is on the same disk
            print(error, file=sys.stderr)
        return leave(DISK_FULL if is_full(error) else 1)
    return leave(1 if failed else 0)


def _work(folder: RunFolder, *, resume: bool, look: bool) -> bool:
    """Run it, or look at it; whether that failed. Raises RunError when the end itself cannot be written."""
    stop = StopFlag(folder).install()
    with RunWriter(folder) as write:
        if look:
            from geko_engine.preflight.preview import inspect

            return inspect(folder.config(), write, stop) == "failed"
        return run(folder, on_event=write, should_stop=stop, resume=resume)["end"] == "failed"


if __name__ == "__main__":
    sys.exit(main())
