"""Two pages over one runs folder resume the same run at the same moment: real processes, released by a barrier."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.reporting.event_lines import without_undone
from geko_engine.reporting.events import RunEnded
from geko_engine.runs.writer import RunWriter
from tests.app.conftest import FAKE_WORKER

PAGE = """
import sys
from geko_app.runs.store import RunStore
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import RunError
supervisor = Supervisor(RunStore(sys.argv[1]), command=(sys.executable, sys.argv[2], "ordered"))
print("ready", flush=True)
sys.stdin.readline()
try:
    print("resumed", supervisor.resume(sys.argv[3]), flush=True)
except RunError as error:
    print("refused", error, flush=True)
sys.stdin.readline()
follower = supervisor._followers.get(sys.argv[3])
if follower is not None:
    follower.join()
"""


@pytest.mark.parametrize("number", range(3))
def test_two_pages_that_resume_one_run_at_once_start_one_writer(
    number: int, store: RunStore, config: RunConfig, tmp_path: Path
) -> None:
    folder = store.create(config)
    with RunWriter(folder) as write:
        write(RunEnded("stopped", "You asked for a stop.", {"end": "stopped"}))
    arguments = [sys.executable, "-c", PAGE, str(store.root), str(FAKE_WORKER), folder.id]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pages = [subprocess.Popen(arguments, **pipes) for _ in range(2)]
    for page in pages:
        assert page.stdout is not None and page.stdout.readline() == "ready\n"
    for page in pages:
        assert page.stdin is not None
        page.stdin.write("go\n")
        page.stdin.flush()
    answers = [page.stdout.readline() for page in pages if page.stdout is not None]
    assert any(answer.startswith("resumed") for answer in answers)
    (folder.path / "end").write_text("complete", encoding="utf-8")
    for page in pages:
        page.communicate("end\n")
        assert page.returncode == 0
    events = [event for _, event in folder.events()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert sum(event["type"] == "RunEnded" and event["end"] == "complete" for event in events) == 1
    assert without_undone(events)[-1]["end"] == "complete"
    assert folder.status().end == "complete" and not folder.stop_path.exists()
