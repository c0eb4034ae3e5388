"""Exports of runs' models: one worker process at a time, and how far each has come. Knows no page and no torch.

The last export of each run is kept in memory. What it made lies in the run's folder, or on the Hub.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from geko_app.runs.store import RunStore
from geko_app.workers.gpu_lanes import ChooseGpu, no_choice, only
from geko_app.workers.hub_token import check_token
from geko_app.workers.inference_jobs import death_sentence
from geko_engine.exceptions import RunError

EXPORT_COMMAND = (sys.executable, "-P", "-m", "geko_app.workers.export_worker")  # -P: as in supervisor.py
TARGETS = ("merged", "gguf", "ollama", "hub")  # as in geko_engine.export
STOP_SECONDS = 10.0
STOPPED = "Stopped by user."


@dataclass(frozen=True)
class ExportOptions:
    """What the user chose, beside the target.

    Attributes:
        repo: repository for "hub". merged: push the complete model. private: of a new repository.
        token: of the Hub; it only travels through the pipe to the worker.
    """

    repo: str = ""
    merged: bool = False
    private: bool = True
    token: str = ""


@dataclass
class ExportJob:
    """One export: what it is doing now, and how it ended.

    Attributes:
        to: the target. merged: whether a complete model is pushed instead of an adapter. text: what it is doing.
        running: whether its process is alive. error: why it failed, "" if it did not.
        place: of the result. sentences: what to know about it.
    """

    to: str
    merged: bool = False
    text: str = "Starting"
    running: bool = True
    error: str = ""
    place: str = ""
    sentences: list[str] = field(default_factory=list)


class ExportJobs:
    """Starts exports and follows them.

    Args:
        store: the runs.
        command: starts a worker.
        choose_gpu: which GPU a worker gets.
    """

    def __init__(
        self, store: RunStore, *, command: Sequence[str] = EXPORT_COMMAND, choose_gpu: ChooseGpu = no_choice
    ) -> None:
        self.store, self._command, self._choose_gpu = store, tuple(command), choose_gpu
        self._jobs: dict[str, ExportJob] = {}
        self._process: subprocess.Popen[str] | None = None
        self._active = ""  # id of the run that is exported
        self._lock = threading.RLock()

    def start(self, run_id: str, to: str, options: ExportOptions) -> None:
        """Start an export.

        Raises:
            RunError: there is no such run or target, an export is running, or the token cannot be one.
        """
        check_token(options.token)
        folder = self.store.folder(run_id)
        if to not in TARGETS:
            raise RunError(f"{to!r} is not a kind of export: choose one of {', '.join(TARGETS)}.")
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                raise RunError(f"The run {self._active} is being exported: wait until that has ended, or stop it.")
            job = self._jobs[run_id] = ExportJob(to, options.merged)
            self._active = run_id
            self._process = self._started({"run": str(folder.path), "to": to, **asdict(options)})
        threading.Thread(target=self._follow, args=(self._process, job), name="export-job", daemon=True).start()

    def job(self, run_id: str) -> ExportJob | None:
        """A copy of the run's last export as it is now; None if there was none."""
        with self._lock:
            job = self._jobs.get(run_id)
            return None if job is None else replace(job, sentences=list(job.sentences))

    def stop(self, run_id: str) -> None:
        """Stop the export of a run; does nothing if none is running."""
        with self._lock:
            if run_id == self._active and self._process is not None and self._process.poll() is None:
                self._jobs[run_id].error = STOPPED
                self._process.terminate()

    def shutdown(self) -> None:
        """End the process; what it has not finished is removed by the next export."""
        with self._lock:
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _started(self, request: dict[str, Any]) -> subprocess.Popen[str]:
        threads = str(max(1, (os.cpu_count() or 1) // 2))  # the other cores are for a training at the same time
        gpu = self._choose_gpu(None)
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "OMP_NUM_THREADS": threads,
                "TOKENIZERS_PARALLELISM": "false",
                **only([] if gpu is None else [gpu]),
            },
            encoding="utf-8",
        )
        with contextlib.suppress(BrokenPipeError):  # its end is noticed by the thread that follows it
            assert process.stdin is not None
            with process.stdin as pipe:
                pipe.write(json.dumps(request))
        return process

    def _follow(self, process: subprocess.Popen[str], job: ExportJob) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # it was killed while writing a line
            update = json.loads(line)
            with self._lock:
                for name, value in update.items():
                    setattr(job, name, value)
        process.wait()
        with self._lock:
            job.running, job.text = False, ""
            if not (job.place or job.error):
                job.error = death_sentence(process.returncode).replace("inference", "export")
