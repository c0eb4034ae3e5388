"""The end of the page: what was being trained goes on at the next start if that is wanted, and only then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from geko_app.runs.store import RunStore
from geko_app.services import Services
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from tests.app.workers.test_supervisor import status, wait_for

Command = Callable[[str], tuple[str, ...]]


def page(store: RunStore, command: tuple[str, ...]) -> Services:
    return Services(Supervisor(store, command=command), ModelDownloads(store.root))


@pytest.mark.parametrize("requeue", [True, False])
def test_a_training_that_a_shutdown_ends_goes_on_if_wanted(
    store: RunStore, config: RunConfig, worker_command: Command, requeue: bool
) -> None:
    first = page(store, worker_command("stop"))
    active, waiting = first.supervisor.start(config), first.supervisor.start(config)
    wait_for(lambda: status(store, active).phase == "training", "the training")
    first.shutdown(requeue=requeue)
    assert status(store, active).end == ("" if requeue else "stopped")

    second = page(store, worker_command("stop"))
    try:
        goes_on = active if requeue else waiting
        assert second.supervisor.active() == goes_on
        wait_for(lambda: status(store, goes_on).phase == "training", "the training again")
        assert second.supervisor.queue.ahead_of(waiting) == []
    finally:
        second.shutdown()


def test_a_run_that_a_user_has_stopped_stays_stopped(
    store: RunStore, config: RunConfig, worker_command: Command
) -> None:
    supervisor = Supervisor(store, command=worker_command("ignore-flag"), grace_seconds=0.5)
    services = Services(supervisor, ModelDownloads(store.root))
    run = supervisor.start(config)
    wait_for(lambda: status(store, run).phase == "training", "the training")
    supervisor.stop(run)  # the worker goes on for a while, like one that saves a large model
    services.shutdown(requeue=True)
    assert status(store, run).end and not supervisor.queue.holds(run)
