"""An inference process without a model: repeats the prompt, unless the prompt is one of these words.

wait: generates until it is stopped.
die: exits with code 3 in the middle of a job.
half: is killed while writing a line.
ignore: does not notice the end of its input.
stay: answers, and does not notice the end of its input either.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any


def send(job: dict[str, Any], **update: Any) -> None:
    print(json.dumps({"id": job["id"], **update}), flush=True)


def main() -> int:
    waiting: dict[int, dict[str, Any]] = {}
    for line in sys.stdin:
        job = json.loads(line)
        if "stop" in job:
            send(waiting.pop(job["stop"]), done=True, error="")
        elif job.get("prompt") == "die":
            return 3
        elif job.get("prompt") == "half":
            sys.stdout.write('{"id": 1, "par')
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        elif job.get("prompt") == "ignore":
            send(job, part="base", state="loading")
            threading.Event().wait()
        elif job.get("prompt") == "stay":
            send(job, done=True, error="")
            threading.Event().wait()
        elif job.get("prompt") == "wait":
            waiting[job["id"]] = job
            send(job, part="base", state="writing", text="so far")
        else:
            send(job, part="base", state="ended", text=job.get("prompt", ""), pid=os.getpid())
            send(job, done=True, error="")
    return 0


sys.exit(main())
