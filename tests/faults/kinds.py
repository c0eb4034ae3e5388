"""One fault, the row of the table that it belongs to, and which ones are tried."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

NATIVE = (".safetensors", ".safetensors.writing", ".pt", ".parquet.writing", "tokenizer.json")  # not written by Python


@dataclass(frozen=True)
class Fault:
    """One fault: its kind (a row of the table), what exactly happens, and how it is carried out.

    Attributes:
        attempt: gets an empty folder; returns what is wrong afterwards, nothing if the run survived.
    """

    kind: str
    name: str
    attempt: Callable[[Path], list[str]] = field(compare=False)


def rows_of(operation: str) -> tuple[str, str]:
    """The rows of the table for a SIGKILL before an operation, and inside or right after it."""
    name, _, path = operation.partition(" ")
    if "write" in name:
        native = path.endswith(NATIVE) or "/.tmp" in path
        return "SIGKILL before a write", f"SIGKILL inside a {'native ' if native else ''}write, half of it done"
    if name == "remove" and not path.startswith("/"):
        return "SIGKILL inside rmtree", "SIGKILL inside rmtree"
    words = {"create": "a file is created", "mkdir": "a folder is made", "fsync": "an fsync"}.get(name, f"a {name}")
    return f"SIGKILL before {words}", f"SIGKILL right after {words}"


def chosen(faults: list[Fault], number: int, seed: int) -> list[Fault]:
    """`number` of the faults, by turns of each kind, drawn by `seed`."""
    generator = random.Random(seed)
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    for one in kinds.values():
        generator.shuffle(one)
    found: list[Fault] = []
    while len(found) < min(number, len(faults)):
        for one in kinds.values():
            if one and len(found) < number:
                found.append(one.pop())
    return found
