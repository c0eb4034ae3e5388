"""Questions to the models of runs: one child process for all tabs, started when it is needed. Knows no page and no torch.

A job is submitted, gets a key, and is polled by that key until it is done. Nothing of it is written to disk.
"""

from __future__ import annotations

import contextlib
import functools
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
from geko_app.workers.endings import Endings
from geko_app.workers.gpu_lanes import ChooseGpu, no_choice, only
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder

INFERENCE_COMMAND = (sys.executable, "-P", "-m", "geko_app.workers.inference_worker")  # -P: as in supervisor.py
SIDES = ("base", "tuned")
IDLE_SECONDS = 300.0  # without a job for so long, the process is ended to free its memory
STOP_SECONDS = 5.0
KILL_SECONDS = 5.0  # from SIGKILL on; a process that is not gone by then hangs in the system
STILL_ENDING = "The process of the last model is still being ended: try again in a moment."
MAX_PENDING = 16  # jobs that are not done; one more is refused
MAX_KEPT = 128  # as many answers of conversations are shown again after a reload
MAX_CHARACTERS = 20_000  # of a prompt, and of an answer
MAX_CONVERSATION = 100_000  # characters of all turns before a prompt
MAX_TURNS = 200
FINAL = "final"


@dataclass(frozen=True)
class InferenceRequest:
    """What to ask the models of a run.

    Attributes:
        run_id: the run.
        which: FINAL or the name of a checkpoint.
        prompt: the text to answer.
        answer: the expected answer, "" if there is none.
        example: reference of the example that prompt and answer are from, "" if they were typed.
        pieces: the whole text as the run rendered it, as (piece, is it a target) pairs; if given, prompt and answer
            are only used to check the length.
        system: a system prompt, "" for none; only where the run is asked through a chat template, as are the turns.
        turns: (role, text) of the conversation before the prompt, from the first one on.
        chat: whether to use the tokenizer's chat template although the run was trained without.
    """

    run_id: str
    which: str
    prompt: str
    answer: str = ""
    example: str = ""
    pieces: tuple[tuple[str, bool], ...] = ()
    system: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    chat: bool = False


@dataclass
class InferenceJob:
    """One submitted job: the state of its parts so far, and how it ended.

    Attributes:
        kind: "generate", "losses" or "examples".
        parts: state by part: one part for each side, and "prompt" or "examples".
    """

    number: int
    kind: str
    request: InferenceRequest | None
    process: subprocess.Popen[str]
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: bool = False
    error: str = ""

    def apply(self, update: dict[str, Any]) -> None:
        """Apply one line from the process."""
        if update.get("done"):
            self.done, self.error = True, update.get("error", "")
        elif "part" in update:
            values = {name: value for name, value in update.items() if name not in ("id", "part")}
            self.parts.setdefault(update["part"], {}).update(values)


