"""A run folder to play with, and workers that do what a test needs: real processes, no patching."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig

FAKE_WORKER = Path(__file__).parent / "fake_worker.py"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def config(store: RunStore) -> RunConfig:
    config = RunConfig.demo()
    config.output_dir = str(store.root)
    return config


@pytest.fixture
def worker_command() -> Callable[[str], tuple[str, ...]]:
    """The command of a worker that behaves as named: see fake_worker.py."""
    return lambda behaviour: (sys.executable, str(FAKE_WORKER), behaviour)
