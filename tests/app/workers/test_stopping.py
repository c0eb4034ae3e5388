"""A stop in every phase of a real worker ends the run there, before the worker would have to be forced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from geko_app.runs.store import RunStore
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DEMO
from geko_engine.demo import demo_path
from geko_engine.training.checkpoint_files import read_manifest
from tests.app.workers.test_supervisor import status, wait_for

pytestmark = pytest.mark.slow
Change = Callable[[RunConfig, Path], None]


def many_rows(folder: Path, name: str, times: int) -> str:
    """The demo's rows over and over: enough to be found at work on them."""
    path = folder / "rows.jsonl"
    path.write_text(demo_path(name).read_text(encoding="utf-8") * times, encoding="utf-8")
    return str(path)


def few(config: RunConfig, _: Path) -> None:
    config.data.sample_count, config.training.num_epochs = 160, 500


def many_to_train_on(config: RunConfig, folder: Path) -> None:
    config.data.train, config.data.eval = many_rows(folder, "train.jsonl", 30), None


def many_to_evaluate(config: RunConfig, folder: Path) -> None:
    config.data.sample_count, config.data.eval = 160, many_rows(folder, "eval.jsonl", 60)


def scanned_first(config: RunConfig, _: Path) -> None:
    config.data.eval, config.geko.initial_scan = None, True


def saved_at_every_step(config: RunConfig, folder: Path) -> None:
    few(config, folder)
    config.training.save_steps = 1


@pytest.mark.parametrize(
    ("phase", "change", "not_reached"),
    [
        ("starting", few, "RunStarted"),
        ("downloading", many_to_train_on, "RunStarted"),
        ("tokenising", many_to_train_on, "RunStarted"),
        ("evaluating", many_to_evaluate, "Evaluated"),
        ("scanning", scanned_first, "StepCompleted"),
        ("training", few, ""),
        ("saving", saved_at_every_step, ""),
    ],
)
def test_a_stop_is_honoured_within_the_phase(
    store: RunStore, tmp_path: Path, phase: str, change: Change, not_reached: str
) -> None:
    config = RunConfig.demo()
    config.data.eval, config.output_dir = DEMO, str(store.root)
    change(config, tmp_path)
    supervisor = Supervisor(store)
    run_id = supervisor.start(config)
    if phase != "starting":  # there the stop is asked for before the worker has said its first word
        wait_for(lambda: supervisor.active() is None or status(store, run_id).phase == phase, f"the phase {phase}")
    supervisor.stop(run_id)
    wait_for(lambda: supervisor.active() is None, "the end")
    assert status(store, run_id).end == "stopped"  # not "interrupted": nothing was terminated
    folder = store.folder(run_id)
    types = {event["type"] for _, event in folder.events()}
    assert "RunEnded" in types and not_reached not in types
    if not not_reached:
        checkpoint = folder.latest_checkpoint()
        least = 1 if phase == "saving" else 0  # a stop may come before the first step; then that is what is kept
        assert checkpoint is not None and read_manifest(checkpoint)["state"]["step"] >= least
