"""Several processes of one run (gloo), forked from the tests' own: no import of torch is repeated."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def in_processes(work: Callable[[], Any], count: int = 2) -> list[Any]:
    """What `work` returns in each of `count` processes, by rank. Fails with the traceback of the first that failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    children = []
    for rank in range(count):
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(work, rank, count, port, there), daemon=True)
        child.start()
        there.close()
        children.append((child, here))
    results = [_received(here) for _, here in children]
    for child, _ in children:
        child.join()
    for rank, (error, _) in enumerate(results):
        assert not error, f"process {rank}: {error}"
    return [result for _, result in results]


def _received(pipe: Connection) -> tuple[str, Any]:
    try:
        found: tuple[str, Any] = pipe.recv()
    except EOFError:
        return "it died without a word", None
    return found


def _child(work: Callable[[], Any], rank: int, count: int, port: int, pipe: Connection) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1")
    _forget_single_process()
    try:
        found = ("", work())
    except BaseException:  # noqa: BLE001  (the parent says it)
        found = (traceback.format_exc(), None)
    pipe.send(found)
    pipe.close()
    os._exit(0)


def _forget_single_process() -> None:
    """accelerate remembers that the process that this one was forked from was alone."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
