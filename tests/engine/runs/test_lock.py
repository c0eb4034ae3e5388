"""One process at a time writes a run: real processes, a fork, a kill, and a file system without locks."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from geko_app.runs.store import RunStore
from geko_app.workers.supervisor import Supervisor
from geko_engine.cli import main as geko_train
from geko_engine.exceptions import RunError, RunLockedError
from geko_engine.reporting.events import RunEnded
from geko_engine.runs import lock
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.lock import RunLock
from geko_engine.runs.status import Status
from geko_engine.runs.writer import RunWriter, mark_interrupted
from geko_engine.storage.atomic_files import replace_json
from tests.engine.runs.test_folder import new_folder

HOLDER = """
import sys
from pathlib import Path
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.status import Status
from geko_engine.runs.writer import RunWriter
with RunWriter(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder_of(folder: RunFolder) -> subprocess.Popen[str]:
    """Another process that writes the run until its standard input is closed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder.path)], **pipes)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_by_the_number_of_the_first(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    with holder_of(folder) as first:
        before = folder.events_path.read_bytes()
        folder.request_stop()
        with pytest.raises(RunLockedError, match=rf"{folder.id} is being written by process {first.pid}: wait"):
            RunWriter(folder, clear_stop=True).__enter__()
        mark_interrupted(folder, "gone")
        assert folder.events_path.read_bytes() == before and folder.stop_path.exists()
        assert folder.status().end == "" and folder.status().pid == first.pid
        first.communicate()
    with RunWriter(folder) as write:
        write(RunEnded("complete", "", {}))
    assert (folder.path / lock.NAME).read_bytes() == b""


def test_the_command_line_ends_with_one_sentence_and_the_page_with_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = RunStore(tmp_path)
    folder = new_folder(tmp_path)
    supervisor = Supervisor(store)
    with holder_of(folder) as first:
        mark = Status("interrupted", end="interrupted")  # what both have read right before the other began
        replace_json(folder.path / "status.json", asdict(mark))
        assert geko_train(["--resume", str(folder.path)]) == 2
        (sentence,) = [line for line in capsys.readouterr().err.splitlines() if "process" in line]
        assert sentence == (
            f"geko-train: The run {folder.id} is being written by process {first.pid}: wait until it has ended, or stop "
            "it first."
        )
        for refused in (supervisor.resume, supervisor.delete):
            replace_json(folder.path / "status.json", asdict(mark))
            with pytest.raises(RunLockedError, match=f"process {first.pid}"):
                refused(folder.id)
        first.communicate()
    assert not folder.report_path.exists() and not folder.log_path.exists()


def test_a_lock_that_cannot_be_opened_is_one_sentence_and_the_page_starts(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    (folder.path / lock.NAME).mkdir()
    supervisor = Supervisor(RunStore(tmp_path))  # marks the run, whose worker is gone, if it can
    for refused in (supervisor.resume, supervisor.delete):
        with pytest.raises(RunError, match=r"failed \(Is a directory\)"):
            refused(folder.id)
    with pytest.raises(RunError, match=r"failed \(Is a directory\)"):
        RunWriter(folder).__enter__()


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    with holder_of(folder) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        with RunLock(folder.path) as held:
            assert held.works


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    pipe, release = os.pipe(), os.pipe()
    with RunLock(tmp_path):
        child = os.fork()  # as a data loader's worker
        if not child:
            os.write(pipe[1], b"!")
            os.read(release[0], 1)
            os._exit(0)
        os.read(pipe[0], 1)
        with pytest.raises(RunLockedError):
            in_a_thread(tmp_path)
    with RunLock(tmp_path):  # the child still lives
        pass
    os.write(release[1], b"!")
    assert os.waitpid(child, 0)[1] == 0
    for end in (*pipe, *release):
        os.close(end)


def in_a_thread(path: Path) -> None:
    """Take the lock in another thread, and raise here what it raised."""
    caught: list[RunLockedError] = []

    def take() -> None:
        try:
            RunLock(path).__enter__()
        except RunLockedError as error:
            caught.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    raise caught[0]


def test_the_same_thread_may_enter_again_and_only_the_last_exit_releases(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        with RunLock(tmp_path / ".." / tmp_path.name):
            pass
        with pytest.raises(RunLockedError, match=f"process {os.getpid()}"):
            in_a_thread(tmp_path)


def test_what_the_lock_file_says_of_a_holder_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / lock.NAME
    for content, named in (
        (b"\x00\xff garbage", "another process"),
        (b"[]", "another process"),
        (b'{"pid": 4194305, "host": "elsewhere"}', "process 4194305 on elsewhere"),
    ):
        path.write_bytes(content)
        file = os.open(path, os.O_RDWR)
        assert lock._holder(file) == named
        os.close(file)


def test_where_there_are_no_locks_the_run_goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = new_folder(tmp_path)
    with RunWriter(folder):
        pass
    assert [event.get("text") for _, event in folder.events()][1:] == [
        f"The file system of {str(folder.path)!r} has no locks: let only one process write this run."
    ]


@pytest.mark.skipif(os.name == "nt", reason="takes the lock as Unix does")
@pytest.mark.parametrize("then", ["writes its name", "lets go", "does neither"])
def test_a_holder_without_a_name_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    import fcntl

    holder = os.open(tmp_path / lock.NAME, os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if then == "writes its name":
            os.write(holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        elif then == "lets go":
            fcntl.flock(holder, fcntl.LOCK_UN)

    monkeypatch.setattr(lock.time, "sleep", pause)
    try:
        if then == "lets go":
            with RunLock(tmp_path):
                pass
        else:
            named = f"process {os.getpid()}" if then == "writes its name" else "another process"
            with pytest.raises(RunLockedError, match=f"is being written by {named}: wait"):
                RunLock(tmp_path).__enter__()
    finally:
        os.close(holder)
    assert len(pauses) == (lock.TRIES - 1 if then == "does neither" else 1)
