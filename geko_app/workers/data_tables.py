"""Tables of the first rows of a form's data, each read by a process with limits. Knows no page and no torch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from geko_app.form.roots import AllowedRoots
from geko_app.workers.form_checks import describe_end
from geko_app.workers.process_limits import most_of_free_memory
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DEMO, DataConfig
from geko_engine.data.local_files import is_local
from geko_engine.storage.user_paths import expand

TABLE_COMMAND = (sys.executable, "-P", "-m", "geko_app.workers.table_worker")
MEMORY = 4 << 30  # bytes
SECONDS = 30
MAX_ACTIVE = 2  # further ones wait
MAX_KEPT = 32
NOTHING_READ: dict[str, Any] = {
    "columns": [],
    "rows": [],
    "count": 0,
    "is_cut": False,
    "reading": "",
    "is_guess": False,
    "findings": [],
}


class DataTables:
    """Reads the first rows of data, and keeps what it has read until the file changes. Thread-safe.

    Args:
        roots: folders that local data must lie in.
        command: starts a worker; its limits are appended.
        seconds: that a worker may take.
    """

    def __init__(
        self, roots: AllowedRoots | None = None, *, command: Sequence[str] = TABLE_COMMAND, seconds: int = SECONDS
    ) -> None:
        self._roots = roots or AllowedRoots()
        self._command, self._seconds = tuple(command), seconds
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._slots, self._lock = threading.BoundedSemaphore(MAX_ACTIVE), threading.Lock()

    def read(self, config: RunConfig) -> dict[str, Any]:
        """The table of the training data: plain values of geko_engine.data.first_rows.FirstRows."""
        outside = dict(self._roots.problems(config))
        if "data.train" in outside:
            return _problem(outside["data.train"])  # what lies there is not even looked for
        key = json.dumps([dataclasses.asdict(config.data), _changed(config.data.train)])
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = self._in_worker(config.data)
        if config.data.train == DEMO or is_local(config.data.train):  # a file of the Hub may be there a moment later
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        return found

    def _in_worker(self, config: DataConfig) -> dict[str, Any]:
        asked = json.dumps(dataclasses.asdict(config)).encode()
        command = [*self._command, str(min(MEMORY, most_of_free_memory())), str(self._seconds)]
        try:
            with self._slots:
                done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, timeout=self._seconds, check=False)
        except subprocess.TimeoutExpired:
            return _problem(f"Reading its first rows took longer than {self._seconds} s. A run may still read it.")
        except OSError as error:
            return _problem(f"It cannot be read now, because no process can be started ({error.strerror}).")
        if done.returncode:
            return _problem(f"{config.train!r} {describe_end(done.returncode)}: it is damaged or too large.")
        table: dict[str, Any] = json.loads(done.stdout)
        return table


def _problem(sentence: str) -> dict[str, Any]:
    return {**NOTHING_READ, "error": sentence, "field": "data.train"}


def _changed(name: str) -> list[int]:
    """When a local file was changed and how large it is; [] for what is none."""
    try:
        found = expand(name).stat()
    except (OSError, ValueError):
        return []
    return [found.st_mtime_ns, found.st_size]
