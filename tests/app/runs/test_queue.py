"""The queue with real worker processes: order, every kind of end, a page that comes back, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from geko_app.formatting import run_name
from geko_app.pages.train import queue_message
from geko_app.runs.live_state import Snapshot
from geko_app.runs.queue import REMOVED, RunQueue
from geko_app.runs.store import RunStore
from geko_app.views.dashboard import Cursor, payload, queue_line, with_status
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.reporting.events import RunEnded
from geko_engine.runs.writer import RunWriter
from tests.app.conftest import FAKE_WORKER
from tests.app.workers.test_supervisor import status, wait_for

# The option does nothing; it makes the process count as a worker of a page, which a later page waits for.
ORDERED = (sys.executable, "-X", "geko_app.workers.training_worker", str(FAKE_WORKER), "ordered")


@pytest.fixture
def page(store: RunStore) -> Iterator[Callable[[], Supervisor]]:
    """Opens a page over the store; all are closed at the end, and no worker is left."""
    opened: list[Supervisor] = []

    def open_one() -> Supervisor:
        opened.append(Supervisor(store, command=ORDERED))
        return opened[-1]

    yield open_one
    for supervisor in opened:
        supervisor.shutdown()


def begun(store: RunStore, run_id: str) -> None:
    wait_for(lambda: status(store, run_id).phase == "training", f"{run_id} at work")


def end(supervisor: Supervisor, run_id: str, how: str) -> None:
    if how == "stopped":
        supervisor.stop(run_id)
    elif how == "killed":
        os.kill(status(supervisor.store, run_id).pid, signal.SIGKILL)
    else:
        (supervisor.store.folder(run_id).path / "end").write_text(how, encoding="utf-8")


@pytest.mark.parametrize("how", ["complete", "failed", "stopped", "killed"])
def test_runs_are_queued_and_start_in_order_after_any_end(
    page: Callable, store: RunStore, config: RunConfig, how: str
) -> None:
    supervisor = page()
    first = supervisor.start(config)
    begun(store, first)
    second, third = supervisor.start(config), supervisor.start(config)
    assert [status(store, run_id).phase for run_id in (second, third)] == ["queued", "queued"]
    assert supervisor.queue_place(second) == (1, f"after {run_name(first)}")
    assert supervisor.queue_place(third) == (2, f"after {run_name(second)}")
    assert supervisor.all_active() == [first] and supervisor.queue_place(first) == (0, "")

    end(supervisor, first, how)
    begun(store, second)
    assert status(store, first).end == {"killed": "interrupted"}.get(how, how)
    assert status(store, third).phase == "queued" and supervisor.queue_place(third) == (1, f"after {run_name(second)}")
    end(supervisor, second, how)
    begun(store, third)
    assert supervisor.queue.waiting() == []


def test_a_page_that_ends_leaves_the_queue_to_the_next_one(page: Callable, store: RunStore, config: RunConfig) -> None:
    supervisor = page()
    first = supervisor.start(config)
    begun(store, first)
    second, third = supervisor.start(config), supervisor.start(config)
    supervisor.shutdown()
    assert status(store, first).end == "stopped" and status(store, second).phase == "queued"
    again = page()
    begun(store, second)
    assert again.active() == second and status(store, third).phase == "queued"


def test_a_page_after_a_killed_one_queued_after_the_worker_that_lives(
    page: Callable, store: RunStore, config: RunConfig
) -> None:
    first, second = store.create(config), store.create(config)
    worker = subprocess.Popen([*ORDERED, str(first.path)])  # its page is gone
    begun(store, first.id)
    RunQueue(store).add(second, resume=False)
    again = page()
    assert again.active() == first.id and status(store, second.id).phase == "queued"
    end(again, first.id, "complete")
    worker.wait()
    begun(store, second.id)
    assert again.active() == second.id


def test_stop_takes_a_queued_run_out_and_it_can_be_resumed(page: Callable, store: RunStore, config: RunConfig) -> None:
    supervisor = page()
    first = supervisor.start(config)
    begun(store, first)
    second, third = supervisor.start(config), supervisor.start(config)
    supervisor.stop(second)
    assert (status(store, second).end, status(store, second).reason) == ("stopped", REMOVED)
    assert with_status(Snapshot(), status(store, second)).reason == REMOVED
    assert supervisor.queue_place(third) == (1, f"after {run_name(first)}")
    supervisor.resume(second)
    assert [run.id for run in supervisor.queue.waiting()] == [third, second]
    end(supervisor, first, "complete")
    begun(store, third)
    end(supervisor, third, "complete")
    begun(store, second)
    wait_for(lambda: supervisor.feed(second).state().snapshot().message == "resumed", "the resumed worker")


def test_delete_is_refused_while_a_run_goes_or_waits(page: Callable, store: RunStore, config: RunConfig) -> None:
    supervisor = page()
    first = supervisor.start(config)
    begun(store, first)
    second = supervisor.start(config)
    with pytest.raises(RunError, match="still active"):
        supervisor.delete(first)
    with pytest.raises(RunError, match="is queued"):
        supervisor.delete(second)
    supervisor.stop(second)
    supervisor.delete(second)
    assert store.ids() == [first]


def test_a_run_of_the_command_line_is_followed_but_nobody_queued_after_it(
    page: Callable, store: RunStore, config: RunConfig
) -> None:
    supervisor, folder = page(), store.create(config)
    with RunWriter(folder):  # this very process is the run's
        supervisor.attach_or_close(folder.id)
        assert supervisor.active() == folder.id
        with pytest.raises(RunError, match="still active"):
            supervisor.delete(folder.id)
        started = supervisor.start(config)
        begun(store, started)
        assert supervisor.active() == started and supervisor.alive(folder.id)


def test_the_page_shows_a_queued_run_as_waiting(page: Callable, store: RunStore, config: RunConfig) -> None:
    supervisor = page()
    first = supervisor.start(config)
    begun(store, first)
    second = supervisor.start(config)
    supervisor.attach_or_close(second)  # it has no worker, and is not dead
    shown = payload(
        store.folder(second),
        supervisor.feed(second).state(),
        Cursor(),
        alive=supervisor.alive(second),
        queued=supervisor.queue_place(second),
    )
    assert shown["status"] == {"title": "Queued #1", "detail": f"after {run_name(first)}", "life": ""}
    assert queue_message(supervisor, first) == ""
    assert f"Queued #1, after {run_name(first)}." in queue_message(supervisor, second)
    assert queue_line([]) == "" and queue_line(["second", "first"]) == "Next in the queue: second, then 1 more."
    assert queue_line(["third"], 2) == "2 runs at work. Next in the queue: third."
    assert shown["queued"] and not shown["running"] and not shown["resumable"] and shown["summary"] is None


def test_two_pages_over_one_folder_start_a_queued_run_once(store: RunStore, config: RunConfig, page: Callable) -> None:
    supervisor = page()
    first = supervisor.start(config)
    begun(store, first)
    second = supervisor.start(config)
    assert supervisor.queue.take(second) and not supervisor.queue.take(second)


def test_a_queued_run_that_cannot_begin_does_not_hold_up_the_others(
    page: Callable, store: RunStore, config: RunConfig
) -> None:
    supervisor = page()
    first = supervisor.start(config)
    begun(store, first)
    second, third = supervisor.start(config), supervisor.start(config)
    store.folder(second).log_path.mkdir()  # its worker's output can go nowhere
    end(supervisor, first, "complete")
    begun(store, third)
    assert status(store, second).end == "interrupted" and "could not be started" in status(store, second).reason


def test_a_run_of_a_program_that_lives_on_has_ended(page: Callable, store: RunStore, config: RunConfig) -> None:
    supervisor, folder = page(), store.create(config)
    with RunWriter(folder) as write:
        supervisor.attach_or_close(folder.id)
        assert supervisor.alive(folder.id)
        write(RunEnded("complete", "as ordered", {"end": "complete"}))
    wait_for(lambda: not supervisor.alive(folder.id), "the end of the run")
    supervisor.delete(folder.id)
    assert store.ids() == []
