"""A worker process without a model: writes real events, then behaves as named. Called with BEHAVIOUR RUN [--resume].

finish: ends by itself.
stop: waits for the stop flag.
ordered: waits for the stop flag, or for a file `end` in its folder that holds the end to take.
ignore-flag: ignores the flag, ends on SIGTERM.
ignore-all: ignores the flag and SIGTERM.
save: writes a checkpoint until there is a file `end` in its folder, and ignores SIGTERM.
token: reports how long the Hub token on its standard input is, and whether its environment has one.
crash: exits with code 3 and writes no end.
silent: exits before it writes anything.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from geko_engine.reporting.events import Message, PhaseChanged, RunEnded
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.writer import RunWriter


def main() -> int:
    behaviour, folder = sys.argv[1], RunFolder.open(sys.argv[2])
    if behaviour == "silent":
        return 0
    if behaviour in ("ignore-all", "save"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with RunWriter(folder) as write:
        if behaviour == "save":
            (folder.checkpoints_path / ".checkpoint-1.writing").mkdir(parents=True)
        write(PhaseChanged("training", "resumed" if "--resume" in sys.argv else "fresh"))
        if behaviour == "crash":
            return 3
        if behaviour == "token":
            write(Message(f"{len(sys.stdin.read())} characters, environment: {'HF_TOKEN' in os.environ}"))
        if behaviour in ("ignore-flag", "ignore-all"):
            threading.Event().wait(60)
        if behaviour == "save":
            waiting = threading.Event()
            while not (folder.path / "end").exists():
                waiting.wait(0.02)
            (folder.checkpoints_path / ".checkpoint-1.writing").rename(folder.checkpoints_path / "checkpoint-1")
        if behaviour == "stop":
            waiting = threading.Event()
            while not folder.stop_path.exists():
                waiting.wait(0.02)
        end = (
            wait_for_order(folder)
            if behaviour == "ordered"
            else "stopped"
            if behaviour in ("stop", "save")
            else "complete"
        )
        write(RunEnded(end, "as ordered", {"end": end}))
    return 0


def wait_for_order(folder: RunFolder) -> str:
    order, waiting = folder.path / "end", threading.Event()
    while not folder.stop_path.exists() and not order.exists():
        waiting.wait(0.02)
    return order.read_text(encoding="utf-8") if order.exists() else "stopped"


sys.exit(main())
