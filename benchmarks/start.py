"""From the command to the answering page, from Start to the first chart point, from Stop to stopped: real processes.

python -m benchmarks.start [--repetitions N] [--small]

A run is started, watched and stopped through the functions that the page's scripts call; no browser is measured. Each
time is given as a ratio to a bare import in the same repetition: nothing that needs these packages can be quicker.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import Ratio, arguments, interleave, print_table, write_results
from benchmarks.page import dashboard_functions
from geko_app.runs.store import RunStore
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig

PAGE_PEER, WORKER_PEER = "import gradio", "import torch, transformers"
PAGE, EVENT, POINT = "the page answers", "Start to the first event", "Start to the first chart point"
# What a run comes through without a network; "loading torch" is a part of "starting" that nothing can interrupt.
PHASES = ("starting", "loading torch", "tokenising", "scanning", "training", "evaluating")
LOOK_SECONDS = 0.01  # between two looks; a tab looks once a second
LONGEST_SECONDS = 300.0  # then something hangs, and the command says so instead of waiting for ever
STEPS_BEFORE_STOP = 5  # so that the stop meets a training that is at its work
Answer = dict[str, Any]


def wait_until(reached: Callable[[], object], what: str) -> float:
    """Seconds until `reached` says so. Raises RuntimeError when it never does."""
    began = time.perf_counter()
    while not reached():
        if time.perf_counter() - began > LONGEST_SECONDS:
            raise RuntimeError(f"Waited {LONGEST_SECONDS:.0f} seconds in vain for: {what}.")
        time.sleep(LOOK_SECONDS)
    return time.perf_counter() - began


def import_seconds(code: str) -> float:
    """Seconds of a fresh Python that only imports."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - began


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def page_seconds() -> float:
    """Seconds from the command geko-app to the whole answer of its page, over an empty folder of runs."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "geko_app", "--port", str(port), "--runs", str(Path(folder) / "runs")]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                wait_until(functools.partial(answers, process, f"http://127.0.0.1:{port}/"), PAGE)
                return time.perf_counter() - began
            finally:
                process.send_signal(signal.SIGTERM)


def answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Whether `url` is served. Raises RuntimeError when the server is gone."""
    if process.poll() is not None:
        raise RuntimeError(f"The page ended with exit code {process.returncode} instead of answering.")
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status == 200 and bool(response.read())
    except (urllib.error.URLError, ConnectionError):
        return False


class Tab:
    """The demo run as one tab of the page sees it, with a supervisor and a folder of its own.

    Args:
        folder: of the runs and of the kept tokens: a fresh one, or tokenising is skipped.
    """

    def __init__(self, folder: str) -> None:
        os.environ["GEKO_CACHE"] = str(Path(folder) / "cache")  # reaches the worker with the environment
        self.supervisor = Supervisor(RunStore(Path(folder) / "runs"))
        functions = dashboard_functions(self.supervisor)
        self._pull, self._stop = functions["pull"], functions["stop"]
        self.run = ""

    def start(self, *, scan: bool = False) -> None:
        """What the Start button does with the form as it is at first; with `scan`, a scan before the first epoch too."""
        config = RunConfig.demo()
        config.output_dir = str(self.supervisor.store.root)
        config.geko.initial_scan = scan
        self.run = self.supervisor.start(config)

    def look(self) -> Answer:
        """One poll of the dashboard, from the beginning of the run's history."""
        answer: Answer = self._pull({"run": self.run, "shown": self.run})
        if answer["phase"] in ("failed", "interrupted", "complete"):
            raise RuntimeError(f"The run ended by itself: {answer['phase']}, {answer['reason']}")
        return answer

    def first_event(self) -> bool:
        """Whether the worker has told anything."""
        return next(self.supervisor.store.folder(self.run).events(), None) is not None

    def first_point(self) -> bool:
        """Whether the charts have something to draw."""
        return bool(self.look()["points"]["step"])

    def at(self, phase: str) -> bool:
        """Whether the run is in the middle of `phase`."""
        answer = self.look()
        within = phase in (answer["phase"], answer["status"]["detail"])
        return within and (phase != "training" or len(answer["points"]["step"]) >= STEPS_BEFORE_STOP)

    def stopped(self) -> bool:
        """Whether the run has ended as stopped and its worker is gone."""
        answer = self.look()
        return answer["phase"] == "stopped" and not answer["running"]

    def stop(self) -> float:
        """Seconds from the Stop button to the end of the run."""
        began = time.perf_counter()
        self._stop({"run": self.run})
        wait_until(self.stopped, "the end after a stop")
        return time.perf_counter() - began

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.shutdown()  # the worker still lets go of its memory


def start_seconds() -> dict[str, float]:
    """Seconds from Start to the first event and to the first chart point."""
    with tempfile.TemporaryDirectory() as folder, Tab(folder) as tab:
        began = time.perf_counter()
        tab.start()
        found = {}
        for name, reached in ((EVENT, tab.first_event), (POINT, tab.first_point)):
            wait_until(reached, name)
            found[name] = time.perf_counter() - began
        tab.stop()
        return found


def stop_seconds(phase: str) -> float:
    """Seconds from Stop to the end of a run that is in `phase`."""
    with tempfile.TemporaryDirectory() as folder, Tab(folder) as tab:
        tab.start(scan=phase == "scanning")
        wait_until(lambda: tab.at(phase), phase)
        return tab.stop()


def main() -> None:
    """Measure, print and write results/start.jsonl."""
    options = arguments(__doc__ or "", repetitions=5)
    os.environ.pop("MALLOC_MMAP_THRESHOLD_", None)  # for the memory of other benchmarks; a user does not set it
    os.environ["HF_HUB_OFFLINE"] = "1"
    stops: dict[str, Callable[[], Any]] = {f"Stop while {p}": functools.partial(stop_seconds, p) for p in PHASES}
    runs: dict[str, Callable[[], Any]] = {
        PAGE_PEER: functools.partial(import_seconds, PAGE_PEER),
        PAGE: page_seconds,
        WORKER_PEER: functools.partial(import_seconds, WORKER_PEER),
        "start": start_seconds,
        **stops,
    }
    import_seconds(f"{PAGE_PEER}; {WORKER_PEER}")  # the first one reads from the disk
    seconds: dict[str, list[Any]] = interleave(runs, options.repetitions)
    started = seconds.pop("start")
    seconds |= {name: [found[name] for found in started] for name in (EVENT, POINT)}
    peers = {PAGE: PAGE_PEER} | dict.fromkeys((EVENT, POINT, *stops), WORKER_PEER)
    ratios = {name: Ratio.of(seconds[name], seconds[peer]) for name, peer in peers.items()}
    print_table(
        "What a user waits for, the bare import = 1 (median, least–most)",
        ("wait", "import", "ratio"),
        [(name, peers[name], ratio) for name, ratio in ratios.items()],
    )
    results = {name: {**ratio.to_dict(), "against": peers[name]} for name, ratio in ratios.items()}
    settings = {"repetitions": options.repetitions, "run": "the demo, with an initial scan where that is stopped"}
    write_results("start", settings, {**results, "seconds": seconds}, options)


if __name__ == "__main__":
    main()
