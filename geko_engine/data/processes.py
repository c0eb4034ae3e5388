"""Batches of rows worked on by several processes, in order. Knows nothing of what is done with them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

MOST_PROCESSES = 16
BATCHES_EACH = 2  # fewer are done sooner than a process is started
Batch = TypeVar("Batch")
Result = TypeVar("Result")


def process_count(batches: int) -> int:
    """How many processes share so many batches; 1 means none but this one.

    Args:
        batches: how many there are.

    Only Linux forks safely beside the threads of the libraries here; elsewhere one process does it all.
    """
    if not sys.platform.startswith("linux"):
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), MOST_PROCESSES, batches // BATCHES_EACH))


def in_order(work: Callable[[Batch], Result], batches: Sequence[Batch], processes: int) -> Generator[Result]:
    """`work(batch)` for each batch, in their order.

    Each process does every n-th batch and hands its results over by a pipe of its own, which also holds it back when
    it is too fast. When a process dies, for want of memory for instance, its batches are done here. When the reader
    stops early or dies, writing fails and the processes end.

    Args:
        work: is called in a copy of this process: what it changes stays there. Its result is pickled.
        batches: what it is called with.
        processes: how many share the work; with 1 it is done here.
    """
    if processes < 2:
        yield from map(work, batches)
        return
    readers: list[Connection | None] = []
    children: list[BaseProcess] = []
    try:
        for first in range(processes):
            reader, child = _start(work, batches[first::processes], readers)
            readers.append(reader)
            children.append(child)
        for number, batch in enumerate(batches):
            yield _received(readers, number % processes, work, batch)
    finally:
        for left in readers:
            if left is not None:
                left.close()
        for child in children:
            child.terminate()
            child.join()


def _start(
    work: Callable[[Batch], Result], mine: Sequence[Batch], others: Sequence[Connection | None]
) -> tuple[Connection, BaseProcess]:
    forked = multiprocessing.get_context("fork")  # rows and tokenizer are shared, not copied
    reader, writer = forked.Pipe(duplex=False)
    child = forked.Process(target=_serve, args=(work, mine, writer, [reader, *others]), daemon=True)
    with warnings.catch_warnings():
        # Python warns of threads that hold a lock at the fork: the child calls templates and the tokenizer only,
        # which has a guard of its own for that.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    writer.close()
    return reader, child


def _serve(
    work: Callable[[Batch], Result], batches: Sequence[Batch], writer: Connection, readers: list[Connection | None]
) -> None:
    for reader in readers:  # with these open, this process would not notice that nobody reads any more
        if reader is not None:
            reader.close()
    for batch in batches:
        try:
            writer.send(work(batch))
        except Exception:  # noqa: BLE001 - nobody reads any more; or an error in `work`, which the reader raises by doing it again
            return


def _received(readers: list[Connection | None], index: int, work: Callable[[Batch], Result], batch: Batch) -> Any:
    reader = readers[index]
    if reader is not None:
        try:
            return reader.recv()
        except (EOFError, OSError):  # the process is gone
            reader.close()
            readers[index] = None
    return work(batch)
