"""The process that asks a run's models: python -m geko_app.workers.inference_worker. One line of JSON a job in, lines of news out.

Knows the engine, and no page. Nothing that it is asked is written anywhere but to the pipe. Jobs:

    {"id": 1, "do": "generate" | "losses" | "examples", "run": FOLDER, ...}    {"stop": 1}

News of job 1: {"id": 1, "part": PART, ...} changes what is known of a part of it, {"id": 1, "done": true, "error": ""}
is its last word. The end of the input, which comes with the end of the parent, ends the process at once.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, TextIO

from geko_engine.exceptions import DataError, GekoError, Stopped
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import finite

NICENESS = 10  # behind the training, which has 5
TELL_SECONDS = 0.08  # between two words of an answer
SIDES = ("base", "tuned")
Job = dict[str, Any]
Tell = Callable[..., None]


class Desk:
    """Takes jobs from `lines` in a thread and hands them out one by one; writes news."""

    def __init__(self, lines: TextIO, news: TextIO) -> None:
        self._lines, self._news = lines, news
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._stopped: set[int] = set()

    def open(self) -> Iterator[Job]:
        """Every job, for ever: the end of the input ends the process, wherever it is."""
        threading.Thread(target=self._read, name="desk", daemon=True).start()
        while True:
            yield self._jobs.get()

    def _read(self) -> None:
        for line in self._lines:
            message = json.loads(line)
            if "stop" in message:
                self._stopped.add(message["stop"])
            else:
                self._jobs.put(message)
        os._exit(0)

    def stopped(self, job: Job) -> bool:
        """Whether somebody does not want the rest of it any more."""
        return job["id"] in self._stopped

    def ended(self, job: Job, error: str) -> None:
        """The last word on a job."""
        self.tell(job, done=True, error=error)
        self._stopped.discard(job["id"])

    def tell(self, job: Job, **news: Any) -> None:
        """Say what is new."""
        self._news.write(json.dumps(finite({"id": job["id"], **news}), allow_nan=False) + "\n")
        self._news.flush()


class Answers:
    """Does the jobs. Keeps the models and the examples of the last run."""

    def __init__(self, desk: Desk) -> None:
        from geko_engine.inference.run_models import RunModels

        self._desk, self._models = desk, RunModels()
        self._known: dict[str, Any] = {}  # of the one run that was asked about last

    def do(self, job: Job) -> None:
        """One job to its end; tells its last word."""
        error = ""
        try:
            if self._desk.stopped(job):
                raise Stopped
            {"generate": self._talk, "losses": self._losses, "examples": self._examples}[job["do"]](job)
        except Stopped:
            pass
        except GekoError as problem:
            error = str(problem)
        except Exception as problem:  # noqa: BLE001 - the edge of the process: the next job may do well
            error = unexpected(problem)
        self._desk.ended(job, error)

    def _run(self, job: Job) -> dict[str, Any]:
        """What is known of the run of a job: asked, tokenizer, longest, format, note; made once."""
        from geko_engine.inference.examples import layout
        from geko_engine.inference.run_models import FINAL, Asked, open_run
        from geko_engine.models.loading import longest_input

        asked = Asked.of(RunFolder.open(job["run"]), job.get("which", FINAL))
        record = asked.folder.samples_path  # written anew when a run was resumed
        key = (job["run"], record.stat().st_mtime_ns if record.is_file() else 0)
        if self._known.get("key") != key:
            settings, tokenizer = open_run(asked, lambda: self._desk.stopped(job))
            format, note = layout(asked.config, tokenizer, lambda: self._desk.stopped(job))
            self._known = {
                "key": key,
                "tokenizer": tokenizer,
                "longest": longest_input(settings),
                "format": format,
                "note": note,
            }
        return {**self._known, "asked": asked}

    def _found(self, job: Job, run: dict[str, Any]) -> tuple[list[Any], list[str]]:
        """The examples of the run and what could not be had; looked for once."""
        from geko_engine.inference.examples import find_examples

        if "examples" not in run:
            asked = run["asked"]
            self._known["examples"] = find_examples(
                asked.folder, asked.config, run["tokenizer"], run["longest"], lambda: self._desk.stopped(job)
            )
        found: tuple[list[Any], list[str]] = self._known["examples"]
        return found

    def _examples(self, job: Job) -> None:
        run = self._run(job)
        found, notes = self._found(job, run)
        shown = [
            {name: value for name, value in asdict(example).items() if name not in ("before", "answer_piece")}
            for example in found
        ]
        self._desk.tell(job, part="examples", list=shown, notes=[note for note in (run["note"], *notes) if note])

    def _pieces(self, job: Job, run: dict[str, Any], answer: str) -> list[tuple[str, bool]]:
        """The text of a job as its run renders it; of an example, what its row says."""
        from geko_engine.inference.generation import pieces_of

        if job["pieces"]:
            return [(text, learnt) for text, learnt in job["pieces"]]
        if job["example"]:
            for example in self._found(job, run)[0]:
                if example.ref == job["example"] and example.prompt == job["prompt"]:
                    pieces: list[tuple[str, bool]] = example.pieces if answer else example.before
                    if not answer or example.answer == answer:
                        return pieces
                    return [*example.before, *pieces_of("", answer, run["format"], run["tokenizer"])[-1:]]
        return pieces_of(job["prompt"], answer, run["format"], run["tokenizer"])

    def _talk(self, job: Job) -> None:
        from geko_engine.inference.generation import prompt_ids

        run = self._run(job)
        pieces = self._pieces(job, run, "")
        ids = prompt_ids(pieces, run["format"], run["tokenizer"])
        read = "".join(text for text, _ in pieces)
        exact = run["format"].has_answers  # a plain text may go on in any way
        self._desk.tell(job, part="prompt", text=read, tokens=len(ids), exact=exact, note=run["note"])
        self._each_side(job, run, lambda side, model: self._answer(job, run, side, model, ids))

    def _answer(self, job: Job, run: dict[str, Any], side: str, model: Any, ids: list[int]) -> None:
        from geko_engine.inference.generation import Options, generate

        told = time.monotonic()

        def on_text(text: str, tokens: int) -> None:
            nonlocal told
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                self._desk.tell(job, part=side, text=text, tokens=tokens)

        self._desk.tell(job, part=side, state="writing")
        options = Options(**job["options"])
        answer = generate(model, run["tokenizer"], ids, options, on_text, lambda: self._desk.stopped(job))
        self._desk.tell(job, part=side, state="ended", **asdict(answer))

    def _losses(self, job: Job) -> None:
        from geko_engine.data.tokenization import encode
        from geko_engine.inference.generation import token_losses

        run = self._run(job)
        if not job["answer"].strip():
            raise DataError("There is no answer to look at: give the expected one.")
        ids, learnt = encode(self._pieces(job, run, job["answer"]), run["format"], run["tokenizer"])
        if job["pieces"]:  # a sample ends where it was cut in training
            longest = min(run["asked"].config.data.max_length, run["longest"])
            ids, learnt = ids[:longest], learnt[:longest]

        def score(side: str, model: Any) -> None:
            tokens = token_losses(model, run["tokenizer"], ids, learnt)
            self._desk.tell(job, part=side, state="ended", list=tokens)

        self._each_side(job, run, score)

    def _each_side(self, job: Job, run: dict[str, Any], work: Callable[[str, Any], None]) -> None:
        """The base first, then the tuned model; what one of them cannot do is told on its side alone."""
        for side in job["sides"]:
            if self._desk.stopped(job):
                raise Stopped
            self._desk.tell(job, part=side, state="loading")
            try:
                held = self._models.base if side == "base" else self._models.tuned
                with held(run["asked"], lambda: self._desk.stopped(job)) as model:
                    work(side, model)
            except GekoError as problem:
                self._desk.tell(job, part=side, state="failed", error=str(problem))


def unexpected(problem: Exception) -> str:
    """A sentence for what is not of our family; it names no text that was asked."""
    if type(problem).__name__ == "OutOfMemoryError" or isinstance(problem, MemoryError):
        return "The memory ran out: wait for the end of a running training, or ask for a shorter text."
    return f"The model could not be asked, for a reason that GEKO did not expect ({type(problem).__name__})."


def main() -> int:
    """Entry of the process."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the page's terminal ends the page, and with it the input
    # What libraries print must not stand between the news: they get another standard output.
    news = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    desk = Desk(sys.stdin, news)
    jobs = desk.open()
    answers: Answers | None = None
    for job in jobs:
        if answers is None:
            import torch
            from transformers.utils import logging

            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
            logging.disable_progress_bar()
            answers = Answers(desk)
        answers.do(job)
    return 0


if __name__ == "__main__":
    sys.exit(main())
