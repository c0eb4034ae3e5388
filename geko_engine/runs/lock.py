"""The lock on a run folder: one process at a time writes a run. Knows no loop, no event and no page.

It is the operating system's lock on the file `.lock`, which stays in the folder: the kernel releases it when the process
ends, however it ends. While it is held, the file says by whom. On Linux it also holds between machines that share an NFS
folder. Where a file system has no locks, the run goes on without one, and says so.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from geko_engine.exceptions import RunLockedError

NAME = ".lock"
NO_LOCKS = {
    errno.ENOLCK,
    errno.ENOSYS,
    getattr(errno, "EOPNOTSUPP", errno.ENOSYS),
    getattr(errno, "ENOTSUP", errno.ENOSYS),
}
TRIES, PAUSE = 50, 0.01  # times, seconds: to take a lock whose holder is not named
FAR = 1 << 30  # Windows locks a byte, and nobody can read it then: one behind the content


@dataclass
class _Held:
    """A lock of this process: its open file, the thread that took it and how many times."""

    file: int
    thread: int
    times: int
    works: bool


_held: dict[Path, _Held] = {}
_guard = threading.RLock()


class RunLock:
    """Context manager: no other process writes the run inside it. The same thread may enter again.

    Args:
        path: the run folder.

    Attributes:
        works: False where the file system has no locks.

    Raises:
        RunLockedError: on entry, if another process (or thread) holds the lock; the sentence names it.
        OSError: on entry, if the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path
        self._path = path.resolve() / NAME
        self.works = True

    def __enter__(self) -> RunLock:
        with _guard:
            held = _held.get(self._path)
            if held is None:
                held = _held[self._path] = self._take()
            elif held.thread != threading.get_ident():
                raise self._locked(f"process {os.getpid()}")
            held.times += 1
            self.works = held.works
        return self

    def __exit__(self, *_: object) -> None:
        with _guard:
            held = _held[self._path]
            held.times -= 1
            if not held.times:
                del _held[self._path]
                with contextlib.suppress(OSError):
                    os.ftruncate(held.file, 0)
                os.close(held.file)  # releases it

    def _take(self) -> _Held:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            works = self._lock_or_name(file)
        except BaseException:
            os.close(file)
            raise
        with contextlib.suppress(OSError):  # on a full disk it is held all the same
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
            os.write(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        return _Held(file, threading.get_ident(), 0, works)

    def _lock_or_name(self, file: int) -> bool:
        """Lock `file`; False where there are no locks. Raises RunLockedError with the name of the holder.

        The holder writes its name just after it has the lock, and removes it just before it lets go: while there is none,
        it is tried again for a moment.
        """
        for left in range(TRIES, 0, -1):
            try:
                return _lock(file)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                    raise
                if left == 1 or os.fstat(file).st_size:
                    raise self._locked(_holder(file)) from error
            time.sleep(PAUSE)
        raise AssertionError("the last try returns or raises")

    def _locked(self, holder: str) -> RunLockedError:
        return RunLockedError(
            f"The run {self._folder.name} is being written by {holder}: wait until it has ended, or stop it first."
        )


def _lock(file: int) -> bool:
    """Lock an open file; False where its file system has no locks. Raises OSError when another process has locked it."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(file, FAR, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # Windows only
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _holder(file: int) -> str:
    """Who holds the lock, in words: what the file says may be of a holder that is gone."""
    try:
        os.lseek(file, 0, os.SEEK_SET)
        values: Any = json.loads(os.read(file, 1000))
        pid, host = int(values["pid"]), str(values["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    if host != socket.gethostname():
        return f"process {pid} on {host}"
    return f"process {pid}" if psutil.pid_exists(pid) else "another process"


def _forget() -> None:
    """A forked child (a data loader's worker) must not keep the lock of a parent that is gone."""
    global _guard
    _guard = threading.RLock()
    for held in _held.values():
        os.close(held.file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
