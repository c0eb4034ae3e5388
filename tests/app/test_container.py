"""geko-app as process 1 of its own process tree, as in a container: SIGTERM saves what is being trained, then all ends.

Nothing here is a container but what counts: the kernel kills every process of the tree when process 1 is gone.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from geko_app.runs.queue import RunQueue
from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from tests.app.workers.test_supervisor import status, wait_for
from tests.browser.conftest import free_port

OWN_TREE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def own_tree() -> list[str]:
    """The command that gives a program its own process tree, with or without root; skips where neither is allowed."""
    for command in (OWN_TREE, [OWN_TREE[0], "--user", "--map-root-user", *OWN_TREE[1:]]):
        try:
            subprocess.run([*command, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    pytest.skip("the kernel does not let this user make a process tree of its own")


@pytest.mark.slow
def test_sigterm_to_process_1_saves_the_run_and_ends_every_process(store: RunStore, config: RunConfig) -> None:
    config.training.num_epochs, config.data.sample_count = 500, 400
    folder = store.create(config)
    RunQueue(store).add(folder, resume=False)  # the page begins it as soon as it is there
    command = [*own_tree(), sys.executable, "-m", "geko_app", "--runs", str(store.root), "--port", str(free_port())]
    with (store.root / "log").open("wb") as log:
        tree = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: "StepCompleted" in {e["type"] for _, e in folder.events()}, "the first step")
        (first,) = psutil.Process(tree.pid).children()
        everybody = [first, *first.children(recursive=True)]
        assert any("geko_app.workers.training_worker" in process.cmdline() for process in everybody)
        first.send_signal(signal.SIGTERM)
        assert tree.wait(120) == 0
    finally:
        tree.kill()
    said = Path(store.root / "log").read_text(encoding="utf-8")
    assert status(store, folder.id).end == "stopped" and folder.latest_checkpoint() is not None, said
    assert "Traceback" not in said
    assert not any(process.is_running() for process in everybody)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_page_is_still_being_imported_ends_it_without_a_word(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "geko_app", "--runs", "runs", "--port", str(free_port())]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "gradio_client" in line:  # among the first that gradio itself needs
            break
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 0 and "Traceback" not in said
    assert "KeyboardInterrupt" not in said and list(tmp_path.iterdir()) == []
