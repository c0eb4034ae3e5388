"""Checks the texts of one run for data issues: python -m geko_app.workers.issue_check_worker RUN. Knows no page.

Writes issues.json beside the run. A training at the same time comes first: the process has a low priority and leaves memory.
"""

from __future__ import annotations

import os
import sys

from geko_app.workers.process_limits import limit_memory, most_of_free_memory
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.issue_check import check_run

NICENESS = 15  # below the training worker's 5 and the inference worker's 10


def main() -> int:
    """Entry point of the process; returns the exit code."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    limit_memory(most_of_free_memory())
    (path,) = sys.argv[1:]
    check_run(RunFolder(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
