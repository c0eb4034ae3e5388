"""An export process without a model: what it does is the name of the repository.

wait: exports until it is stopped.
die: exits with code 3 in the middle.
refuse: ends with a sentence.
gpu: says which GPUs it sees.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any


def send(**update: Any) -> None:
    print(json.dumps(update), flush=True)


def main() -> int:
    asked = json.loads(sys.stdin.read())
    send(text=f"Exporting to {asked['to']}")
    if asked["repo"] == "die":
        return 3
    if asked["repo"] == "wait":
        threading.Event().wait()
    if asked["repo"] == "gpu":
        send(place=os.environ.get("CUDA_VISIBLE_DEVICES", "all of them"))
    elif asked["repo"] == "refuse":
        send(error="It cannot be exported.")
    else:
        send(place="there", sentences=[json.dumps(asked)])
    return 0


sys.exit(main())
