"""Full disks: recognizing the errors of all libraries, one sentence for the user, and a reserve for the last event.

Knows no run.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from geko_engine.exceptions import RunError

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # disk full, file size limit, quota
# safetensors and torch.save do not raise OSError; their message says it.
FULL_MESSAGE = re.compile(
    r"No space left|Disk quota exceeded|File too large|os error (27|28|122)\b|file write failed|PytorchStreamWriter"
    r"|basic_ios::clear: iostream error|unexpected pos \d+ vs \d+"
)
REFUSED = FULL | {errno.EIO, errno.EROFS, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.EACCES, errno.EPERM}
REFUSED_MESSAGE = re.compile(r"\(os error (1|5|6|13|19|30|116)\)")  # of safetensors and tokenizers, written in Rust
BEGINNING = "The disk of "
DISK_FULL = 28  # exit code of a worker that could not write its last event
MUCH = 1_000_000_000  # bytes
RESERVE = ".reserve"
RESERVE_BYTES = 65_536


def is_full(error: BaseException | None) -> bool:
    """Whether `error`, or an error that caused it, means that the disk is full."""
    return _means(error, FULL, FULL_MESSAGE)


def disk_refuses(error: BaseException | None) -> bool:
    """Whether `error`, or an error that caused it, means that the disk is full, broken or read-only."""
    return is_full(error) or _means(error, REFUSED, REFUSED_MESSAGE)


def _means(error: BaseException | None, numbers: Collection[int], words: re.Pattern[str]) -> bool:
    """Whether `error`, or an error that caused it, has one of these numbers or says these words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in numbers:
            return True
        if words.search(str(error)):
            return True
        error = error.__cause__
    return False


def says_disk_is_full(reason: str) -> bool:
    """Whether the reason of a run's end is `full_sentence`."""
    return reason.startswith(BEGINNING)


def full_sentence(folder: Path) -> str:
    """The sentence that the disk of `folder` is full, and what to do."""
    free = free_bytes(folder)
    left = f" ({free / 1e6:.1f} MB left)" if free < MUCH else ""  # with more free space, a quota or a limit is full
    return f"{BEGINNING}{str(folder)!r} is full{left}: free some space there, for example by deleting old runs."


def free_bytes(folder: Path) -> int:
    """Bytes left on the disk of `folder`; MUCH where that cannot be found out."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return MUCH


def shortage_sentence(folder: Path, free: int, needed: int, what: str) -> str:
    """The sentence of a run that waits for room.

    Args:
        folder: on the disk.
        free, needed: bytes.
        what: cannot be written.
    """
    return (
        f"{BEGINNING}{str(folder)!r} has {free / 1e6:,.1f} MB left, but {needed / 1e6:,.1f} MB are needed for {what}: free "
        "some space there, for example by deleting old runs, and the run goes on by itself."
    )


@contextlib.contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError inside this context into a RunError at output_dir."""
    try:
        yield
    except OSError as error:
        raise RunError(
            full_sentence(folder) if is_full(error) else refused_sentence(folder, error), "output_dir"
        ) from error


def refused_sentence(folder: Path, error: BaseException) -> str:
    """The sentence that `folder` could not be written, and why."""
    return f"Writing to {str(folder)!r} failed ({getattr(error, 'strerror', '') or error}): check the disk."


def try_twice(write: Callable[[], None], failures: tuple[type[Exception], ...] = (OSError,)) -> None:
    """Call `write`, and once more if that fails: for files that the run could not write again later."""
    try:
        write()
    except failures:
        write()


def keep_reserve(folder: Path) -> None:
    """Reserve some space, so that a run on a full disk can still write how it ended."""
    with contextlib.suppress(OSError):
        (folder / RESERVE).write_bytes(bytes(RESERVE_BYTES))


def free_reserve(folder: Path) -> None:
    """Free the reserved space."""
    with contextlib.suppress(OSError):
        (folder / RESERVE).unlink(missing_ok=True)
