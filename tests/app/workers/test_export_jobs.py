"""Exports as background jobs: one at a time, their progress, stop and death. The process is real and has no model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from geko_app.runs.store import RunStore
from geko_app.views.exports import commands, export_card
from geko_app.workers.export_jobs import STOPPED, TARGETS, ExportJob, ExportJobs, ExportOptions
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.export.request import TARGETS as KNOWN
from tests.app.workers.test_supervisor import wait_for

FAKE = (sys.executable, str(Path(__file__).parent / "fake_export_worker.py"))


@pytest.fixture
def run_id(store: RunStore, config: RunConfig) -> str:
    folder = store.create(config)
    folder.model_path.mkdir()
    (folder.model_path / "adapter_config.json").write_text("{}")
    return folder.id


@pytest.fixture
def jobs(store: RunStore) -> Iterator[ExportJobs]:
    made = ExportJobs(store, command=FAKE)
    yield made
    made.shutdown()


def ended(jobs: ExportJobs, run_id: str) -> ExportJob:
    wait_for(lambda: (job := jobs.job(run_id)) is not None and not job.running, "the end of an export")
    job = jobs.job(run_id)
    assert job is not None
    return job


def test_an_export_gets_its_options_and_its_result_stays(jobs: ExportJobs, store: RunStore, run_id: str) -> None:
    assert jobs.job(run_id) is None
    jobs.start(run_id, "hub", ExportOptions("ada/x", merged=True, private=False, token="hf_token"))
    job = ended(jobs, run_id)
    assert (job.to, job.place, job.error) == ("hub", "there", "")
    assert json.loads(job.sentences[0]) == {
        "run": str(store.folder(run_id).path), "to": "hub", "repo": "ada/x", "merged": True, "private": False,
        "token": "hf_token",
    }  # fmt: skip


def test_one_export_at_a_time_which_can_be_stopped(jobs: ExportJobs, run_id: str) -> None:
    jobs.start(run_id, "merged", ExportOptions("wait"))
    wait_for(lambda: (job := jobs.job(run_id)) is not None and job.text == "Exporting to merged", "its first words")
    with pytest.raises(RunError, match=f"The run {run_id} is being exported: wait until that has ended, or stop it"):
        jobs.start(run_id, "gguf", ExportOptions())
    jobs.stop(run_id)
    assert ended(jobs, run_id).error == STOPPED
    jobs.stop(run_id)  # nothing is running
    jobs.start(run_id, "gguf", ExportOptions())
    assert ended(jobs, run_id).place == "there"


def test_what_goes_wrong_is_a_sentence(jobs: ExportJobs, run_id: str) -> None:
    jobs.start(run_id, "gguf", ExportOptions("refuse"))
    assert ended(jobs, run_id).error == "It cannot be exported."
    jobs.start(run_id, "gguf", ExportOptions("die"))
    assert ended(jobs, run_id).error.startswith("The export process ended unexpectedly.")
    with pytest.raises(RunError, match="'zip' is not a kind of export: choose one of merged, gguf"):
        jobs.start(run_id, "zip", ExportOptions())
    with pytest.raises(RunError, match="There is no run"):
        jobs.start("unknown", "gguf", ExportOptions())
    with pytest.raises(RunError, match="The Hub token has spaces"):
        jobs.start(run_id, "hub", ExportOptions(token="a b"))


def test_the_end_of_the_page_ends_an_export(jobs: ExportJobs, run_id: str) -> None:
    jobs.start(run_id, "merged", ExportOptions("wait"))
    jobs.shutdown()
    assert not ended(jobs, run_id).place


def test_the_card_offers_what_can_be_made(store: RunStore, run_id: str, config: RunConfig) -> None:
    assert set(TARGETS) == set(KNOWN)
    card = export_card(store.folder(run_id), None)
    assert [to for to, *_ in card["choices"]] == list(TARGETS) and card["adapter"]
    empty = store.create(config)
    assert export_card(empty, None)["choices"] == []
    empty.model_path.mkdir()
    (empty.model_path / "config.json").write_text("{}")
    assert [to for to, *_ in export_card(empty, None)["choices"]] == ["gguf", "ollama", "hub"]


def test_the_commands_that_serve_a_result() -> None:
    pushed, served = (
        ExportJob("hub", place="https://huggingface.co/ada/x"),
        "transformers serve ada/x\nvllm serve ada/x",
    )
    merged = ExportJob("merged", place="/runs/a")
    assert commands(merged, adapter=True) == "transformers serve /runs/a\nvllm serve /runs/a"
    assert commands(pushed, adapter=False) == served and commands(pushed, adapter=True) == ""
    assert commands(replace(pushed, merged=True), adapter=True) == served
    assert commands(ExportJob("gguf", place="/runs/a.gguf"), adapter=True) == ""
    assert commands(ExportJob("merged"), adapter=True) == ""
