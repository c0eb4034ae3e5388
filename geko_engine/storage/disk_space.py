"""A full disk: how every library says so, in one sentence for the user; and a little space kept for a run's last words.

Knows no run.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from geko_engine.exceptions import RunError

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # the disk, a limit, a quota
# Not every library that writes in C++ or Rust raises an OSError: safetensors and torch.save tell it in their text.
SAID = re.compile(
    r"No space left|Disk quota exceeded|File too large|os error (27|28|122)\b|file write failed|PytorchStreamWriter"
)
BEGINNING = "The disk of "
DISK_FULL = 28  # exit code of a worker that had no room for its last words
MUCH = 1_000_000_000  # bytes
RESERVE = ".reserve"
RESERVE_BYTES = 65_536


def is_full(error: BaseException | None) -> bool:
    """Whether `error`, or what it came from, says that there is no room left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if SAID.search(str(error)):
            return True
        error = error.__cause__
    return False


def tells_full(reason: str) -> bool:
    """Whether the reason of a run's end is that sentence."""
    return reason.startswith(BEGINNING)


def full_sentence(folder: Path) -> str:
    """That the disk of `folder` is full, and what can be done."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        free = MUCH
    left = f" ({free / 1e6:.1f} MB left)" if free < MUCH else ""  # with more left it is a quota or a limit
    return f"{BEGINNING}{str(folder)!r} is full{left}: free some space there, old runs first."


@contextlib.contextmanager
def written(folder: Path) -> Iterator[None]:
    """What cannot be written below `folder` in here becomes a RunError at output_dir."""
    try:
        yield
    except OSError as error:
        said = f"Writing below {str(folder)!r} failed ({error.strerror or error})."
        said = full_sentence(folder) if is_full(error) else said
        raise RunError(said, "output_dir") from error


def keep_reserve(folder: Path) -> None:
    """Take some space now, so that a run on a full disk can still say how it ended."""
    with contextlib.suppress(OSError):
        (folder / RESERVE).write_bytes(bytes(RESERVE_BYTES))


def free_reserve(folder: Path) -> None:
    """Give that space back."""
    with contextlib.suppress(OSError):
        (folder / RESERVE).unlink(missing_ok=True)
