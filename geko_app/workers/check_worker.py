"""Checks the names and files of a form: python -m geko_app.workers.check_worker MEMORY SECONDS. Knows no page.

Standard input has one configuration a line, as JSON. For each check, standard output gets a line with the field before the
check and one with what is wrong after it; and an empty line when a configuration is done. So whoever reads them knows which
file ended this process.
"""

from __future__ import annotations

import json
import sys

from geko_app.workers.process_limits import limit_memory, limit_time
from geko_engine.config.run_config import RunConfig
from geko_engine.preflight.checks import checks_of

TOO_LARGE = "Reading it needs more memory than a check may use ({:.1f} GB): write one row a line (.jsonl)."


def main() -> int:
    """Entry point of the process; returns the exit code."""
    memory, seconds = map(int, sys.argv[1:3])
    limit_memory(memory)
    limit_time(seconds)
    for line in sys.stdin:
        for field, check in checks_of(RunConfig.from_dict(json.loads(line))):
            _write({"field": field})
            try:
                problem = check()
            except MemoryError:
                problem = TOO_LARGE.format(memory / 1e9)
            _write({"problem": problem})
        print(flush=True)
    return 0


def _write(values: dict[str, str]) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    sys.exit(main())
