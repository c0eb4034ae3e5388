"""The talk with a child process: keys, stop, death, idling, bounds. The child is real and has no model."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from geko_app.runs.store import RunStore
from geko_app.workers.inference_jobs import FINAL, LONGEST, WAITING, Job, Talks, Text, models_of
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from tests.app.workers.test_supervisor import wait_for

FAKE = (sys.executable, str(Path(__file__).parent / "fake_inference_worker.py"))


@pytest.fixture
def run_id(store: RunStore, config: RunConfig) -> str:
    """A run that has a model and two checkpoints by name, and one that is being written."""
    folder = store.create(config)
    for name in (
        "model",
        "checkpoints/checkpoint-20",
        "checkpoints/checkpoint-100",
        "checkpoints/.checkpoint-120.writing",
    ):
        (folder.path / name).mkdir(parents=True)
        (folder.path / name / ("config.json" if name == "model" else "manifest.json")).write_text("{}")
    return folder.id


@pytest.fixture
def talks(store: RunStore) -> Iterator[Talks]:
    made = Talks(store, command=FAKE)
    yield made
    made.shutdown()


def done(talks: Talks, key: str) -> Job:
    wait_for(lambda: (job := talks.job(key)) is not None and job.done, "the end of a job")
    job = talks.job(key)
    assert job is not None
    return job


def ask(talks: Talks, run_id: str, prompt: str) -> str:
    return talks.talk(Text(run_id, FINAL, prompt), {})


def test_one_process_answers_all_jobs_and_starts_with_the_first(talks: Talks, run_id: str) -> None:
    assert talks.pid is None
    first, second = (done(talks, ask(talks, run_id, prompt)) for prompt in ("one", "two"))
    assert (first.parts["base"]["text"], second.parts["base"]["text"]) == ("one", "two")
    assert first.parts["base"]["pid"] == second.parts["base"]["pid"] == talks.pid
    assert first.error == "" and talks.job("unknown") is None


def test_the_models_of_a_run_are_named_the_newest_first(store: RunStore, run_id: str) -> None:
    assert models_of(store.folder(run_id)) == [FINAL, "checkpoint-100", "checkpoint-20"]


def test_a_stop_ends_the_job_and_leaves_the_process(talks: Talks, run_id: str) -> None:
    key = ask(talks, run_id, "wait")
    wait_for(lambda: bool((job := talks.job(key)) and job.parts), "the first words")
    talks.stop("unknown")
    talks.stop(key)
    assert done(talks, key).error == ""
    talks.stop(key)  # nothing is left to stop
    assert done(talks, ask(talks, run_id, "after")).parts["base"]["pid"] == talks.pid


@pytest.mark.parametrize(
    ("prompt", "kill", "words"),
    [("wait", True, "SIGKILL"), ("half", False, "SIGKILL"), ("die", False, "without a word")],
)
def test_a_dead_process_gives_a_sentence_and_the_next_job_a_new_one(
    talks: Talks, run_id: str, prompt: str, kill: bool, words: str
) -> None:
    before = done(talks, ask(talks, run_id, "hello")).parts["base"]["pid"]
    key = ask(talks, run_id, prompt)
    if kill:
        wait_for(lambda: bool((job := talks.job(key)) and job.parts), "the first words")
        os.kill(before, signal.SIGKILL)
    job = done(talks, key)
    assert words in job.error and "Ask again" in job.error
    assert done(talks, ask(talks, run_id, "again")).parts["base"]["pid"] != before


def test_a_process_without_work_is_ended_and_the_next_job_starts_another(store: RunStore, run_id: str) -> None:
    talks = Talks(store, command=FAKE, idle_seconds=0.05)
    first = done(talks, ask(talks, run_id, "one")).parts["base"]["pid"]
    wait_for(lambda: talks.pid is None and not psutil.pid_exists(first), "the end of an idle process")
    waiting = ask(talks, run_id, "wait")  # no idling while a job is open
    assert done(talks, ask(talks, run_id, "two")).parts["base"]["pid"] == talks.pid
    talks.stop(waiting)
    assert done(talks, waiting).error == ""
    talks.shutdown()


def test_shutdown_ends_a_process_that_does_not_listen(store: RunStore, run_id: str) -> None:
    talks = Talks(store, command=FAKE)
    key = ask(talks, run_id, "deaf")
    wait_for(lambda: bool((job := talks.job(key)) and job.parts), "the first words")
    pid = talks.pid
    talks.shutdown()
    assert pid is not None and not psutil.pid_exists(pid)


def refuse(talks: Talks, text: Text) -> str:
    with pytest.raises(RunError) as caught:
        talks.talk(text, {})
    return str(caught.value)


def test_only_models_of_runs_here_are_asked_and_texts_are_bounded(talks: Talks, run_id: str, store: RunStore) -> None:
    for name in ("../elsewhere", "/etc", "nowhere", ""):
        assert "run" in refuse(talks, Text(name, FINAL, "hi"))
    for which in ("checkpoint-21", "../model", ".checkpoint-120.writing", ""):
        assert "has no model" in refuse(talks, Text(run_id, which, "hi"))
    assert f"{LONGEST + 1:,} characters" in refuse(talks, Text(run_id, FINAL, "x" * (LONGEST + 1)))
    assert f"{LONGEST + 1:,} characters" in refuse(talks, Text(run_id, FINAL, "", "x" * (LONGEST + 1)))
    assert talks.pid is None  # nothing was started for any of them
    for _ in range(WAITING):
        ask(talks, run_id, "wait")
    assert "Too much" in refuse(talks, Text(run_id, FINAL, "hi"))


def test_nothing_of_a_prompt_is_written_to_the_disk(talks: Talks, run_id: str, store: RunStore) -> None:
    done(talks, ask(talks, run_id, "a secret of mine"))
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert files and not any(b"secret" in path.read_bytes() for path in files)
