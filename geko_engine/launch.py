"""The processes of a run: how many a launcher started, or this one starts itself, and which one this is. Standard library only.

`Peers` are the further processes of a run that was started as one. This one stays the first: it writes, and it alone
decides about stops. The others do what they agree on, and end when it is gone, however it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-P", "-m", "geko_engine.peer")
FAILED = "GEKO-FAILED "  # begins the line in which a peer says why it failed
GROUP_TIMEOUT = timedelta(hours=3)  # that a process waits for another: the first one alone writes large checkpoints
PATIENCE = 20.0  # seconds that the first process has to notice by itself that a peer is gone
ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_FSDP": "accelerate's own FSDP",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "accelerate's parallelism_config",
}


def process_count() -> int:
    """Number of processes of this run; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_main_process() -> bool:
    """Whether this is the process that writes files and prints."""
    return int(os.environ.get("RANK") or 0) == 0


def is_launched() -> bool:
    """Whether a launcher, or the first process, has said which process this is."""
    return "WORLD_SIZE" in os.environ


def launcher_problem() -> str:
    """Why a run cannot start in what `accelerate launch` was configured for, and the way out; "" if it can."""
    for name, engine in ENGINES.items():
        if os.environ.get(name, "").lower() in ("1", "true", "yes", "on"):
            return (
                f"This run was launched with {engine} ({name}), which is not supported: take it out of accelerate's "
                "configuration. For a model that does not fit one GPU, set training.fsdp to full_shard."
            )
    return ""


class Peers:
    """The further processes that this one starts for its run; none before `start`. Use it as a context manager.

    Args:
        folder: of the run.
        on_lost: called in another thread with (reason, field) when a peer failed and this process did not notice for
            PATIENCE seconds; it should end this process.
    """

    def __init__(self, folder: Path, on_lost: Callable[[str, str], None]) -> None:
        self._folder, self._on_lost = folder, on_lost
        self._processes: list[subprocess.Popen[str]] = []
        self._before: dict[str, str | None] = {}
        self._reason: tuple[str, str] | None = None
        self._failed, self._over = threading.Event(), threading.Event()

    def start(self, count: int, gpus: Sequence[str], *, resume: bool) -> None:
        """Start `count` - 1 processes, and become the first of `count`.

        Args:
            gpus: numbers of the GPUs to use, among those that are visible now; () for the first ones.
        """
        if gpus:
            self._set(CUDA_VISIBLE_DEVICES=",".join(visible_names(gpus)))
        if count == 1:
            return
        shared = {
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())},
            **{"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)},
        }
        if "OMP_NUM_THREADS" not in os.environ:
            shared["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // count))
        if sys.platform == "linux" and "GLOO_SOCKET_IFNAME" not in os.environ:
            shared["GLOO_SOCKET_IFNAME"] = "lo"  # nobody else needs to reach them
        self._set(RANK="0", LOCAL_RANK="0", **shared)
        for rank in range(1, count):
            process = _start(rank, [*COMMAND, str(self._folder), *(["--resume"] if resume else [])])
            self._processes.append(process)
            threading.Thread(target=self._follow, args=(rank, process), name=f"peer-{rank}", daemon=True).start()

    def failure(self, seconds: float = 5.0) -> tuple[str, str] | None:
        """(reason, field) of the first peer that failed; waits for it, as an error here is often what came of that."""
        if not self._processes:
            return None
        self._failed.wait(seconds)
        return self._reason

    def __enter__(self) -> Peers:
        return self

    def release(self) -> None:
        """From now on it does not matter how they end: this process has all that it needs of them."""
        self._over.set()

    def __exit__(self, *_: object) -> None:
        self.release()
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()  # a peer ends with it
            process.wait()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _set(self, **values: str) -> None:
        for name, value in values.items():
            self._before.setdefault(name, os.environ.get(name))
            os.environ[name] = value

    def _follow(self, rank: int, process: subprocess.Popen[str]) -> None:
        """In a thread: hand on what a peer prints, and see why it ended."""
        reason, field = "", ""
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(FAILED):
                reason, field = json.loads(line.removeprefix(FAILED))
            else:
                print(line, end="", file=sys.stderr)
        code = process.wait()
        if self._over.is_set() or (code == 0 and not reason):
            return
        if self._reason is None:
            self._reason = (reason or f"Process {rank} of the run ended unexpectedly (exit code {code}).", field)
            self._failed.set()
        text, field = self._reason
        if not self._over.wait(PATIENCE):
            self._on_lost(text, field)


def _start(rank: int, command: list[str]) -> subprocess.Popen[str]:
    """A peer. It gets the Hub token by its pipe: others can read the environment of a process."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, encoding="utf-8", errors="replace", **pipes)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended already, and its follower says so
        process.stdin.write(os.environ.get("HF_TOKEN", "") + "\n")
        process.stdin.flush()
    return process


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def visible_names(gpus: Sequence[str]) -> list[str]:
    """The names that CUDA has for GPUs: those that are visible to this process may be some of all.

    Args:
        gpus: their numbers among the visible ones.
    """
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return [visible[int(number)] if int(number) < len(visible) else number for number in gpus]
