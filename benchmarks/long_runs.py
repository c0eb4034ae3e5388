"""The page on a run of 200,000 steps and 200,000 samples: its first view, and 25 tabs that follow it.

python -m benchmarks.long_runs [--repetitions N] [--small]

The first view calls the functions that the page's scripts call; the tabs ask a real server over HTTP.
"""

from __future__ import annotations

import functools
import http.client
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, in_child, memory_growth, print_table, write_results
from benchmarks.page import completed, dashboard_functions, sample_functions, write_events, write_samples
from benchmarks.start import answers, free_port, wait_until
from geko_app.runs.folded_events import INDEX
from geko_app.runs.store import RunStore
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from geko_engine.reporting.events import PhaseChanged
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.writer import RunWriter

LONG, SMALL = 200_000, 20_000  # steps, and samples
TABS, POLL_SECONDS, WATCHED_SECONDS = 25, 0.5, 20.0
STEPS_PER_SECOND = 20
DASHBOARD, SAMPLES_PAGE = "Dashboard", "Samples page"


def make_run(root: str, size: int) -> str:
    """An ended run of `size` steps and samples below `root`; its id. In a child: the page knows no torch."""
    folder = RunStore(root).create(RunConfig.from_dict({**RunConfig.demo().to_dict(), "output_dir": root}))
    write_events(folder, size, size, size)
    write_samples(folder, size, size)
    return folder.id


def first_view(page: str, root: str, run: str) -> dict[str, float]:
    """Seconds and megabytes of the first answer of a page. Run in a child, whose memory is not that of others."""
    supervisor, seconds = Supervisor(RunStore(root)), []

    def ask() -> None:
        began = time.perf_counter()
        if page == DASHBOARD:
            answer = [dashboard_functions(supervisor)["pull"]({"run": run, "shown": run})]
        else:
            functions = sample_functions(supervisor)
            answer = [functions["pull"]({"run": run}), functions["table"]({"run": run})]
        json.dumps(answer)
        seconds.append(time.perf_counter() - began)

    grown = memory_growth(ask)
    return {"seconds": seconds[0], "MB": max(0, grown) / 1e6}


def first_views(root: str, run: str, repetitions: int) -> dict[str, dict[str, float]]:
    """Medians of the first views; those without an index come first in each repetition, and leave one behind."""
    index = Path(root) / run / INDEX
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(repetitions):
        index.unlink(missing_ok=True)
        for name, page in ((f"{DASHBOARD}, without an index", DASHBOARD), (f"{DASHBOARD}, with an index", DASHBOARD)):
            found.setdefault(name, []).append(in_child(first_view, page, root, run))
        found.setdefault(SAMPLES_PAGE, []).append(in_child(first_view, SAMPLES_PAGE, root, run))
    return {
        name: {key: round(statistics.median(view[key] for view in views), 3) for key in ("seconds", "MB")}
        for name, views in found.items()
    }


class TabOverHttp:
    """Polls the dashboard of a server as the page's script does.

    Args:
        port: of the server.
        run: that it shows.
    """

    def __init__(self, port: int, run: str) -> None:
        self._run = run
        self._cursor: dict[str, Any] = {}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.request("GET", "/config")
        config = json.loads(self._connection.getresponse().read())
        (self._part,) = (c["id"] for c in config["components"] if "variant" in (c["props"].get("server_fns") or ()))

    def poll(self) -> float:
        """Seconds until one answer is here. Raises RuntimeError if it is not about the run."""
        query = {"run": self._run, "shown": self._run, "cursor": self._cursor}
        body = {"component_id": self._part, "fn_name": "pull", "session_hash": "tab", "data": query}
        began = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/gradio_api/component_server", json.dumps(body), headers)
        answer = json.loads(self._connection.getresponse().read())
        seconds = time.perf_counter() - began
        if answer.get("run") != self._run:
            raise RuntimeError(f"The server did not answer a poll: {str(answer)[:200]}")
        self._cursor = answer["next"]
        return seconds

    def watch(self, seconds: float) -> list[float]:
        """Seconds of each poll, until `seconds` are over."""
        end, found = time.monotonic() + seconds, []
        while time.monotonic() < end:
            found.append(self.poll())
            time.sleep(max(0.0, POLL_SECONDS - found[-1]))
        return found


def write_steps(folder: RunFolder, size: int, begun: threading.Event, ended: threading.Event) -> None:
    """What a worker writes of a run that goes on."""
    with RunWriter(folder) as write:
        write(PhaseChanged("training"))
        begun.set()
        step = size
        while not ended.wait(1 / STEPS_PER_SECOND):
            step += 1
            write(completed(step, size, size))


def tabs(root: str, run: str, size: int, watched: float) -> dict[str, dict[str, float]]:
    """p50 and p95 in milliseconds of the polls of TABS tabs of one server, while the run goes on."""
    port, begun, ended = free_port(), threading.Event(), threading.Event()
    command = [sys.executable, "-m", "geko_app", "--port", str(port), "--runs", root]
    writer = threading.Thread(target=write_steps, args=(RunFolder(Path(root) / run), size, begun, ended))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(functools.partial(answers, process, f"http://127.0.0.1:{port}/"), "the page")
            writer.start()
            wait_until(lambda: begun.is_set() or not writer.is_alive(), "the run")
            opened = [TabOverHttp(port, run) for _ in range(TABS)]
            opened[0].poll()  # the server folds what the index does not hold
            with ThreadPoolExecutor(TABS) as pool:
                first = list(pool.map(lambda tab: tab.poll(), opened))
                later = [seconds for found in pool.map(lambda tab: tab.watch(watched), opened) for seconds in found]
        finally:
            ended.set()
            writer.join()
            process.send_signal(signal.SIGTERM)
    return {"first poll": percentiles(first), "later polls": percentiles(later)}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p95 in milliseconds, and how many there were."""
    middle, late = np.percentile(seconds, [50, 95]) * 1000
    return {"p50_ms": round(float(middle), 1), "p95_ms": round(float(late), 1), "polls": len(seconds)}


def main() -> None:
    """Measure, print and write results/long_runs.jsonl."""
    options = arguments(__doc__ or "", repetitions=5)
    size, watched = (SMALL, 3.0) if options.small else (LONG, WATCHED_SECONDS)
    with tempfile.TemporaryDirectory() as root:
        run = in_child(make_run, root, size)
        events = (Path(root) / run / "events.jsonl").stat().st_size / 1e6
        views = first_views(root, run, options.repetitions)
        polls = tabs(root, run, size, watched)
    title = f"First view of a run of {size:,} steps and samples ({events:.0f} MB of events), median of a fresh process"
    rows: list[tuple[Any, ...]] = [(name, f"{v['seconds']:.2f}", f"{v['MB']:.0f}") for name, v in views.items()]
    print_table(title, ("view", "seconds", "MB"), rows)
    rows = [(name, p["polls"], p["p50_ms"], p["p95_ms"]) for name, p in polls.items()]
    print_table(f"{TABS} tabs over HTTP while the run goes on", ("question", "polls", "p50 ms", "p95 ms"), rows)
    settings = {"repetitions": options.repetitions, "steps": size, "samples": size, "tabs": TABS}
    settings |= {"poll_seconds": POLL_SECONDS, "steps_per_second": STEPS_PER_SECOND, "seconds": watched}
    write_results("long_runs", settings, {"first view": views, "tabs": polls}, options)


if __name__ == "__main__":
    main()
