"""Previews before a run starts: one worker process each, in a temporary folder. Knows no page and no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geko_app.workers.endings import Endings
from geko_app.workers.gpu_lanes import only
from geko_app.workers.hub_token import check_token, start_worker
from geko_app.workers.run_follower import death_reason
from geko_app.workers.supervisor import TRAINING_COMMAND
from geko_engine.config.run_config import RunConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import RunError
from geko_engine.reporting.events import RunEnded
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.disk_space import explain_write_errors

PREVIEW_COMMAND = (*TRAINING_COMMAND, "--preview")
MAX_ACTIVE = 2  # processes, those that are being ended among them; a further preview ends the oldest one
MAX_KEPT = 8
STOP_SECONDS = 5.0  # a killed process is gone sooner, unless it hangs on a dead disk
MAX_SECONDS = 3600.0  # of a preview; one that hangs on a dead disk ends too
TOO_LONG = (
    "The preview took longer than {:.0f} minutes: preview the first rows only (Training samples), or start the run."
)
STILL_ENDING = "An earlier preview is still being ended: try again in a moment."


@dataclass
class PreviewJob:
    """One preview: its folder, its process, and the events read so far."""

    folder: RunFolder
    process: subprocess.Popen[bytes]
    config: RunConfig
    events: list[dict[str, Any]] = field(default_factory=list)
    offset: int = 0
    ends_at: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] == RunEnded.__name__

    def read(self) -> list[dict[str, Any]]:
        """All events so far; a process that died without an end event gets one, and one that takes too long is ended."""
        if late := self.alive and time.monotonic() > self.ends_at:
            self.process.kill()
            self.process.wait()
        alive = self.alive  # asked before reading, so that what it wrote last is read
        for offset, event in self.folder.events(self.offset):
            self.offset = offset
            self.events.append(event)
        if not alive and not self.ended:
            reason = TOO_LONG.format(MAX_SECONDS / 60) if late else death_reason(self.process, self.folder)
            self.events.append(RunEnded("failed", reason, {}).to_dict())
        return self.events

    def end(self) -> None:
        """End the process and remove the folder. It has nothing to save, and another one waits for its memory."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(Path(self.folder.path), ignore_errors=True)


class PreviewJobs:
    """Starts previews and hands out their events. A configuration that was previewed completely is not previewed again.

    Args:
        command: starts a worker; the preview's folder is appended.
        order_gpus: the GPUs that a worker sees, by the settings of its run: it measures on the first one.
    """

    def __init__(
        self,
        command: Sequence[str] = PREVIEW_COMMAND,
        *,
        order_gpus: Callable[[GEKOTrainingArgs], Sequence[int]] = lambda _args: (),
    ) -> None:
        self._command, self._order_gpus = tuple(command), order_gpus
        self._jobs: dict[str, PreviewJob] = {}
        self._endings = Endings()
        self._lock = threading.Lock()
        self._starting = threading.Lock()  # taken before the other one; who only reads events does not wait for it

    def start(self, config: RunConfig, token: str = "") -> str:
        """Start a preview of `config`, or find the one that exists.

        Args:
            config: what to preview.
            token: Hub token; passed to the worker by a pipe.

        Returns:
            The key of the job.

        Raises:
            RunError: the disk is full, the token cannot be one, or an earlier preview does not end.
        """
        check_token(token)
        with self._starting:
            with self._lock:
                if (key := self._find(config)) is not None:
                    return key
                self._make_room()
            if not self._endings.wait(STOP_SECONDS):
                raise RunError(STILL_ENDING)
            with self._lock:
                return self._launch(config, token)

    def _find(self, config: RunConfig) -> str | None:
        for key, job in self._jobs.items():
            if job.config == config and (job.alive or job.read()[-1].get("end") == "complete"):
                return key
        return None

    def _launch(self, config: RunConfig, token: str) -> str:
        with explain_write_errors(Path(tempfile.gettempdir())):
            folder = RunFolder(tempfile.mkdtemp(prefix="geko-preview-"))
            folder.config_path.write_text(config.to_yaml(), encoding="utf-8")
        with folder.log_path.open("ab") as log:
            environment = {**os.environ, **only(self._order_gpus(config.training))}
            arguments = [*self._command, str(folder.path)]
            process = start_worker(arguments, token, stdout=log, stderr=log, env=environment)
        self._jobs[folder.id] = PreviewJob(folder, process, config)
        return folder.id

    def events(self, key: str) -> list[dict[str, Any]] | None:
        """All events of a preview so far; None for an unknown key."""
        with self._lock:
            job = self._jobs.get(key)
            return None if job is None else list(job.read())

    def shutdown(self) -> None:
        """End all previews and remove their folders; there is nothing to save."""
        with self._starting, self._lock:
            for key in list(self._jobs):
                self._remove(key)
        self._endings.wait()

    def _make_room(self) -> None:
        active = [key for key, job in self._jobs.items() if job.alive]
        for key in active[: max(0, len(active) - MAX_ACTIVE + 1)]:
            self._remove(key)
        for key in list(self._jobs)[: max(0, len(self._jobs) - MAX_KEPT + 1)]:
            self._remove(key)

    def _remove(self, key: str) -> None:
        self._endings.begin(self._jobs.pop(key).end)