class InferenceJobs:
    """Starts the inference process, submits jobs to it, and keeps their results.

    Args:
        store: the runs.
        command: starts the process.
        idle_seconds: after so long without a job the process is ended.
        choose_gpu: which GPU the process gets.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        command: Sequence[str] = INFERENCE_COMMAND,
        idle_seconds: float = IDLE_SECONDS,
        choose_gpu: ChooseGpu = no_choice,
    ) -> None:
        self.store, self._command, self._idle_seconds = store, tuple(command), idle_seconds
        self._choose_gpu = choose_gpu
        self._gpu: int | None = None  # of the process
        self._jobs: dict[str, InferenceJob] = {}
        self._last_number = 0
        self._process: subprocess.Popen[str] | None = None
        self._idle_timer: threading.Timer | None = None
        self._endings = Endings()
        self._lock = threading.RLock()
        self._submitting = threading.Lock()  # taken before the other one; who only reads answers does not wait for it

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def generate(self, request: InferenceRequest, options: Mapping[str, Any], sides: Sequence[str] = SIDES) -> str:
        """Let the models of a run answer a prompt.

        Args:
            request: what to ask.
            options: fields of geko_engine.inference.generation.Options.
            sides: which models.

        Returns:
            The key of the job.

        Raises:
            RunError: there is no such run or model, the text is too long, or too many jobs are pending.
        """
        return self._submit_request("generate", request, options=dict(options), sides=_known(sides))

    def token_losses(self, request: InferenceRequest, sides: Sequence[str] = SIDES) -> str:
        """Compute the loss of every token of a prompt and its answer.

        Args:
            request: the text.
            sides: which models; each gets a part with `list`, [text, loss in nats] pairs; the loss of a token that is
                no target is None.

        Returns:
            The key of the job.

        Raises:
            RunError: as for `generate`.
        """
        return self._submit_request("losses", request, sides=_known(sides))

    def examples(self, run_id: str) -> str:
        """Find rows of a run's data to try.

        Returns:
            The key of the job.

        Raises:
            RunError: there is no such run, or too many jobs are pending.
        """
        return self._submit({"do": "examples", "run": str(self.store.folder(run_id).path)}, None)

    def job(self, key: str) -> InferenceJob | None:
        """A copy of a job as it is now; None for an unknown key."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                return None
            parts = {name: dict(part) for name, part in job.parts.items()}
            return replace(job, parts=parts)

    def cancel(self, key: str) -> None:
        """Stop a job early; does nothing if it is done or unknown."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and not job.done:
                self._send({"stop": job.number})

    def shutdown(self) -> None:
        """End the process."""
        with self._lock:
            process, self._process = self._process, None
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            if process is not None:
                self._endings.begin(functools.partial(_end, process), self._gpu)
        self._endings.wait()

    def _submit_request(self, kind: str, request: InferenceRequest, **more: Any) -> str:
        folder = self.store.folder(request.run_id)
        if request.which not in models_of(folder):
            raise RunError(f"The run {request.run_id} has no model {request.which!r}: choose another one.")
        longest = max(len(request.prompt), len(request.answer), len(request.system))
        if longest > MAX_CHARACTERS:
            raise RunError(f"The text has {longest:,} characters; the limit is {MAX_CHARACTERS:,}. Shorten it.")
        spoken = sum(len(text) for _, text in request.turns)
        if spoken > MAX_CONVERSATION or len(request.turns) > MAX_TURNS:
            limits = f"{MAX_TURNS} turns and {MAX_CONVERSATION:,} characters"
            raise RunError(f"The conversation is longer than {limits}: begin a new one.")
        values = {name: value for name, value in asdict(request).items() if name != "run_id"}
        return self._submit({"do": kind, "run": str(folder.path), **values, **more}, request)

    def _submit(self, message: dict[str, Any], request: InferenceRequest | None) -> str:
        with self._submitting:
            while True:
                with self._lock:
                    if sum(not job.done for job in self._jobs.values()) >= MAX_PENDING:
                        raise RunError("Too many questions are pending: wait for an answer, then try again.")
                    running = self._process_in_place()
                    gpu = self._gpu
                    if running is not None or not self._endings.holds(gpu):
                        return self._add(message, request, running or self._start())
                # Two processes at once may not fit into its memory.
                if not self._endings.wait_for(gpu, STOP_SECONDS + KILL_SECONDS):
                    raise RunError(STILL_ENDING)

    def _add(self, message: dict[str, Any], request: InferenceRequest | None, process: subprocess.Popen[str]) -> str:
        self._forget_old()
        self._last_number += 1
        key = secrets.token_hex(8)
        self._jobs[key] = InferenceJob(self._last_number, message["do"], request, process)
        self._send({"id": self._last_number, **message})
        return key

    def _forget_old(self) -> None:
        done = [key for key, job in self._jobs.items() if job.done]
        for key in done[: max(0, len(self._jobs) - MAX_KEPT + 1)]:
            del self._jobs[key]

    def _process_in_place(self) -> subprocess.Popen[str] | None:
        """The process, or None where one must be started: there is none, or a run has begun on its GPU and another is free."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        running = self._process if self._process is not None and self._process.poll() is None else None
        gpu = self._choose_gpu(self._gpu if running else None)
        if running is not None:
            if gpu == self._gpu or not all(job.done for job in self._jobs.values()):
                return running
            self._process = None
            self._endings.begin(functools.partial(_end, running), self._gpu)
        self._gpu = gpu
        return None

    def _start(self) -> subprocess.Popen[str]:
        threads = str(max(1, (os.cpu_count() or 1) // 2))  # the other cores are for a training at the same time
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            "TOKENIZERS_PARALLELISM": "false",
            **only([] if self._gpu is None else [self._gpu]),
        }
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a traceback could quote the prompt
            env=environment,
            encoding="utf-8",
        )
        threading.Thread(target=self._read, args=(self._process,), name="inference-jobs", daemon=True).start()
        return self._process

    def _send(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):  # the reading thread reports its end
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Apply what the process writes until it ends; its open jobs end with it."""
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # it was killed while writing a line
            update = json.loads(line)
            with self._lock:
                for job in self._jobs.values():
                    if job.number == update["id"]:
                        job.apply(update)
                if update.get("done"):
                    self._start_idle_timer(process)
        process.wait()
        with self._lock:
            if self._process is process:
                self._process = None
            for job in self._jobs.values():
                if job.process is process and not job.done:
                    job.done, job.error = True, death_sentence(process.returncode)

    def _start_idle_timer(self, process: subprocess.Popen[str]) -> None:
        if all(job.done for job in self._jobs.values()):
            self._idle_timer = threading.Timer(self._idle_seconds, self._end_idle, (process,))
            self._idle_timer.daemon = True
            self._idle_timer.start()

    def _end_idle(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            if self._process is not process or not all(job.done for job in self._jobs.values()):
                return
            self._process = None
            self._endings.begin(functools.partial(_end, process), self._gpu)


def _known(sides: Sequence[str]) -> list[str]:
    return [side for side in SIDES if side in sides]


def models_of(folder: RunFolder) -> list[str]:
    """The models of a run that can be asked: FINAL, then its checkpoints, newest first."""
    saved = any((folder.model_path / name).is_file() for name in ("config.json", "adapter_config.json"))
    found = [p.name for p in folder.checkpoints_path.glob("checkpoint-*") if (p / "manifest.json").is_file()]
    steps = sorted((name for name in found if name.split("-")[-1].isdigit()), key=lambda n: -int(n.split("-")[-1]))
    return ([FINAL] if saved else []) + steps


def death_sentence(code: int | None) -> str:
    """One sentence for the user: why the process ended in the middle of a job."""
    again = "Try again: a new one will be started."
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " This usually means that memory ran out." if name == "SIGKILL" else ""
        return f"The inference process was ended by the system ({name}).{hint} {again}"
    return f"The inference process ended unexpectedly. {again}"


def _end(process: subprocess.Popen[str]) -> None:
    """Close its input, which ends it; kill it if it does not react."""
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
