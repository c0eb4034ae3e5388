"""Limits for a worker process that reads files of strangers: a damaged one must not take the memory of the machine."""

from __future__ import annotations

import contextlib

import psutil

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

RESERVED = 3 << 30  # bytes; torch reserves 1.1 GB more than it uses on 8 threads, and more on more


def limit_memory(size: int) -> None:
    """From now on, ask the system for at most `size` bytes; what is more is a MemoryError. Leaves no core dump.

    Memory-mapped files do not count. Where the system knows no such limit, nothing happens.
    """
    if resource is None:
        return
    for kind, limit in ((resource.RLIMIT_DATA, size), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def limit_time(seconds: int) -> None:
    """End this process after `seconds` of computing, also when nobody waits for it any more."""
    if resource is not None:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def most_of_free_memory() -> int:
    """Nine tenths of the memory that is free now and what libraries reserve without using it, in bytes."""
    return int(psutil.virtual_memory().available * 0.9) + RESERVED
