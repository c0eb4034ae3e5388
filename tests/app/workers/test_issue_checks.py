"""The texts of a run are checked in a process of its own, once, and one run at a time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from geko_app.runs.store import RunStore
from geko_app.workers.issue_check_worker import NICENESS
from geko_app.workers.issue_checks import FAILED, RUNNING, WAITING, IssueChecks
from geko_engine.runs.issue_check import issues_path, read_issues
from tests.app.sample_runs import new_run


def wait_for(checks: IssueChecks) -> None:
    assert checks._process is not None
    checks._process.wait()


def test_a_check_writes_the_issues_of_the_run(store: RunStore) -> None:
    folder, checks = new_run(store), IssueChecks()
    issues_path(folder).unlink()
    assert checks.start(folder) == RUNNING
    wait_for(checks)
    assert checks._process is not None and checks._process.returncode == 0
    assert read_issues(folder, 8) is not None


def test_a_check_that_fails_is_not_tried_again(store: RunStore) -> None:
    folder, checks = new_run(store), IssueChecks((sys.executable, "-c", "raise SystemExit(3)"))
    assert checks.start(folder) == RUNNING
    wait_for(checks)
    assert checks.start(folder) == FAILED


def test_the_next_run_waits_and_a_shutdown_ends_the_process(store: RunStore) -> None:
    first, second = new_run(store), new_run(store)
    checks = IssueChecks((sys.executable, "-c", "import threading; threading.Event().wait()"))
    assert checks.start(first) == RUNNING and checks.start(second) == WAITING and checks.start(first) == RUNNING
    checks.shutdown()
    assert checks._process is not None and checks._process.returncode != 0


@pytest.mark.skipif(not hasattr(os, "nice"), reason="priorities of POSIX")
def test_a_check_has_a_low_priority_and_leaves_memory(store: RunStore) -> None:
    import resource

    code = (
        "import os, resource, sys\n"
        "import geko_app.workers.issue_check_worker as worker\n"
        "code = worker.main()\n"
        "print(os.nice(0), resource.getrlimit(resource.RLIMIT_DATA)[0], code)\n"
    )
    command = [sys.executable, "-c", code, str(new_run(store).path)]
    before = os.nice(0)
    nice, limit, exit_code = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(nice) == min(19, before + NICENESS) and exit_code == "0"
    assert 0 < int(limit) != resource.RLIM_INFINITY
