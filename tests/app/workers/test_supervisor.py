"""The training thread with real worker processes: start, stop, kill -9, hung workers, a server that comes back."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from geko_app.runs.store import RunStore
from geko_app.workers.run_follower import Feed, RunFollower
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.runs.status import Status

Command = Callable[[str], tuple[str, ...]]
HANGS = {31: "SIGTERM", 41: "SIGKILL"}  # what a worker gets that does nothing, by seconds after the stop


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until `condition` holds; the limit is generous and no part of what is tested."""
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for: {what}")


def status(store: RunStore, run_id: str) -> Status:
    return store.folder(run_id).status() or Status(phase="")


@pytest.fixture
def start(
    store: RunStore, config: RunConfig, worker_command: Command
) -> Iterator[Callable[..., tuple[Supervisor, str]]]:
    supervisors = []

    def begin(behaviour: str, grace: float = 30.0, kill: float = 10.0) -> tuple[Supervisor, str]:
        made = Supervisor(store, command=worker_command(behaviour), grace_seconds=grace, kill_seconds=kill)
        supervisors.append(made)
        run_id = made.start(config)
        wait_for(lambda: made.active() is None or status(store, run_id).phase == "training", "the worker's first event")
        return made, run_id

    yield begin
    for made in supervisors:
        made.shutdown()


def test_a_run_goes_to_its_end_and_its_events_come_through_the_queue(start: Callable, store: RunStore) -> None:
    supervisor, run_id = start("finish")
    wait_for(lambda: supervisor.active() is None, "the end")
    assert supervisor.feed(run_id).state().snapshot().end == "complete"
    assert status(store, run_id).end == "complete"


def test_stop_raises_the_flag_and_the_run_ends_as_stopped(start: Callable, store: RunStore) -> None:
    supervisor, run_id = start("stop")
    supervisor.stop("another-run")
    assert supervisor.active() == run_id
    supervisor.stop(run_id)
    supervisor.stop(run_id)
    wait_for(lambda: supervisor.active() is None, "the end")
    assert status(store, run_id).end == "stopped"


def test_a_worker_killed_with_9_leaves_the_supervisor_alive_and_the_run_marked(
    start: Callable, store: RunStore
) -> None:
    supervisor, run_id = start("stop")
    os.kill(status(store, run_id).pid, signal.SIGKILL)
    wait_for(lambda: supervisor.active() is None, "the end")
    assert status(store, run_id).end == "interrupted" and "SIGKILL" in status(store, run_id).reason
    supervisor.resume(run_id)
    wait_for(lambda: supervisor.feed(run_id).state().snapshot().message == "resumed", "the resumed worker")


@pytest.mark.parametrize(("behaviour", "word"), [("ignore-flag", "terminated"), ("ignore-all", "killed")])
def test_a_worker_that_does_not_answer_is_terminated_then_killed(
    start: Callable, store: RunStore, behaviour: str, word: str
) -> None:
    supervisor, run_id = start(behaviour, grace=0.2, kill=0.5)
    supervisor.stop(run_id)
    wait_for(lambda: supervisor.active() is None, "the end")
    assert status(store, run_id).end == "interrupted" and word in status(store, run_id).reason


