"""Runs geko-train in forked children, so that torch is imported once. A child can be armed with a fault (inject.c)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import importlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("inject.c")
PRELOADED = "GEKO_FAULTS_LIBRARY"
COUNT, KILL_BEFORE, KILL_INSIDE, FAIL_ONCE, FAIL_FROM_NOW_ON = range(5)
LIMIT_SECONDS = 120  # of a child that hangs
BUG = 70  # exit code of a child that ended with an exception


@dataclass(frozen=True)
class Arming:
    """What happens at the n-th operation below the runs folder: see inject.c."""

    at: int = -1
    mode: int = COUNT
    error: int = 0


def preloaded() -> None:
    """Start this program anew with inject.c loaded before all other libraries, unless it is."""
    if PRELOADED in os.environ:
        return
    library = Path(tempfile.mkdtemp(prefix="geko-faults-")) / "inject.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    quiet = {
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    environment = {**os.environ, **quiet, "LD_PRELOAD": str(library), PRELOADED: str(library)}
    os.execve(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]], environment)


def import_all(names: list[str]) -> None:
    """Import what the first run has imported, so that no other child has to."""
    for name in names:
        if name not in sys.modules and not name.startswith(("__", "tests.")):
            with contextlib.suppress(Exception):  # some modules can only be imported by their package
                importlib.import_module(name)


class Child:
    """A forked process that calls `work` and exits with what it returns; its output goes to `log`."""

    def __init__(self, work: Callable[[], int], log: Path) -> None:
        self.log = log
        self.pid = os.fork()
        if not self.pid:
            _run(work, log)

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        with _limit([self]):
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def wait_for_both(first: Child, second: Child) -> tuple[int, int]:
    """Their exit codes. When one has failed the other is killed, as a launcher does."""
    codes: dict[int, int] = {}
    with _limit([first, second]):
        while len(codes) < 2:
            pid, status = os.wait()
            codes[pid] = os.waitstatus_to_exitcode(status)
            if codes[pid] and len(codes) == 1:
                os.kill(second.pid if pid == first.pid else first.pid, signal.SIGKILL)
    return codes[first.pid], codes[second.pid]


@contextlib.contextmanager
def _limit(children: list[Child]) -> Iterator[None]:
    """Kill children that hang, so that the campaign goes on and counts them as lost."""

    def kill_all(*_: object) -> None:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill_all)
    signal.alarm(LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _run(work: Callable[[], int], log: Path) -> None:
    code = BUG
    try:
        os.setsid()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        faulthandler.enable()
        code = work()
    except BaseException:  # noqa: BLE001  (the edge of a process)
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def arm(runs: Path, arming: Arming, log: Path | None = None) -> None:
    """Let the fault happen in this process; `log` receives a line for each operation."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if log else -1
    library = ctypes.CDLL(os.environ[PRELOADED])
    library.faults_arm(str(runs).encode(), ctypes.c_long(arming.at), arming.mode, arming.error, file)


def geko_train(arguments: list[str]) -> int:
    """geko-train in this process."""
    import torch

    from geko_engine.cli import main

    torch.set_num_threads(1)
    return main(arguments)


ERRORS = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EROFS")}
