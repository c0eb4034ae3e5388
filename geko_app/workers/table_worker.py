"""Reads the first rows of a form's data: python -m geko_app.workers.table_worker MEMORY SECONDS. Knows no page.

Standard input has the data section of one configuration, as JSON; standard output gets the table, as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys

from geko_app.workers.process_limits import limit_memory, limit_time
from geko_engine.config.sections import DataConfig
from geko_engine.data.first_rows import FirstRows, first_rows

TOO_LARGE = "Its first rows need more memory than a preview may use ({:.1f} GB): write one row a line (.jsonl)."


def main() -> int:
    """Entry point of the process; returns the exit code."""
    memory, seconds = map(int, sys.argv[1:3])
    limit_memory(memory)
    limit_time(seconds)
    config = DataConfig(**json.loads(sys.stdin.read()))
    try:
        found = first_rows(config)
    except MemoryError:
        found = FirstRows(error=TOO_LARGE.format(memory / 1e9), field="data.train")
    print(json.dumps(dataclasses.asdict(found)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
