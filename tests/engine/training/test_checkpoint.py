"""A checkpoint is whole or not there, whatever happens to its writer; damage is noticed before anything is loaded."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from geko_engine.exceptions import CheckpointError, RunError
from geko_engine.training.checkpoint_files import in_order, newest_whole, read_manifest, remove_old, write_checkpoint


def write_two(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"a" * 1000)
    (folder / "sub").mkdir()
    (folder / "sub" / "b.bin").write_bytes(b"b" * 10)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint-1", write_two, {"answer": 42})
    assert read_manifest(tmp_path / "checkpoint-1")["answer"] == 42


@pytest.mark.parametrize(("damage", "word"), [("missing", "missing"), ("cut", "damaged"), ("flipped", "damaged")])
def test_damage_is_named(tmp_path: Path, damage: str, word: str) -> None:
    path = tmp_path / "checkpoint-1"
    write_checkpoint(path, write_two, {})
    file = path / "a.bin"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"a" * 999 if damage == "cut" else b"a" * 999 + b"x")
    with pytest.raises(CheckpointError, match=rf"a\.bin .* is {word}"):
        read_manifest(path)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        read_manifest(tmp_path / "nowhere")


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from geko_engine.training.checkpoint_files import write_checkpoint
def write(folder):
    (folder / "a.bin").write_bytes(b"new" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
write_checkpoint(Path(sys.argv[1]), write, {})
"""


def test_a_writer_killed_in_the_middle_leaves_the_previous_checkpoint_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-1"
    write_checkpoint(path, write_two, {"which": "old"})
    died = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], check=False).returncode
    assert died == -signal.SIGKILL
    assert read_manifest(path)["which"] == "old"
    remove_old(tmp_path, keep=2)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]


def test_the_newest_whole_one_is_found_and_newer_ones_are_named(tmp_path: Path) -> None:
    for step in (2, 9, 10, 11):
        write_checkpoint(tmp_path / f"checkpoint-{step}", write_two, {"step": step})
    (tmp_path / "checkpoint-11" / "a.bin").unlink()
    manifest = tmp_path / "checkpoint-10" / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"step": 10', '"step": 12'), encoding="utf-8")
    path, problems = newest_whole(tmp_path)
    assert path == tmp_path / "checkpoint-9"
    assert "a.bin" in problems[0] and "manifest.json of the checkpoint" in problems[1]
    assert newest_whole(tmp_path / "nowhere") == (None, [])


KILLED_REMOVER = """
import os, shutil, signal, sys
from pathlib import Path
from geko_engine.training import checkpoint_files
def remove(path, ignore_errors=False):
    if not list(Path(path).rglob("a.bin")):
        return
    (Path(path) / "a.bin").unlink()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree = remove
checkpoint_files.remove_old(Path(sys.argv[1]), keep=1)
"""


def test_a_kill_in_the_middle_of_a_removal_leaves_no_half_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write_checkpoint(tmp_path / f"checkpoint-{step}", write_two, {})
    died = subprocess.run([sys.executable, "-c", KILLED_REMOVER, str(tmp_path)], check=False).returncode
    assert died == -signal.SIGKILL
    for path in in_order(tmp_path):
        read_manifest(path)
    remove_old(tmp_path, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-3"]


def test_a_disk_that_refuses_leaves_nothing_half_written(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        write_two(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="No space left on device"):
        write_checkpoint(tmp_path / "checkpoint-2", full, {})
    assert list(tmp_path.iterdir()) == []


NATIVE = "Error while serializing: I/O error: Input/output error (os error 5)"


@pytest.mark.parametrize("error", [SafetensorError(NATIVE), Exception("Input/output error (os error 5)")])
def test_a_native_writer_on_a_broken_disk_is_one_sentence(error: Exception, tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        write_two(folder)
        raise error

    with pytest.raises(CheckpointError, match=r"cannot be written \(.*Input/output error"):
        write_checkpoint(tmp_path / "checkpoint-2", broken, {})
    assert list(tmp_path.iterdir()) == []


def test_any_other_error_of_a_writer_stays_what_it_is(tmp_path: Path) -> None:
    def wrong(folder: Path) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        write_checkpoint(tmp_path / "checkpoint-2", wrong, {})


def test_an_old_checkpoint_that_cannot_be_removed_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path / f"checkpoint-{step}", write_two, {})

    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(RunError, match=r"failed \(Input/output error\): check the disk"):
        remove_old(tmp_path, keep=1)
    for path in in_order(tmp_path):
        read_manifest(path)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        write_checkpoint(tmp_path / f"checkpoint-{step}", write_two, {})
    remove_old(tmp_path, keep=2)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint-9", "checkpoint-10"}
