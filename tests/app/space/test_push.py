"""The models of complete runs are pushed once, one after the other, and those of earlier runs not at all."""

from __future__ import annotations

import json

import pytest

from geko_app.runs.store import RunStore
from geko_app.services import Services
from geko_app.space.push import PushAtEnd
from geko_app.workers.export_jobs import ExportJobs, ExportOptions
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from tests.app.views.test_runs import ended
from tests.app.workers.test_export_jobs import FAKE
from tests.app.workers.test_supervisor import wait_for


@pytest.fixture
def services(store: RunStore) -> Services:
    made = Services(Supervisor(store), ModelDownloads(store.root))
    made.exports = ExportJobs(store, command=FAKE)
    return made


def complete(store: RunStore, config: RunConfig, end: str = "complete") -> str:
    folder = ended(store, config, end)
    folder.model_path.mkdir()
    return folder.id


def test_each_complete_run_is_pushed_once(services: Services, store: RunStore, config: RunConfig) -> None:
    before = complete(store, config)
    pushes = PushAtEnd(services, "ada")
    stopped, without_model = complete(store, config, "stopped"), ended(store, config).id
    first, second = complete(store, config), complete(store, config)
    services.exports.start(before, "hub", ExportOptions("wait"))
    pushes.look()  # another export is running
    assert services.exports.job(first) is None and services.exports.job(second) is None
    services.exports.stop(before)
    for _ in (first, second):
        wait_for(lambda: not any(_running(services, run) for run in store.ids()), "the end of the export")
        pushes.look()
    wait_for(lambda: not any(_running(services, run) for run in store.ids()), "the last export")
    for run in (first, second):
        job = services.exports.job(run)
        assert job is not None and json.loads(job.sentences[0])["repo"] == f"ada/{run}"
        assert json.loads(job.sentences[0])["private"] is True
    assert services.exports.job(stopped) is None and services.exports.job(without_model) is None
    job = services.exports.job(first)
    pushes.look()
    assert services.exports.job(first) == job


def _running(services: Services, run_id: str) -> bool:
    job = services.exports.job(run_id)
    return job is not None and job.running
