"""A process that answers without a model, as told: answers what it is asked; a prompt of one word decides otherwise.

wait: writes until it is stopped.  die: ends with 3 and no word.  half: is killed in a word.  deaf: does not notice the end of its input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any


def tell(job: dict[str, Any], **news: Any) -> None:
    print(json.dumps({"id": job["id"], **news}), flush=True)


def main() -> int:
    waiting: dict[int, dict[str, Any]] = {}
    for line in sys.stdin:
        job = json.loads(line)
        if "stop" in job:
            tell(waiting.pop(job["stop"]), done=True, error="")
        elif job.get("prompt") == "die":
            return 3
        elif job.get("prompt") == "half":
            sys.stdout.write('{"id": 1, "par')
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        elif job.get("prompt") == "deaf":
            tell(job, part="base", state="loading")
            threading.Event().wait()
        elif job.get("prompt") == "wait":
            waiting[job["id"]] = job
            tell(job, part="base", state="writing", text="so far")
        else:
            tell(job, part="base", state="ended", text=job.get("prompt", ""), pid=os.getpid())
            tell(job, done=True, error="")
    return 0


sys.exit(main())
