"""Looks before a start: a worker process for each, in a temporary folder. Knows no page and no torch."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geko_app.workers.run_follower import death_reason
from geko_app.workers.supervisor import WORKER
from geko_engine.config.run_config import RunConfig
from geko_engine.reporting.events import RunEnded
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.disk_space import written

LOOK = (*WORKER, "--look")
AT_ONCE = 2  # looks at work; one more ends the oldest of them
KEPT = 8
STOP_SECONDS = 5.0


@dataclass
class Look:
    """One look: its folder, its process, and the events read so far."""

    folder: RunFolder
    process: subprocess.Popen[bytes]
    config: RunConfig
    events: list[dict[str, Any]] = field(default_factory=list)
    offset: int = 0

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] == RunEnded.__name__

    def read(self) -> list[dict[str, Any]]:
        """All events so far; a process that died without its last word gets one."""
        alive = self.alive  # before the reading: what was written last is read then
        for offset, event in self.folder.events(self.offset):
            self.offset = offset
            self.events.append(event)
        if not alive and not self.ended:
            self.events.append(RunEnded("failed", death_reason(self.process, self.folder), {}).to_dict())
        return self.events


class Looks:
    """Starts looks and answers for them; the same configuration is looked at once."""

    def __init__(self, command: Sequence[str] = LOOK) -> None:
        self._command = tuple(command)
        self._looks: dict[str, Look] = {}
        self._lock = threading.Lock()

    def start(self, config: RunConfig, environment: Mapping[str, str]) -> str:
        """Begin to look at what `config` names and return the key of the look."""
        with self._lock:
            for key, look in self._looks.items():
                if look.config == config and (look.alive or look.read()[-1].get("end") == "complete"):
                    return key
            self._make_room()
            with written(Path(tempfile.gettempdir())):
                folder = RunFolder(tempfile.mkdtemp(prefix="geko-look-"))
                folder.config_path.write_text(config.to_yaml(), encoding="utf-8")
            with folder.log_path.open("ab") as log:
                process = subprocess.Popen(
                    [*self._command, str(folder.path)],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=dict(environment),
                )
            self._looks[folder.id] = Look(folder, process, config)
            return folder.id

    def events(self, key: str) -> list[dict[str, Any]] | None:
        """Everything that the look has told so far; None for a key that is not (or no longer) known."""
        with self._lock:
            look = self._looks.get(key)
            return None if look is None else list(look.read())

    def shutdown(self) -> None:
        """End all looks and remove their folders; they have nothing to save."""
        with self._lock:
            for look in self._looks.values():
                look.process.kill()
            for key in list(self._looks):
                self._remove(key)

    def _make_room(self) -> None:
        working = [key for key, look in self._looks.items() if look.alive]
        for key in working[: max(0, len(working) - AT_ONCE + 1)]:
            self._remove(key)
        for key in list(self._looks)[: max(0, len(self._looks) - KEPT + 1)]:
            self._remove(key)

    def _remove(self, key: str) -> None:
        look = self._looks.pop(key)
        if look.alive:
            look.process.terminate()
            try:
                look.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                look.process.kill()
                look.process.wait()
        shutil.rmtree(Path(look.folder.path), ignore_errors=True)
