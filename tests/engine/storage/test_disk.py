"""A disk that is really full: a run says so in one sentence, keeps its last checkpoint and goes on when there is room."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from geko_engine.exceptions import GekoError, RunError
from geko_engine.reporting.events import PAUSED, Message, PhaseChanged, RunEnded
from geko_engine.runs.failures import unexpected
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.writer import RunWriter
from geko_engine.storage.atomic_files import replace_json
from geko_engine.storage.disk_space import (
    RESERVE,
    RESERVE_BYTES,
    disk_refuses,
    explain_write_errors,
    full_sentence,
    is_full,
    says_disk_is_full,
    try_twice,
)
from tests.engine.runs.test_folder import new_folder
from tests.small_disk import SmallDisk

LONG = "a line that takes some room " * 40


def fill_with_events(write: RunWriter) -> RunError:
    with pytest.raises(RunError) as caught:
        while True:
            write(Message(LONG))
    return caught.value


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EFBIG, "File too large"), True),
        (RuntimeError("[enforce fail at inline_container.cc:820] . PytorchStreamWriter failed writing file data/0"), True),
        (RuntimeError("basic_ios::clear: iostream error"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), True),
        (ValueError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (RuntimeError("CUDA error: an illegal memory access"), False),
        (None, False),
    ],
)  # fmt: skip
def test_a_full_disk_is_known_by_whatever_a_library_calls_it(error: Exception | None, full: bool) -> None:
    assert is_full(error) == full
    wrapped = GekoError("cannot be written")
    wrapped.__cause__ = error
    assert is_full(wrapped) == full


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (Exception("Read-only file system (os error 30)"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), False),
        (Exception("Connection refused (os error 111)"), False),
        (RuntimeError("CUDA error: an illegal memory access"), False),
    ],
)  # fmt: skip
def test_a_broken_or_read_only_disk_ends_a_run_with_one_sentence(
    error: Exception, refused: bool, tmp_path: Path
) -> None:
    assert disk_refuses(error) == refused
    sentence, field = unexpected(error, RunFolder(tmp_path))
    assert (field == "output_dir" and "check the disk. Then resume." in sentence) == refused


def test_a_write_that_fails_once_is_tried_again_and_one_that_fails_twice_is_not_hidden() -> None:
    calls: list[int] = []

    def write(failures: int) -> None:
        calls.append(failures)
        if len(calls) <= failures:
            raise OSError(errno.EIO, "Input/output error")

    try_twice(lambda: write(1))
    assert len(calls) == 2
    calls.clear()
    with pytest.raises(OSError, match="Input/output"):
        try_twice(lambda: write(2))


def test_what_cannot_be_written_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is full.*free some space") as caught, explain_write_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert says_disk_is_full(str(caught.value)) and caught.value.field == "output_dir"
    with pytest.raises(RunError, match=r"failed \(Permission denied\)"), explain_write_errors(tmp_path):
        raise OSError(errno.EACCES, "Permission denied")
    assert says_disk_is_full(full_sentence(tmp_path / "nowhere"))


def test_on_a_full_disk_the_last_word_is_still_written(small_disk: SmallDisk) -> None:
    folder = new_folder(small_disk.path)
    with RunWriter(folder) as write:
        write(PhaseChanged("training"))
        assert (folder.path / RESERVE).stat().st_size == RESERVE_BYTES
        small_disk.fill()
        assert says_disk_is_full(str(fill_with_events(write)))
        write(RunEnded("failed", "full", {"end": "failed"}, "output_dir"))
    status = folder.status()
    assert status is not None and (status.end, status.reason) == ("failed", "full")
    events = [event for _, event in folder.events()]
    assert events[-1]["type"] == "RunEnded" and [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert not (folder.path / RESERVE).exists() and not list(folder.path.glob("*.tmp"))


def test_a_run_is_not_begun_on_a_full_disk_and_leaves_no_folder(small_disk: SmallDisk) -> None:
    small_disk.fill()
    with pytest.raises(RunError, match="is full") as caught:
        new_folder(small_disk.path)
    assert caught.value.field == "output_dir" and small_disk.runs() == []


def test_what_is_replaced_on_a_full_disk_stays_as_it_was(small_disk: SmallDisk) -> None:
    path = small_disk.path / "status.json"
    replace_json(path, {"phase": "training"})
    small_disk.fill()
    with pytest.raises(OSError, match="No space left"):
        replace_json(path, {"phase": LONG * 10})
    assert (
        path.read_text(encoding="utf-8") == '{\n "phase": "training"\n}' and len(list(small_disk.path.iterdir())) == 2
    )


def demo_folder(small_disk: SmallDisk) -> RunFolder:
    """A new run of two short epochs with a checkpoint every two steps."""
    from geko_engine.config.run_config import RunConfig

    config = RunConfig.demo()
    config.output_dir, config.data.eval, config.data.sample_count = str(small_disk.path), None, 64
    config.training.num_epochs, config.training.save_steps = 2, 2
    return RunFolder.create(config)


@pytest.mark.slow
def test_a_run_pauses_on_a_full_disk_and_goes_on_when_there_is_room(small_disk: SmallDisk) -> None:
    from geko_engine.run import run

    folder = demo_folder(small_disk)
    paused: list[str] = []

    def fill_once(event: object) -> None:
        if type(event).__name__ == "CheckpointSaved" and not paused:
            small_disk.fill(leave=2_000_000)  # too little for another one
        if isinstance(event, PhaseChanged) and event.phase == PAUSED:
            paused.append(event.message)
            small_disk.free()

    assert run(folder, on_event=fill_once)["end"] == "complete"
    assert len(paused) == 1 and "are needed for the checkpoint" in paused[0]


@pytest.mark.slow
def test_a_stop_on_a_full_disk_ends_the_run_at_its_last_checkpoint(small_disk: SmallDisk) -> None:
    from geko_engine.run import run

    folder, stopped = demo_folder(small_disk), []

    def fill(event: object) -> None:
        if type(event).__name__ == "CheckpointSaved":
            small_disk.fill(leave=2_000_000)
        if isinstance(event, PhaseChanged) and event.phase == PAUSED:
            stopped.append(event)

    report = run(folder, on_event=fill, should_stop=lambda: bool(stopped))
    assert report["end"] == "failed" and says_disk_is_full(report["reason"])
    assert report["reason"].endswith("the run continues from the checkpoint at step 2.")
    assert [path.name for path in folder.checkpoints_path.iterdir()] == ["checkpoint-2"]
    small_disk.free()
    assert run(folder, resume=True)["end"] == "complete"
