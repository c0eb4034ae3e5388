"""The export process: python -m geko_app.workers.export_worker. Reads one export as JSON, writes lines of updates.

Knows the engine and no page. Input: the fields of geko_engine.export's ExportRequest. Output: {"text": ...} is what it is
doing; {"place": ..., "sentences": [...]} or {"error": ...} is its end. SIGTERM stops it, and nothing half written stays.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any, TextIO

from geko_app.workers.inference_worker import NICENESS
from geko_engine.exceptions import GekoError, Stopped, is_out_of_memory


def main() -> int:
    """Entry point of the process."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the page's terminal ends the page, which stops this
    # Whatever libraries print must not get between the updates: they get another standard output.
    updates = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    values = json.loads(sys.stdin.read())
    if values["token"]:
        os.environ["HF_TOKEN"] = values["token"]  # for a gated base model too
    _send(updates, **_done(values, updates, stop))
    os._exit(0)  # an unfinished download has threads that Python would wait for


def _done(values: dict[str, Any], updates: TextIO, stop: threading.Event) -> dict[str, Any]:
    """Do the export; how it ended."""
    from geko_engine.export.request import ExportRequest

    try:
        made = ExportRequest(**values).do(lambda text: _send(updates, text=text), stop.is_set)
    except Stopped:
        return {"error": "Stopped by user."}
    except GekoError as problem:
        return {"error": str(problem)}
    except Exception as problem:  # noqa: BLE001 - the edge of the process
        if is_out_of_memory(problem):
            return {"error": "Memory ran out: wait until the active training has ended, then export again."}
        return {"error": f"The export failed because of an unexpected error ({type(problem).__name__}: {problem})."}
    return {"place": made.place, "sentences": list(made.sentences)}


def _send(updates: TextIO, **update: Any) -> None:
    updates.write(json.dumps(update) + "\n")
    updates.flush()


if __name__ == "__main__":
    sys.exit(main())
