"""Several runs at once on GPUs that a test only names: real processes, every kind of end, a page that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from geko_app import hardware
from geko_app.pages.train import queue_message
from geko_app.runs.store import RunStore
from geko_app.services import Services
from geko_app.workers import gpu_lanes
from geko_app.workers.export_jobs import ExportJobs, ExportOptions
from geko_app.workers.gpu_lanes import given_gpus
from geko_app.workers.inference_jobs import FINAL, InferenceJobs, InferenceRequest
from geko_app.workers.model_downloads import ModelDownloads
from geko_app.workers.preview_jobs import PreviewJobs
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from geko_engine.reporting.events import RunEnded
from geko_engine.runs.writer import RunWriter
from geko_engine.storage.atomic_files import replace_json
from tests.app.runs.test_queue import ORDERED, begun, end
from tests.app.workers.test_export_jobs import FAKE as EXPORT
from tests.app.workers.test_export_jobs import ended as exported
from tests.app.workers.test_inference_jobs import FAKE as INFERENCE
from tests.app.workers.test_inference_jobs import done as answered
from tests.app.workers.test_supervisor import status, wait_for


@pytest.fixture(autouse=True)
def all_gpus_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def page(store: RunStore) -> Iterator[Callable[..., Supervisor]]:
    opened: list[Supervisor] = []

    def open_one(gpus: int = 2) -> Supervisor:
        opened.append(Supervisor(store, command=ORDERED, gpus=range(gpus)))
        return opened[-1]

    yield open_one
    for supervisor in opened:
        supervisor.shutdown()


def begin(supervisor: Supervisor, config: RunConfig, gpu_ids: str = "") -> str:
    config.training.gpu_ids = gpu_ids
    return supervisor.start(config)


def sees(store: RunStore, run_id: str) -> str | None:
    """CUDA_VISIBLE_DEVICES of the worker of a run."""
    begun(store, run_id)
    return psutil.Process(status(store, run_id).pid).environ().get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("how", ["complete", "failed", "stopped", "killed"])
def test_each_gpu_has_a_run_and_the_third_one_takes_the_first_that_becomes_free(
    page: Callable[..., Supervisor], store: RunStore, config: RunConfig, how: str
) -> None:
    supervisor = page()
    first, second, third = (begin(supervisor, config) for _ in range(3))
    assert [sees(store, first), sees(store, second)] == ["0", "1"]
    assert supervisor.all_active() == [second, first] and supervisor.active() == second
    assert supervisor.gpus_in_use() == {0: store.name(first), 1: store.name(second)}
    assert supervisor.queue_place(third) == (1, "waits for a free GPU")
    end(supervisor, second, how)
    assert sees(store, third) == "1" and given_gpus(store.folder(third)) == {1}
    assert supervisor.alive(first) and not supervisor.alive(second)
    assert store.folder(third).config().training.gpu_ids == ""  # a copy of the run is bound to no GPU


def test_a_run_of_two_gpus_waits_for_both_and_is_not_passed_on_them(
    page: Callable[..., Supervisor], store: RunStore, config: RunConfig
) -> None:
    supervisor = page(3)
    first = begin(supervisor, config, "0")
    both, beside, behind = begin(supervisor, config, "0,1"), begin(supervisor, config), begin(supervisor, config, "1")
    assert sees(store, beside) == "2" and sees(store, first) is None  # the worker takes those that the settings name
    assert supervisor.queue_place(both) == (1, f"waits for GPU 0: run {store.name(first)}")
    assert supervisor.queue_place(behind) == (2, f"waits for GPU 1: run {store.name(both)}")
    end(supervisor, first, "complete")
    begun(store, both)
    assert supervisor.gpus_in_use() == {0: store.name(both), 1: store.name(both), 2: store.name(beside)}
    assert supervisor.queue_place(behind) == (1, f"waits for GPU 1: run {store.name(both)}")
    end(supervisor, beside, "complete")
    wait_for(lambda: not supervisor.alive(beside), "the end of the run beside")
    assert supervisor.queue.holds(behind)
    end(supervisor, both, "killed")
    begun(store, behind)


def test_a_run_taken_out_of_the_queue_lets_those_pass_that_waited_behind_it(
    page: Callable[..., Supervisor], store: RunStore, config: RunConfig
) -> None:
    supervisor = page()
    begin(supervisor, config, "0")
    both, last = begin(supervisor, config, "0,1"), begin(supervisor, config)
    assert [run.id for run in supervisor.queue.waiting()] == [both, last]
    supervisor.stop(both)
    assert sees(store, last) == "1"
    supervisor.delete(both)


KILLED_PAGE = """
import sys, threading
from geko_app.runs.store import RunStore
from geko_app.workers.preview_jobs import PreviewJobs
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
store, config = RunStore(sys.argv[1]), RunConfig.demo()
config.output_dir = sys.argv[1]
supervisor = Supervisor(store, command=sys.argv[2:], gpus=[0, 1])
print(*(supervisor.start(config) for _ in range(3)), flush=True)
threading.Event().wait()
"""


def test_the_page_after_a_killed_one_attaches_to_both_workers_and_goes_on_with_the_queue(
    page: Callable[..., Supervisor], store: RunStore, config: RunConfig
) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED_PAGE, str(store.root), *ORDERED], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    first, second, third = killed.stdout.readline().split()
    begun(store, first)
    begun(store, second)
    killed.kill()
    killed.communicate()
    again = page()
    assert sorted(again.all_active()) == sorted([first, second])
    assert again.gpus_in_use() == {0: store.name(first), 1: store.name(second)}
    fourth = begin(again, config, "1")
    assert again.queue_place(third) == (1, "waits for a free GPU")
    assert again.queue_place(fourth) == (2, f"waits for GPU 1: run {store.name(second)}")
    os.kill(status(store, second).pid, signal.SIGKILL)
    assert sees(store, third) == "1"
    end(again, first, "stopped")
    wait_for(lambda: not again.alive(first), "the end")
    assert again.queue.holds(fourth)
    resumed = again.resume(first)
    assert sees(store, resumed) == "0"


def test_a_run_of_the_command_line_has_its_gpus(
    page: Callable[..., Supervisor], store: RunStore, config: RunConfig
) -> None:
    supervisor = page()
    config.training.gpu_ids = "1"
    folder = store.create(config)
    with RunWriter(folder) as write:  # this very process is the run's
        started, waiting = begin(supervisor, config), begin(supervisor, config)
        assert sees(store, started) == "0" and supervisor.queue.holds(waiting)
        assert supervisor.gpus_in_use() == {0: store.name(started), 1: store.name(folder.id)}
        write(RunEnded("complete", "as ordered", {"end": "complete"}))
    wait_for(lambda: not supervisor.queue.holds(waiting), "the end of the run of the command line")
    assert sees(store, waiting) == "1"


@pytest.mark.parametrize(
    ("visible", "gpu_ids", "held"),
    [
        (None, "", {0}),
        (None, "1", {1}),
        ("", "", set()),
        ("-1", "1", set()),
        ("2", "", {2}),
        (" 1 , 2", "1", {2}),
        ("1,-1,2", "all", {1}),
        ("7", "", set()),  # one that the page may not use
        ("GPU-c", "", {2}),
        ("GPU-e", "", {0, 1, 2}),  # nobody knows which one that is
        ("MIG-8", "all", {0, 1, 2}),
    ],
)
def test_a_run_of_the_page_resumed_on_the_command_line_has_what_its_process_sees(
    store: RunStore,
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    gpu_ids: str,
    held: set[int],
) -> None:
    found = [hardware.Gpu("H100", 0, f"GPU-{letter}") for letter in "abc"]
    monkeypatch.setattr(hardware, "_gpus", lambda: found)
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    monkeypatch.setattr(gpu_lanes, "_environment", lambda _pid: environment)
    lanes = gpu_lanes.GpuLanes(store, range(3))
    config.training.gpu_ids = gpu_ids
    folder = store.create(config)
    lanes.give(folder, frozenset([1]))
    assert lanes.held_by(folder.id, own=True) == {1}
    assert lanes.held_by(folder.id, own=False) == held


def test_names_of_gpus_are_matched_with_those_of_the_page(
    store: RunStore, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [hardware.Gpu("H100", 0, f"GPU-{letter}") for letter in "abc"]
    monkeypatch.setattr(hardware, "_gpus", lambda: found)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-c,1")
    monkeypatch.setattr(gpu_lanes, "_environment", lambda _pid: {"CUDA_VISIBLE_DEVICES": "2,GPU-a"})
    config.training.gpu_ids = "all"
    assert gpu_lanes.GpuLanes(store, range(2)).held_by(store.create(config).id, own=False) == {0}


def test_a_resume_on_the_command_line_frees_the_gpu_that_the_page_gave(
    page: Callable[..., Supervisor], store: RunStore, config: RunConfig
) -> None:
    supervisor = page()
    run_id = begin(supervisor, config)
    assert sees(store, run_id) == "0" and supervisor.given_gpus(run_id) == {0}
    end(supervisor, run_id, "stopped")
    wait_for(lambda: not supervisor.alive(run_id), "the end")
    folder = store.folder(run_id)
    settings = folder.config()
    settings.training.gpu_ids = "1"
    folder.config_path.write_text(settings.to_yaml(), encoding="utf-8")
    with RunWriter(folder):  # this very process resumes it
        supervisor.attach_or_close(run_id)
        assert supervisor.gpus_in_use() == {1: store.name(run_id)}
        assert supervisor.given_gpus(run_id) == set()
        assert sees(store, begin(supervisor, config)) == "0"


def test_a_run_behind_one_that_takes_any_gpu_says_that_it_waits_for_it(
    page: Callable[..., Supervisor], store: RunStore, config: RunConfig
) -> None:
    supervisor = page(3)
    begin(supervisor, config, "0")
    begin(supervisor, config, "1")
    config.training.num_processes = 2
    pair = begin(supervisor, config)
    config.training.num_processes = 1
    behind = begin(supervisor, config, "2")
    words = f"waits for the run before it: {store.name(pair)}"
    assert supervisor.queue_place(pair) == (1, "waits for 2 free GPUs")
    assert supervisor.queue_place(behind) == (2, words)
    assert f"Queued #2, {words}." in queue_message(supervisor, behind)


def test_numbers_count_among_the_gpus_that_the_page_may_use(
    page: Callable[..., Supervisor], store: RunStore, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-8f")
    supervisor = page()
    first, second = begin(supervisor, config), begin(supervisor, config)
    assert [sees(store, first), sees(store, second)] == ["4", "GPU-8f"]
    assert sorted(supervisor.gpus_in_use()) == [0, 1]


def test_a_page_that_ends_puts_all_its_runs_before_those_that_waited(
    page: Callable[..., Supervisor], store: RunStore, config: RunConfig
) -> None:
    supervisor = page()
    services = Services(supervisor, ModelDownloads(store.root))
    first, second, third = (begin(supervisor, config) for _ in range(3))
    begun(store, first)
    begun(store, second)
    services.shutdown(requeue=True)
    assert [run.id for run in supervisor.queue.waiting()] == [first, second, third]
    again = page()
    assert sorted(again.all_active()) == sorted([first, second]) and again.queue.holds(third)


@pytest.mark.slow
def test_two_trainings_go_at_the_same_time(store: RunStore, config: RunConfig) -> None:
    config.data.sample_count, config.data.eval_count, config.training.num_epochs = 200, 20, 100
    supervisor = Supervisor(store, gpus=[0, 1])
    try:
        both = [supervisor.start(config), supervisor.start(config)]
        for run_id in both:
            wait_for(lambda: status(store, run_id).phase == "training" or not supervisor.alive(run_id), "the training")  # noqa: B023
        assert sorted(supervisor.all_active()) == sorted(both)
        supervisor.stop(both[0])
        wait_for(lambda: not supervisor.alive(both[0]), "the end of the first one")
        assert status(store, both[0]).end == "stopped" and supervisor.alive(both[1])
    finally:
        supervisor.shutdown()
    assert status(store, both[1]).end == "stopped"


def asked(jobs: InferenceJobs) -> str | None:
    """The GPUs that the inference process sees which answers a question."""
    job = answered(jobs, jobs.token_losses(InferenceRequest(RUN_WITH_MODEL, FINAL, "hello")))
    return psutil.Process(job.process.pid).environ().get("CUDA_VISIBLE_DEVICES")


RUN_WITH_MODEL = "20260101-120000-asked"


@pytest.fixture
def inference(store: RunStore) -> Iterator[Callable[[Supervisor], InferenceJobs]]:
    """Opens the playground of a page; there is a run with a model."""
    model = store.root / RUN_WITH_MODEL / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}", encoding="utf-8")
    (model.parent / "config.yaml").write_text(RunConfig.demo().to_yaml(), encoding="utf-8")
    replace_json(model.parent / "status.json", {"end": "complete"})
    opened: list[InferenceJobs] = []

    def open_one(supervisor: Supervisor) -> InferenceJobs:
        opened.append(InferenceJobs(store, command=INFERENCE, choose_gpu=supervisor.gpu_beside))
        return opened[-1]

    yield open_one
    for jobs in opened:
        jobs.shutdown()


def test_questions_go_to_a_gpu_without_a_run_and_move_there_when_one_begins_on_theirs(
    page: Callable[..., Supervisor],
    inference: Callable[[Supervisor], InferenceJobs],
    store: RunStore,
    config: RunConfig,
) -> None:
    supervisor = page()
    jobs = inference(supervisor)
    assert asked(jobs) == "1"
    first = begin(supervisor, config)
    assert sees(store, first) == "0" and asked(jobs) == "1"
    second = begin(supervisor, config)
    assert sees(store, second) == "1" and asked(jobs) == "1"  # no GPU is free: it stays, with its models
    waiting = jobs.token_losses(InferenceRequest(RUN_WITH_MODEL, FINAL, "wait"))
    end(supervisor, first, "complete")
    wait_for(lambda: not supervisor.alive(first), "the end")
    assert asked(jobs) == "1"  # not while a question is open
    jobs.cancel(waiting)
    answered(jobs, waiting)
    assert asked(jobs) == "0"


def test_an_export_goes_to_a_gpu_without_a_run_or_else_to_the_first(
    page: Callable[..., Supervisor], store: RunStore, config: RunConfig
) -> None:
    supervisor = page()
    exports = ExportJobs(store, command=EXPORT, choose_gpu=supervisor.gpu_beside)
    run_id = begin(supervisor, config, "1")
    begun(store, run_id)

    def place() -> str:
        exports.start(run_id, "merged", ExportOptions("gpu"))
        return exported(exports, run_id).place

    assert place() == "0"
    both = begin(supervisor, config)
    assert sees(store, both) == "0" and place() == "0"
    end(supervisor, both, "complete")
    end(supervisor, run_id, "complete")


def test_a_preview_measures_on_the_gpu_that_its_run_would_get(
    page: Callable[..., Supervisor],
    store: RunStore,
    config: RunConfig,
    worker_command: Callable[[str], tuple[str, ...]],
) -> None:
    supervisor = page()
    previews = PreviewJobs(worker_command("wait"), order_gpus=supervisor.gpus_in_order)
    begun(store, begin(supervisor, config))
    key = previews.start(config)
    assert psutil.Process(previews._jobs[key].process.pid).environ()["CUDA_VISIBLE_DEVICES"] == "1,0"
    previews.shutdown()


def test_the_page_gives_all_its_processes_the_choice(page: Callable[..., Supervisor], store: RunStore) -> None:
    services = Services(page(), ModelDownloads(store.root))
    assert services.previews._order_gpus(RunConfig.demo().training) == [0, 1]
    assert services.inference._choose_gpu(None) == services.exports._choose_gpu(None) == 1
    services.shutdown()


def test_with_one_gpu_they_see_what_the_page_sees(
    page: Callable[..., Supervisor], inference: Callable[[Supervisor], InferenceJobs]
) -> None:
    assert asked(inference(page(1))) is None
