"""The inference process: python -m geko_app.workers.inference_worker. Reads one line of JSON a job, writes lines of updates.

Knows the engine and no page. Prompts are written nowhere but to the pipe. Input:

    {"id": 1, "do": "generate" | "losses" | "examples", "run": FOLDER, ...}    {"stop": 1}

Output: {"id": 1, "part": PART, ...} changes the state of a part of job 1; {"id": 1, "done": true, "error": ""} ends it.
The process ends as soon as its input ends, so also when its parent dies.
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

from geko_engine.exceptions import DataError, GekoError, Stopped, is_out_of_memory
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import finite

NICENESS = 10  # below the training worker's 5
UPDATE_SECONDS = 0.08  # between two updates of an answer that is being generated
Message = dict[str, Any]  # of one job, as it was read
HELD_BACK = ("before", "answer_piece", "turns", "tools")  # of an example: the page does not need them


class JobInbox:
    """Reads jobs in a thread, hands them out one by one, and writes their updates.

    Args:
        lines: the input.
        updates: the output.
    """

    def __init__(self, lines: TextIO, updates: TextIO) -> None:
        self._lines, self._updates = lines, updates
        self._jobs: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._cancelled: set[int] = set()

    def jobs(self) -> Iterator[Message]:
        """All jobs, forever: the end of the input ends the process, whatever it is doing."""
        threading.Thread(target=self._read, name="job-inbox", daemon=True).start()
        while True:
            yield self._jobs.get()

    def _read(self) -> None:
        for line in self._lines:
            message = json.loads(line)
            if "stop" in message:
                self._cancelled.add(message["stop"])
            else:
                self._jobs.put(message)
        os._exit(0)

    def is_cancelled(self, job: Message) -> bool:
        """Whether the rest of a job is no longer wanted."""
        return job["id"] in self._cancelled

    def finish(self, job: Message, error: str) -> None:
        """Write the end of a job."""
        self.send(job, done=True, error=error)
        self._cancelled.discard(job["id"])

    def send(self, job: Message, **update: Any) -> None:
        """Write an update of a job."""
        self._updates.write(json.dumps(finite({"id": job["id"], **update}), allow_nan=False) + "\n")
        self._updates.flush()


class InferenceWorker:
    """Does the jobs, and keeps the models and examples of the last run in memory.

    Args:
        inbox: receives the updates.
    """

    def __init__(self, inbox: JobInbox) -> None:
        from geko_engine.inference.run_models import RunModels

        self._inbox, self._models = inbox, RunModels()
        self._run: dict[str, Any] = {}  # of the last job

    def do(self, job: Message) -> None:
        """Do one job to its end."""
        error = ""
        try:
            if self._inbox.is_cancelled(job):
                raise Stopped
            {"generate": self._generate, "losses": self._losses, "examples": self._examples}[job["do"]](job)
        except Stopped:
            pass
        except GekoError as problem:
            error = str(problem)
        except Exception as problem:  # noqa: BLE001 - the edge of the process: the next job may succeed
            error = unexpected_error(problem)
        self._inbox.finish(job, error)

    def _open_run(self, job: Message) -> dict[str, Any]:
        """The run of a job: asked, tokenizer, longest, format, note; read again only for another run."""
        from geko_engine.inference.examples import dataset_format
        from geko_engine.inference.run_models import FINAL, ModelChoice, load_run_config_and_tokenizer
        from geko_engine.models.loading import longest_input

        asked = ModelChoice.of(RunFolder.open(job["run"]), job.get("which", FINAL))
        record = asked.folder.samples_path  # rewritten when a run is resumed
        key = (job["run"], record.stat().st_mtime_ns if record.is_file() else 0)
        if self._run.get("key") != key:
            settings, tokenizer = load_run_config_and_tokenizer(asked, lambda: self._inbox.is_cancelled(job))
            format, note = dataset_format(asked.config, tokenizer, lambda: self._inbox.is_cancelled(job))
            self._run = {
                "key": key,
                "tokenizer": tokenizer,
                "longest": longest_input(settings),
                "format": format,
                "note": note,
            }
        return {**self._run, "asked": asked}

    def _find_examples(self, job: Message, run: dict[str, Any]) -> tuple[list[Any], list[str]]:
        """The examples of a run, and sentences on what could not be found; searched for once."""
        from geko_engine.inference.examples import find_examples

        if "examples" not in run:
            asked = run["asked"]
            self._run["examples"] = find_examples(
                asked.folder, asked.config, run["tokenizer"], run["longest"], lambda: self._inbox.is_cancelled(job)
            )
        found: tuple[list[Any], list[str]] = self._run["examples"]
        return found

    def _examples(self, job: Message) -> None:
        run = self._open_run(job)
        found, notes = self._find_examples(job, run)
        shown = [{name: value for name, value in asdict(example).items() if name not in HELD_BACK} for example in found]
        self._inbox.send(
            job,
            part="examples",
            list=shown,
            notes=[note for note in (run["note"], *notes) if note],
            chat=run["format"].uses_chat_template,
            template=bool(getattr(run["tokenizer"], "chat_template", None)),
        )

    def _example(self, job: Message, run: dict[str, Any]) -> Any:
        """The example that a conversation began with, rendered from its row; None for a prompt that was typed."""
        if not job["example"]:
            return None
        first = job["turns"][0][1] if job["turns"] else job["prompt"]
        found = self._find_examples(job, run)[0]
        return next((one for one in found if one.ref == job["example"] and one.prompt == first), None)

    def _pieces(self, job: Message, run: dict[str, Any], answer: str) -> list[tuple[str, bool]]:
        """Prompt and answer of a job as the run renders them: (text, is it a target) pairs."""
        from geko_engine.inference.generation import conversation_pieces, pieces_of

        if job["pieces"]:
            return [(text, learnt) for text, learnt in job["pieces"]]
        example, tokenizer = self._example(job, run), run["tokenizer"]
        if example and run["as_trained"] and not job["system"] and not job["turns"]:  # its row may have more columns
            pieces: list[tuple[str, bool]] = example.pieces if answer else example.before
            if not answer or example.answer == answer:
                return pieces
            return [*example.before, *pieces_of("", answer, run["format"], tokenizer)[-1:]]
        if run["chat"]:
            turns = conversation(job, example.turns if example else [])
            return conversation_pieces(turns, answer, tokenizer, example.tools if example else None)
        return pieces_of(job["prompt"], answer, run["format"], tokenizer)

    def _open_conversation(self, job: Message) -> dict[str, Any]:
        """The run of a job; `chat`: whether it is asked through the chat template, always where it was trained so.

        `as_trained`: whether it is asked as it was trained.
        """
        from geko_engine.data.formats import Conversation

        run = self._open_run(job)
        chat = run["format"].uses_chat_template
        if job["chat"] and not chat:
            return {**run, "format": Conversation("messages"), "chat": True, "as_trained": False}
        return {**run, "chat": chat, "as_trained": True}

    def _generate(self, job: Message) -> None:
        from geko_engine.inference.generation import prompt_ids

        run = self._open_conversation(job)
        pieces = self._pieces(job, run, "")
        ids = prompt_ids(pieces, run["format"], run["tokenizer"])
        prompt = "".join(text for text, _ in pieces)
        exact = run["format"].has_answers  # a plain text can continue in any way
        self._inbox.send(
            job, part="prompt", text=prompt, tokens=len(ids), exact=exact, note=run["note"], chat=run["chat"]
        )
        self._for_each_side(job, run, lambda side, model: self._answer(job, run, side, model, ids))

    def _answer(self, job: Message, run: dict[str, Any], side: str, model: Any, ids: list[int]) -> None:
        from geko_engine.inference.generation import Options, generate

        last_update = time.monotonic()

        def on_text(text: str, tokens: int) -> None:
            nonlocal last_update
            if time.monotonic() - last_update >= UPDATE_SECONDS:
                last_update = time.monotonic()
                self._inbox.send(job, part=side, text=text, tokens=tokens)

        self._inbox.send(job, part=side, state="writing")
        options = Options(**job["options"])
        answer = generate(model, run["tokenizer"], ids, options, on_text, lambda: self._inbox.is_cancelled(job))
        self._inbox.send(job, part=side, state="ended", **asdict(answer))

    def _losses(self, job: Message) -> None:
        from geko_engine.data.tokenization import encode
        from geko_engine.inference.generation import token_losses

        run = self._open_conversation(job)
        if not job["answer"].strip():
            raise DataError("Token losses need an answer: give the expected one.")
        ids, learnt = encode(self._pieces(job, run, job["answer"]), run["format"], run["tokenizer"])
        if job["pieces"]:  # truncated as in training
            longest = min(run["asked"].config.data.max_length, run["longest"])
            ids, learnt = ids[:longest], learnt[:longest]

        def score(side: str, model: Any) -> None:
            tokens = token_losses(model, run["tokenizer"], ids, learnt)
            self._inbox.send(job, part=side, state="ended", list=tokens)

        self._for_each_side(job, run, score)

    def _for_each_side(self, job: Message, run: dict[str, Any], work: Callable[[str, Any], None]) -> None:
        """Do the work with the base model first, then with the tuned one; an error of one side leaves the other alone."""
        for side in job["sides"]:
            if self._inbox.is_cancelled(job):
                raise Stopped
            self._inbox.send(job, part=side, state="loading")
            try:
                held = self._models.base if side == "base" else self._models.tuned
                with held(run["asked"], lambda: self._inbox.is_cancelled(job)) as model:
                    work(side, model)
            except GekoError as problem:
                self._inbox.send(job, part=side, state="failed", error=str(problem))


def conversation(job: Message, example: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns of a job up to its prompt.

    Args:
        job: its `turns` are (role, text) pairs before the prompt, and its `system` prompt replaces that of an example.
        example: the turns of the example that the conversation began with, up to its question; [] for none.
    """
    earlier = [{"role": role, "content": text} for role, text in job["turns"]]
    asked = {"role": "user", "content": job["prompt"]}
    begun = list(example) if example else earlier[:1]  # ends with the first question
    turns = [*begun, *earlier[1:], asked] if earlier else begun or [asked]
    if job["system"]:
        turns = [turn for turn in turns if turn["role"] != "system"]
        turns.insert(0, {"role": "system", "content": job["system"]})
    return turns


def unexpected_error(problem: Exception) -> str:
    """One sentence for the user about an exception that is not ours; it quotes no text of the job."""
    if is_out_of_memory(problem):
        return "Memory ran out: wait until the active training has ended, or use a shorter text."
    return f"The model could not be run because of an unexpected error ({type(problem).__name__})."


def main() -> int:
    """Entry point of the process."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the page's terminal ends the page, which closes the input
    # Whatever libraries print must not get between the updates: they get another standard output.
    updates = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    inbox = JobInbox(sys.stdin, updates)
    worker: InferenceWorker | None = None
    for job in inbox.jobs():
        if worker is None:  # torch is imported with the first job
            import torch
            from transformers.utils import logging

            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
            logging.disable_progress_bar()
            worker = InferenceWorker(inbox)
        worker.do(job)
    return 0


if __name__ == "__main__":
    sys.exit(main())
