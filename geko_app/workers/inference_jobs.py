"""Asking the models of runs: one child process for all tabs, started when it is needed. Knows no page and no torch.

A job is asked for, gets a key, and is looked at by that key until it is done. Nothing of it is written to disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from geko_app.runs.store import RunStore
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder

TALKER = (sys.executable, "-P", "-m", "geko_app.workers.inference_worker")  # -P: as in supervisor.py
SIDES = ("base", "tuned")
IDLE_SECONDS = 300.0  # without a job, and the process and its memory are given back
STOP_SECONDS = 5.0
WAITING = 16  # jobs that are not done; one more is refused
KEPT = 64
LONGEST = 20_000  # characters
FINAL = "final"


@dataclass(frozen=True)
class Text:
    """What the models of a run are asked about.

    Attributes:
        which: FINAL or the name of a checkpoint. answer: the expected one, where there is one.
        example: the ref of the example that prompt and answer are from, where they are.
        pieces: the whole text as its run rendered it, (piece, whether it is learnt); then prompt and answer only tell
            how long it is.
    """

    run_id: str
    which: str
    prompt: str
    answer: str = ""
    example: str = ""
    pieces: tuple[tuple[str, bool], ...] = ()


@dataclass
class Job:
    """One thing that was asked: what is known of its parts by now, and how it ended."""

    number: int
    kind: str  # talk, losses or examples
    asked: Text | None
    process: subprocess.Popen[str]
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: bool = False
    error: str = ""

    def apply(self, news: dict[str, Any]) -> None:
        """Fold one line of the process."""
        if news.get("done"):
            self.done, self.error = True, news.get("error", "")
        elif "part" in news:
            told = {name: value for name, value in news.items() if name not in ("id", "part")}
            self.parts.setdefault(news["part"], {}).update(told)


class Talks:
    """Starts the process, hands it jobs, and answers for them.

    Args:
        command: how the process is started. idle_seconds: how long it may have nothing to do.
    """

    def __init__(self, store: RunStore, *, command: Sequence[str] = TALKER, idle_seconds: float = IDLE_SECONDS) -> None:
        self.store, self._command, self._idle = store, tuple(command), idle_seconds
        self._jobs: dict[str, Job] = {}
        self._numbers = 0
        self._process: subprocess.Popen[str] | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.RLock()

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def talk(self, text: Text, options: Mapping[str, Any]) -> str:
        """Ask both models of a run and return the key of the job.

        Args:
            options: fields of geko_engine.inference.generation.Options.

        Raises:
            RunError: for what is no run, no model of it, or too long; or when too much is asked at once.
        """
        return self._ask("talk", text, options=dict(options), sides=SIDES)

    def losses(self, text: Text, sides: Sequence[str] = SIDES) -> str:
        """Ask for the loss of every token of a prompt and its answer; the key of the job. Raises as `talk`.

        Each of `sides` gets a part with `list`, [text, loss in nats] pairs; the loss is None where nothing is learnt.
        """
        return self._ask("losses", text, sides=[side for side in SIDES if side in sides])

    def examples(self, run_id: str) -> str:
        """Ask for rows of a run's data to try; the key of the job. Raises as `talk`."""
        return self._give({"do": "examples", "run": str(self.store.folder(run_id).path)}, None)

    def job(self, key: str) -> Job | None:
        """What is known of a job by now; None for a key that is not (or no longer) known."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                return None
            parts = {name: dict(part) for name, part in job.parts.items()}
            return replace(job, parts=parts)

    def stop(self, key: str) -> None:
        """The rest of a job is not wanted any more; does nothing when it is done."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and not job.done:
                self._write({"stop": job.number})

    def shutdown(self) -> None:
        """End the process."""
        with self._lock:
            process, self._process = self._process, None
            if self._timer is not None:
                self._timer.cancel()
        if process is not None:
            _end(process)

    def _ask(self, kind: str, text: Text, **asked: Any) -> str:
        folder = self.store.folder(text.run_id)
        if text.which not in models_of(folder):
            raise RunError(f"The run {text.run_id} has no model {text.which!r}: choose another one.")
        longest = max(len(text.prompt), len(text.answer))
        if longest > LONGEST:
            raise RunError(f"The text has {longest:,} characters; at most {LONGEST:,} are taken.")
        told = {name: value for name, value in asdict(text).items() if name != "run_id"}
        return self._give({"do": kind, "run": str(folder.path), **told, **asked}, text)

    def _give(self, job: dict[str, Any], text: Text | None) -> str:
        with self._lock:
            if sum(not job.done for job in self._jobs.values()) >= WAITING:
                raise RunError("Too much is being asked at once: wait for an answer, then ask again.")
            self._forget_old()
            self._numbers += 1
            key = secrets.token_hex(8)
            self._jobs[key] = Job(self._numbers, job["do"], text, self._started())
            self._write({"id": self._numbers, **job})
            return key

    def _forget_old(self) -> None:
        done = [key for key, job in self._jobs.items() if job.done]
        for key in done[: max(0, len(self._jobs) - KEPT + 1)]:
            del self._jobs[key]

    def _started(self) -> subprocess.Popen[str]:
        """The process, a new one where there is none."""
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None and self._process.poll() is None:
            return self._process
        threads = str(max(1, (os.cpu_count() or 1) // 2))  # a training beside it has the others
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it might quote what was asked
            env=environment,
            encoding="utf-8",
        )
        threading.Thread(target=self._read, args=(self._process,), name="talks", daemon=True).start()
        return self._process

    def _write(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):  # its reader tells the end of it
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Fold what the process tells, to its end; its open jobs end with it."""
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # it was killed in the middle of a word
            news = json.loads(line)
            with self._lock:
                for job in self._jobs.values():
                    if job.number == news["id"]:
                        job.apply(news)
                if news.get("done"):
                    self._rest(process)
        process.wait()
        with self._lock:
            if self._process is process:
                self._process = None
            for job in self._jobs.values():
                if job.process is process and not job.done:
                    job.done, job.error = True, death_sentence(process.returncode)

    def _rest(self, process: subprocess.Popen[str]) -> None:
        if all(job.done for job in self._jobs.values()):
            self._timer = threading.Timer(self._idle, self._end_idle, (process,))
            self._timer.daemon = True
            self._timer.start()

    def _end_idle(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            if self._process is not process or not all(job.done for job in self._jobs.values()):
                return
            self._process = None
        _end(process)


def models_of(folder: RunFolder) -> list[str]:
    """What of a run can be asked: FINAL, then its checkpoints, the newest first."""
    saved = any((folder.model_path / name).is_file() for name in ("config.json", "adapter_config.json"))
    found = [p.name for p in folder.checkpoints_path.glob("checkpoint-*") if (p / "manifest.json").is_file()]
    steps = sorted((name for name in found if name.split("-")[-1].isdigit()), key=lambda n: -int(n.split("-")[-1]))
    return ([FINAL] if saved else []) + steps


def death_sentence(code: int | None) -> str:
    """Why the process is gone in the middle of a job, in words."""
    again = "Ask again: a new one is started."
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " Most often the system does that when memory runs out." if name == "SIGKILL" else ""
        return f"The process that asks the models was ended by the system ({name}).{hint} {again}"
    return f"The process that asks the models ended without a word. {again}"


def _end(process: subprocess.Popen[str]) -> None:
    """Close its input, which ends it; kill it when it does not listen."""
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
