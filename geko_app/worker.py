"""The worker process: python -m geko_app.worker RUN_FOLDER [--resume | --look]. Runs the engine; knows no page.

With --look it only looks at what a run would use: data, memory and time.

What it prints goes to worker.log; what it does goes to events.jsonl. Ends with 0, or 1 when the run failed.
"""

from __future__ import annotations

import argparse
import os
import sys

from geko_engine.downloads import leave
from geko_engine.run_folder import RunFolder, RunWriter
from geko_engine.runner import StopFlag, run

NICENESS = 5  # the page stays quick while the worker uses every core


def main() -> int:
    """Entry of the worker process."""
    parser = argparse.ArgumentParser(prog="geko_app.worker")
    parser.add_argument("folder")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--look", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    folder = RunFolder.open(options.folder)
    with RunWriter(folder) as write:
        if options.look:
            from geko_engine.inspection import inspect

            return leave(1 if inspect(folder.config(), write, StopFlag(folder).install()) == "failed" else 0)
        report = run(folder, on_event=write, should_stop=StopFlag(folder).install(), resume=options.resume)
    return leave(1 if report["end"] == "failed" else 0)


if __name__ == "__main__":
    sys.exit(main())
