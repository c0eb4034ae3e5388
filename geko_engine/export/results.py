"""What an export made, and how it says what it is doing. Imports no torch."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geko_engine.exceptions import ExportError, Stopped
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.disk_space import disk_refuses, full_sentence, is_full, refused_sentence

Say = Callable[[str], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        place: path of the folder or file, or address of the repository.
        sentences: what to know about it, one sentence each.
        compared: prompts that were answered before and after the merge.
        equal: how many of these answers were the same, character by character.
    """

    place: str
    sentences: tuple[str, ...] = ()
    compared: int = 0
    equal: int = 0


def silent(_text: str) -> None:
    """Says nothing."""


def never() -> bool:
    """Never stops."""
    return False


def stop_if(should_stop: ShouldStop) -> None:
    """Raise Stopped when should_stop says so."""
    if should_stop():
        raise Stopped


def place_for(folder: RunFolder, name: str, to: str | Path | None) -> Path:
    """The folder to write to: `to`, or the run's own folder for exports of this name, which is replaced.

    Raises:
        ExportError: when `to` holds something already.
    """
    if to is None:
        path = folder.exports_path / name
    else:
        path = Path(to).expanduser()
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise ExportError(
                f"{str(path)!r} is not an empty folder, and nothing in it is replaced: give a new folder."
            )
    with explain_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def require_room(path: Path, needed: int) -> None:
    """Raise ExportError when the disk of `path` has less than `needed` bytes."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return  # writing says it
    if free < needed:
        raise ExportError(
            f"The disk of {str(path.parent)!r} has {free / 1e9:,.1f} GB left, but the export needs about "
            f"{needed / 1e9:,.1f} GB: free some space, or give a folder on another disk."
        )


@contextlib.contextmanager
def explain_disk(path: Path) -> Iterator[None]:
    """Turn what a full or broken disk raises inside this context into an ExportError."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:  # native writers have errors of their own
        if not disk_refuses(error):
            raise
        text = full_sentence(path.parent) if is_full(error) else refused_sentence(path, error)
        raise ExportError(text) from error
