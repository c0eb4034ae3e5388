"""How many processes a launcher (torchrun, accelerate launch) started for this run, and which one this is."""

from __future__ import annotations

import os


def process_count() -> int:
    """Number of processes of this run; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_main_process() -> bool:
    """Whether this is the process that writes files and prints."""
    return int(os.environ.get("RANK") or 0) == 0