def test_a_checkpoint_that_is_being_written_is_finished(
    start: Callable, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, enforce = [], RunFollower._enforce_stop
    monkeypatch.setattr(RunFollower, "_enforce_stop", lambda follower: looks.append(enforce(follower)))
    supervisor, run_id = start("save", grace=0.0, kill=0.5)
    supervisor.stop(run_id)
    looks.clear()
    wait_for(lambda: len(looks) > 10, "as many looks as kill a worker that writes nothing")
    (store.folder(run_id).path / "end").touch()
    wait_for(lambda: supervisor.active() is None, "the end")
    assert status(store, run_id).end == "stopped" and (store.folder(run_id).checkpoints_path / "checkpoint-1").is_dir()


@pytest.mark.parametrize(
    ("name", "is_there", "grows", "sent"),
    [
        ("checkpoints/.checkpoint-7.writing", (0, 599), (0, 599), {630: "SIGTERM", 640: "SIGKILL"}),
        (".model.writing", (21, 34), (21, 34), {65: "SIGTERM", 75: "SIGKILL"}),
        ("checkpoints/.checkpoint-7.writing", (0, 299), (0, 9), {330: "SIGTERM", 340: "SIGKILL"}),
        ("checkpoints/.checkpoint-7.writing", (0, 9999), (0, 99), {430: "SIGTERM", 440: "SIGKILL"}),
        ("checkpoints/.checkpoint-7.writing", (0, 9999), (0, 9999), {3631: "SIGTERM", 3641: "SIGKILL"}),
        ("checkpoints/.checkpoint-7.writing", (-900, 9999), (), HANGS),
        (".model.writing", (-900, 9999), (), HANGS),
        ("checkpoints/checkpoint-7", (0, 9999), (0, 9999), HANGS),
        (".live_state.jsonl.writing", (0, 9999), (0, 9999), HANGS),
        (".texts.parquet.writing", (0, 9999), (0, 9999), HANGS),
    ],
    ids=[
        "a large checkpoint", "the model", "a checkpoint that is flushed", "a writer that hangs", "one that never ends",
        "a leftover", "a model left over", "a whole checkpoint", "a file of the page", "a small file",
    ],
)  # fmt: skip
def test_a_worker_that_is_to_stop_is_given_time_for_what_it_writes(
    store: RunStore,
    config: RunConfig,
    name: str,
    is_there: tuple[int, int],
    grows: tuple[int, int] | tuple[()],
    sent: dict[int, str],
) -> None:
    folder, second, found = store.create(config), 0, dict[int, str]()
    written = folder.path / name / "weights.safetensors"
    process: Any = SimpleNamespace(send_signal=lambda number: found.setdefault(second, number.name))
    patience = Supervisor(store)._patience
    follower = RunFollower(Feed(folder), process, patience, lambda: None, clock=lambda: 1000.0 + second)
    follower.request_stop()
    for second in range(3700):
        if second == max(0, is_there[0]):
            written.parent.mkdir(parents=True)
            written.touch()
            for path in (written, written.parent):
                os.utime(path, (time.time() + is_there[0],) * 2)
        if grows and grows[0] <= second <= grows[1]:
            os.truncate(written, second)
        if second == is_there[1] + 1:
            shutil.rmtree(written.parent)
        follower._enforce_stop()
        if "SIGKILL" in found.values():
            break
    assert found == sent


@pytest.mark.parametrize("by_page", [False, True])
def test_a_stop_can_be_forced_in_the_middle_of_a_checkpoint(start: Callable, store: RunStore, by_page: bool) -> None:
    supervisor, run_id = start("save", kill=0.2)
    supervisor.stop(run_id)
    if by_page:
        supervisor.request_shutdown(now=True)
    else:
        supervisor.stop(run_id, now=True)
    wait_for(lambda: supervisor.active() is None, "the end")
    found = status(store, run_id)
    assert found.end == "interrupted" and "ended at once, as requested" in found.reason


@pytest.mark.parametrize("behaviour", ["crash", "silent"])
def test_a_worker_that_ends_unexpectedly_is_marked_with_a_pointer_to_its_log(
    start: Callable, store: RunStore, behaviour: str
) -> None:
    supervisor, run_id = start(behaviour)
    wait_for(lambda: supervisor.active() is None, "the end")
    assert status(store, run_id).end == "interrupted" and "worker.log" in status(store, run_id).reason


def test_a_new_server_attaches_to_a_living_worker_and_can_stop_it(start: Callable, store: RunStore) -> None:
    _, run_id = start("stop")
    second = Supervisor(store)
    assert second.active() == run_id
    second.stop(run_id)
    wait_for(lambda: second.active() is None, "the end")
    assert status(store, run_id).end == "stopped"


def test_a_new_server_gives_a_run_without_a_worker_its_end(store: RunStore, config: RunConfig) -> None:
    run_id = store.create(config).id
    assert Supervisor(store).active() is None
    assert status(store, run_id).end == "interrupted"


def test_shutdown_waits_until_the_worker_has_saved(start: Callable, store: RunStore) -> None:
    supervisor, run_id = start("stop")
    supervisor.shutdown()
    assert status(store, run_id).end == "stopped"


def test_a_complete_run_is_not_resumed(start: Callable) -> None:
    supervisor, run_id = start("finish")
    wait_for(lambda: supervisor.active() is None, "the end")
    with pytest.raises(RunError, match="complete"):
        supervisor.resume(run_id)
    for name in ("../elsewhere", "nowhere", ""):
        with pytest.raises(RunError):
            supervisor.resume(name)


def test_a_hub_token_reaches_the_worker_and_neither_a_file_nor_its_environment(
    store: RunStore,
    config: RunConfig,
    worker_command: Callable[[str], tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    supervisor = Supervisor(store, command=worker_command("token"))
    run_id = supervisor.start(config, "hf_secret_of_mine")
    supervisor._followers[run_id].join(60)
    folder = store.folder(run_id)
    said = [event["text"] for _, event in folder.events() if event["type"] == "Message"]
    assert said == ["17 characters, environment: False"]
    for path in folder.path.rglob("*"):
        assert not path.is_file() or "hf_secret_of_mine" not in path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_starts_and_stops_a_run_of_two_processes(
    store: RunStore, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    config.data.sample_count, config.data.eval_count = 200, 20
    config.training.num_processes, config.training.batch_size, config.training.num_epochs = 2, 8, 100
    supervisor = Supervisor(store)
    run_id = supervisor.start(config, "hf_secret_of_mine")
    try:
        wait_for(lambda: status(store, run_id).phase == "training" or supervisor.active() is None, "the training")
        (peer,) = psutil.Process(status(store, run_id).pid).children()
        for process in (peer, psutil.Process(status(store, run_id).pid)):
            assert "hf_secret_of_mine" not in " ".join([*process.cmdline(), *process.environ().values()])
        with pytest.raises(RunError, match="is still active"):
            supervisor.resume(run_id)
        supervisor.stop(run_id)
        wait_for(lambda: supervisor.active() is None, "the end")
        assert status(store, run_id).end == "stopped", store.folder(run_id).log_path.read_text(encoding="utf-8")
        assert not peer.is_running()
    finally:
        supervisor.shutdown()
    folder = store.folder(run_id)
    assert [event["processes"] for _, event in folder.events() if event["type"] == "RunStarted"] == [2]
    assert folder.latest_checkpoint() is not None
