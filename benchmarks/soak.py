"""Half an hour of a training run watched by twenty tabs: memory and handles of the page, speed of the training.

python -m benchmarks.soak [--small]

The page is its own process, and the run is the demo with more epochs. Spells follow each other within the one run: without
tabs; with tabs as the server sees them when they are on other machines (each asks over HTTP as the page's script does, and
draws nothing); and with real tabs in Chromium, opened anew each time, which draw on this machine and take its processor from
the training. --small: two minutes, three tabs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Browser, sync_playwright

from benchmarks.common import Ratio, arguments, print_table, write_results
from benchmarks.long_runs import TabOverHttp
from benchmarks.start import LONGEST_SECONDS, answers, free_port, wait_until
from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig

MINUTES, TABS, SPELL = 30, 20, 60.0  # minutes in all, tabs, seconds with or without tabs
SMALL_MINUTES, SMALL_TABS, SMALL_SPELL = 2, 3, 20.0
EPOCHS = 10_000  # more than half an hour takes
MOST_DRAWN = 5  # real tabs at once: more than a person has open, and few enough for two cores
ALONE, ASKED, DRAWN = KINDS = ("no tabs", "tabs elsewhere", "tabs drawn here")


@dataclass
class Observed:
    """What was seen at the end of each spell, and the training steps a second of each, by kind of spell."""

    memory: list[int] = field(default_factory=list)  # bytes of the page's process
    handles: list[int] = field(default_factory=list)
    processor: dict[str, list[float]] = field(
        default_factory=lambda: {kind: [] for kind in KINDS}
    )  # of a core, by the page
    steps_per_second: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


@contextmanager
def page_process(runs: Path) -> Iterator[tuple[psutil.Process, str]]:
    """geko-app over the folder `runs`: (its process, its address)."""
    port = free_port()
    command = [sys.executable, "-m", "geko_app", "--port", str(port), "--runs", str(runs)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}/"
            wait_until(lambda: answers(process, url), "the page")
            yield psutil.Process(process.pid), url
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def training(runs: Path) -> Iterator[Path]:
    """The demo with many epochs, in a process of its own: its run folder."""
    config = RunConfig.demo()
    config.output_dir, config.training.num_epochs = str(runs), EPOCHS
    config.geko.enabled = False  # every step alike
    folder = RunStore(runs).create(config).path
    command = [sys.executable, "-m", "geko_engine", "--resume", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: steps(folder) > 20, "the first steps")
            yield folder
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(LONGEST_SECONDS)


def steps(folder: Path) -> int:
    """Steps done, from the end of the run's log."""
    path = folder / "events.jsonl"
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 20_000))
        lines = file.read().splitlines()[1:-1]  # whole ones
    found = [json.loads(line) for line in lines]
    return max((event["step"] for event in found if event["type"] == "StepCompleted"), default=0)


def asked(url: str, folder: Path, tabs: int, seconds: float) -> float:
    """Training steps a second while `tabs` tabs on other machines show the dashboard."""
    port = int(url.rstrip("/").rpartition(":")[2])
    opened = [TabOverHttp(port, folder.name) for _ in range(tabs)]
    before, began = steps(folder), time.perf_counter()
    if opened:
        with ThreadPoolExecutor(tabs) as pool:
            list(pool.map(lambda tab: tab.watch(seconds), opened))
    else:
        time.sleep(seconds)
    return (steps(folder) - before) / (time.perf_counter() - began)


def drawn(browser: Browser, url: str, folder: Path, tabs: int, seconds: float) -> float:
    """Training steps a second while `tabs` tabs of a browser on this machine (at most MOST_DRAWN) show the dashboard."""
    context = browser.new_context()
    context.set_default_timeout(1000 * LONGEST_SECONDS)  # all of them share this machine with the training
    try:
        pages = [context.new_page() for _ in range(min(tabs, MOST_DRAWN))]
        for page in pages:
            page.goto(url)
            page.wait_for_function("window.Plotly !== undefined")
        before, began = steps(folder), time.perf_counter()
        pages[0].wait_for_timeout(1000 * seconds)  # keeps the tabs' messages flowing
        return (steps(folder) - before) / (time.perf_counter() - began)
    finally:
        context.close()


def observe(minutes: float, tabs: int, seconds: float) -> Observed:
    """The whole soak."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("Install chromium: the tabs are real ones.")
    seen = Observed()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        runs = Path(name) / "runs"
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        with training(runs) as folder, page_process(runs) as (process, url):
            end = time.perf_counter() + 60 * minutes
            while time.perf_counter() < end:
                for kind, work in (
                    (ALONE, lambda: asked(url, folder, 0, seconds)),
                    (ASKED, lambda: asked(url, folder, tabs, seconds)),
                    (DRAWN, lambda: drawn(browser, url, folder, tabs, seconds)),
                ):
                    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
                    seen.steps_per_second[kind].append(work())
                    taken = sum(process.cpu_times()[:2]) - before
                    seen.processor[kind].append(taken / (time.perf_counter() - began))
                    seen.memory.append(process.memory_info().rss)
                    seen.handles.append(process.num_fds())
        browser.close()
    return seen


def growth(values: list[int]) -> float:
    """Mean of the last third in units of that of the second: the first one fills what is kept."""
    third = max(1, len(values) // 3)
    return statistics.mean(values[-third:]) / statistics.mean(values[third : 2 * third] or values[:1])


def main() -> None:
    """Entry of the command line."""
    options = arguments(__doc__ or "", repetitions=1, few=1)
    os.environ["HF_HUB_OFFLINE"] = "1"
    minutes, tabs, seconds = (SMALL_MINUTES, SMALL_TABS, SMALL_SPELL) if options.small else (MINUTES, TABS, SPELL)
    seen = observe(minutes, tabs, seconds)
    pace = seen.steps_per_second
    slower = {kind: Ratio.of(pace[ALONE], pace[kind]) for kind in (ASKED, DRAWN)}
    figures: dict[str, Any] = {
        "memory, last third / second": round(growth(seen.memory), 3),
        "handles, last third / second": round(growth(seen.handles), 3),
        **{f"time of a step, {kind} / {ALONE}": ratio for kind, ratio in slower.items()},
        **{
            f"share of a core that the page takes, {kind}": f"{statistics.mean(seen.processor[kind]):.1%}"
            for kind in KINDS
        },
        "memory at the end": f"{seen.memory[-1] / 1e6:.0f} MB",
        "handles at the end": seen.handles[-1],
    }
    print_table(
        f"{minutes} minutes, {tabs} tabs, one run", ["what", "figure"], [[k, str(v)] for k, v in figures.items()]
    )
    results: dict[str, Any] = {"memory": seen.memory, "handles": seen.handles, "steps_per_second": pace}
    results["slower"] = {kind: ratio.to_dict() for kind, ratio in slower.items()}
    results["processor"] = seen.processor
    write_results("soak", {"minutes": minutes, "tabs": tabs, "spell_seconds": seconds}, results, options)


if __name__ == "__main__":
    main()
