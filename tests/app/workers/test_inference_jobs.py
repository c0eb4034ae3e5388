"""Jobs for the inference process: keys, stop, death, idling, bounds. The process is real and has no model."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from geko_app.runs.store import RunStore
from geko_app.workers import inference_jobs
from geko_app.workers.endings import Endings
from geko_app.workers.inference_jobs import (
    FINAL,
    MAX_CHARACTERS,
    MAX_CONVERSATION,
    MAX_PENDING,
    InferenceJob,
    InferenceJobs,
    InferenceRequest,
    models_of,
)
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
def jobs(store: RunStore) -> Iterator[InferenceJobs]:
    made = InferenceJobs(store, command=FAKE)
    yield made
    made.shutdown()


def done(jobs: InferenceJobs, key: str) -> InferenceJob:
    wait_for(lambda: (job := jobs.job(key)) is not None and job.done, "the end of a job")
    job = jobs.job(key)
    assert job is not None
    return job


def ask(jobs: InferenceJobs, run_id: str, prompt: str) -> str:
    return jobs.generate(InferenceRequest(run_id, FINAL, prompt), {})


def test_one_process_answers_all_jobs_and_starts_with_the_first(jobs: InferenceJobs, run_id: str) -> None:
    assert jobs.pid is None
    first, second = (done(jobs, ask(jobs, run_id, prompt)) for prompt in ("one", "two"))
    assert (first.parts["base"]["text"], second.parts["base"]["text"]) == ("one", "two")
    assert first.parts["base"]["pid"] == second.parts["base"]["pid"] == jobs.pid
    assert first.error == "" and jobs.job("unknown") is None


def test_the_models_of_a_run_are_named_the_newest_first(store: RunStore, run_id: str) -> None:
    assert models_of(store.folder(run_id)) == [FINAL, "checkpoint-100", "checkpoint-20"]


def test_a_stop_ends_the_job_and_leaves_the_process(jobs: InferenceJobs, run_id: str) -> None:
    key = ask(jobs, run_id, "wait")
    wait_for(lambda: bool((job := jobs.job(key)) and job.parts), "the first words")
    jobs.cancel("unknown")
    jobs.cancel(key)
    assert done(jobs, key).error == ""
    jobs.cancel(key)  # nothing is left to stop
    assert done(jobs, ask(jobs, run_id, "after")).parts["base"]["pid"] == jobs.pid


@pytest.mark.parametrize(
    ("prompt", "kill", "words"),
    [("wait", True, "SIGKILL"), ("half", False, "SIGKILL"), ("die", False, "ended unexpectedly")],
)
def test_a_dead_process_gives_a_sentence_and_the_next_job_a_new_one(
    jobs: InferenceJobs, run_id: str, prompt: str, kill: bool, words: str
) -> None:
    before = done(jobs, ask(jobs, run_id, "hello")).parts["base"]["pid"]
    key = ask(jobs, run_id, prompt)
    if kill:
        wait_for(lambda: bool((job := jobs.job(key)) and job.parts), "the first words")
        os.kill(before, signal.SIGKILL)
    job = done(jobs, key)
    assert words in job.error and "Try again" in job.error
    assert done(jobs, ask(jobs, run_id, "again")).parts["base"]["pid"] != before


def test_a_process_without_work_is_ended_and_the_next_job_starts_another(store: RunStore, run_id: str) -> None:
    jobs = InferenceJobs(store, command=FAKE, idle_seconds=0.05)
    first = done(jobs, ask(jobs, run_id, "one")).parts["base"]["pid"]
    wait_for(lambda: jobs.pid is None and not psutil.pid_exists(first), "the end of an idle process")
    waiting = ask(jobs, run_id, "wait")  # no idling while a job is open
    assert done(jobs, ask(jobs, run_id, "two")).parts["base"]["pid"] == jobs.pid
    jobs.cancel(waiting)
    assert done(jobs, waiting).error == ""
    jobs.shutdown()


def test_shutdown_ends_a_process_that_does_not_react(store: RunStore, run_id: str) -> None:
    jobs = InferenceJobs(store, command=FAKE)
    key = ask(jobs, run_id, "ignore")
    wait_for(lambda: bool((job := jobs.job(key)) and job.parts), "the first words")
    pid = jobs.pid
    jobs.shutdown()
    assert pid is not None and not psutil.pid_exists(pid)


def test_nobody_waits_for_a_process_that_another_one_takes_the_place_of(
    store: RunStore, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_jobs, "STOP_SECONDS", 60.0)  # so long it may still be there
    gpus = iter([0, 1, 1])
    jobs = InferenceJobs(store, command=FAKE, choose_gpu=lambda _now: next(gpus))
    stays = ask(jobs, run_id, "stay")
    old = jobs.pid
    done(jobs, stays)
    assert done(jobs, ask(jobs, run_id, "elsewhere")).parts["base"]["pid"] == jobs.pid != old
    assert old is not None and psutil.pid_exists(old)
    os.kill(old, signal.SIGKILL)
    jobs.shutdown()
    assert not psutil.pid_exists(old)


def test_a_process_waits_for_an_earlier_one_on_its_gpu_and_nobody_else_does(
    store: RunStore, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_jobs, "STOP_SECONDS", 60.0)
    place = 0
    jobs = InferenceJobs(store, command=FAKE, choose_gpu=lambda _now: place)
    stays = ask(jobs, run_id, "stay")
    first = jobs.pid
    assert done(jobs, stays) and first is not None
    place = 1
    second = done(jobs, ask(jobs, run_id, "elsewhere"))
    place = 0
    answered, waits, wait_for_gpu = list[str](), threading.Event(), Endings.wait_for
    monkeypatch.setattr(Endings, "wait_for", lambda self, *of: waits.set() or wait_for_gpu(self, *of))
    third = threading.Thread(target=lambda: answered.append(ask(jobs, run_id, "back")))
    third.start()
    assert waits.wait(60) and psutil.pid_exists(first) and jobs.pid is None
    assert jobs.job(stays) == done(jobs, stays)  # others are answered meanwhile
    os.kill(first, signal.SIGKILL)
    third.join()
    assert done(jobs, answered[0]).parts["base"]["pid"] == jobs.pid not in (first, second.parts["base"]["pid"])
    assert not psutil.pid_exists(first)
    jobs.shutdown()


def test_a_shutdown_waits_for_a_process_that_is_being_ended(
    store: RunStore, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_jobs, "STOP_SECONDS", 0.2)
    gpus = iter([0, 1])
    jobs = InferenceJobs(store, command=FAKE, choose_gpu=lambda _now: next(gpus))
    done(jobs, ask(jobs, run_id, "stay"))
    old = jobs.pid
    done(jobs, ask(jobs, run_id, "elsewhere"))
    jobs.shutdown()
    assert old is not None and not psutil.pid_exists(old)


def refuse(jobs: InferenceJobs, text: InferenceRequest) -> str:
    with pytest.raises(RunError) as caught:
        jobs.generate(text, {})
    return str(caught.value)


def test_a_conversation_is_bounded(jobs: InferenceJobs, run_id: str) -> None:
    request = InferenceRequest(run_id, FINAL, "hi", turns=(("user", "x" * (MAX_CONVERSATION + 1)),))
    assert "begin a new one" in refuse(jobs, request)
    assert "begin a new one" in refuse(jobs, InferenceRequest(run_id, FINAL, "hi", turns=(("user", "a"),) * 201))
    assert "20,001 characters" in refuse(jobs, InferenceRequest(run_id, FINAL, "hi", system="x" * 20_001))


def test_only_models_of_runs_here_are_asked_and_texts_are_bounded(
    jobs: InferenceJobs, run_id: str, store: RunStore
) -> None:
    for name in ("../elsewhere", "/etc", "nowhere", ""):
        assert "run" in refuse(jobs, InferenceRequest(name, FINAL, "hi"))
    for which in ("checkpoint-21", "../model", ".checkpoint-120.writing", ""):
        assert "has no model" in refuse(jobs, InferenceRequest(run_id, which, "hi"))
    assert f"{MAX_CHARACTERS + 1:,} characters" in refuse(
        jobs, InferenceRequest(run_id, FINAL, "x" * (MAX_CHARACTERS + 1))
    )
    assert f"{MAX_CHARACTERS + 1:,} characters" in refuse(
        jobs, InferenceRequest(run_id, FINAL, "", "x" * (MAX_CHARACTERS + 1))
    )
    assert jobs.pid is None  # nothing was started for any of them
    for _ in range(MAX_PENDING):
        ask(jobs, run_id, "wait")
    assert "Too many" in refuse(jobs, InferenceRequest(run_id, FINAL, "hi"))


def test_nothing_of_a_prompt_is_written_to_the_disk(jobs: InferenceJobs, run_id: str, store: RunStore) -> None:
    done(jobs, ask(jobs, run_id, "a secret of mine"))
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert files and not any(b"secret" in path.read_bytes() for path in files)
