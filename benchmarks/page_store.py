"""What the page's store of samples takes on a made-up run: its first read, sort, filter, a page of rows, an update.

The functions that the Samples page's script calls are called directly. Run in a child: it loads the page's packages.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from benchmarks.page import sample_functions, write_samples
from geko_app.runs.store import RunStore
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from geko_engine.runs.folder import RunFolder
from geko_engine.selection.sample_records import SampleStates
from geko_engine.storage.atomic_files import replace_file


def make_run(root: str, count: int) -> str:
    """A run of `count` samples below `root`; its id."""
    folder = RunStore(root).create(RunConfig.from_dict({**RunConfig.demo().to_dict(), "output_dir": root}))
    write_samples(folder, count)
    return folder.id


def renew(folder: RunFolder, count: int) -> None:
    """The record as it stands one step later, as the worker replaces it."""
    states, ids = SampleStates(count), np.arange(16)
    states.load(folder.samples_path)
    ones = np.ones(len(ids), np.float32)
    states.record(ids, ones, ones, ones > 0, ones, step=1 + int(states.last_step.max()), config=RunConfig().geko)
    replace_file(folder.samples_path, states.save)


class Page:
    """The Samples page as a tab finds it after a start of the server, and the seconds of what was asked of it."""

    def __init__(self, supervisor: Supervisor, run: str) -> None:
        self._functions = sample_functions(supervisor)
        self._run = run
        self.seconds: dict[str, float] = {}

    def ask(self, name: str, **queries: dict[str, Any]) -> Any:
        """Time the answers of the functions in `queries` together, and return the first."""
        began = time.perf_counter()
        answers = [self._functions[function]({"run": self._run, **query}) for function, query in queries.items()]
        self.seconds[name] = time.perf_counter() - began
        if any(answer["sentence"] for answer in answers):
            raise RuntimeError(f"The page has nothing to show: {answers}")
        return answers[0]


def seconds(root: str, run: str, count: int, repetitions: int) -> list[dict[str, float]]:
    """Seconds of each question, repetition by repetition."""
    supervisor = Supervisor(RunStore(root))
    folder, sorts = supervisor.store.folder(run), itertools.cycle(["loss", "confidence", "q", "bucket", "seen"])
    found = []
    for number in range(repetitions + 1):
        page = Page(supervisor, run)
        seen = page.ask("first read", pull={}, table={})
        page.ask("sort", table={"sort": next(sorts), "down": True})
        page.ask("filter", table={"filter": "hard"})
        page.ask("a page of rows", table={"page": number})
        renew(folder, count)
        page.ask("update", pull={"version": seen["version"]}, table={})
        found.append(page.seconds)
    return found[1:]  # the first one reads from the disk
