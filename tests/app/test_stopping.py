"""A stop while a real worker tokenises or evaluates ends the run there, before the worker would have to be forced."""

from __future__ import annotations

from pathlib import Path

import pytest

from geko_app.run_store import RunStore
from geko_app.supervisor import Supervisor
from geko_engine.assets import assets_path
from geko_engine.config import DEMO, DataConfig, RunConfig
from tests.app.test_supervisor import status, wait_for

pytestmark = pytest.mark.slow


def many_rows(path: Path, name: str, times: int) -> str:
    """The demo's rows over and over: enough to be found at work on them."""
    path.write_text((assets_path() / "demo" / name).read_text(encoding="utf-8") * times, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("phase", "rows", "not_reached"), [("tokenising", "train", "RunStarted"), ("evaluating", "eval", "Evaluated")]
)
def test_a_stop_is_honoured_within_the_phase(
    store: RunStore, tmp_path: Path, phase: str, rows: str, not_reached: str
) -> None:
    data = DataConfig(eval=DEMO, sample_count=160) if rows == "eval" else DataConfig()
    setattr(data, rows, many_rows(tmp_path / "rows.jsonl", f"{rows}.jsonl", 30 if rows == "train" else 60))
    supervisor = Supervisor(store)
    run_id = supervisor.start(RunConfig(data=data, output_dir=str(store.root)))
    wait_for(lambda: supervisor.active() is None or status(store, run_id).phase == phase, f"the phase {phase}")
    supervisor.stop(run_id)
    wait_for(lambda: supervisor.active() is None, "the end")
    assert status(store, run_id).end == "stopped"  # not "interrupted": nothing was terminated
    told = {event["type"] for _, event in store.folder(run_id).events()}
    assert "RunEnded" in told and not_reached not in told


def test_a_stop_before_the_worker_has_told_anything_is_honoured(store: RunStore) -> None:
    supervisor = Supervisor(store, grace_seconds=1e6)  # nothing but the request can end it
    run_id = supervisor.start(RunConfig(data=DataConfig(sample_count=160), output_dir=str(store.root)))
    supervisor.stop(run_id)
    wait_for(lambda: supervisor.active() is None, "the end")
    assert status(store, run_id).end == "stopped"
    assert "RunStarted" not in {event["type"] for _, event in store.folder(run_id).events()}
