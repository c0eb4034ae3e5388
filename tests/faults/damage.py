"""Damage to the files of a run that was killed, and which of its events are lost with a damaged line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "flipped": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "cut": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "missing": lambda data: None,
}


def damage_file(name: str, how: Callable[[bytes], bytes | None], folder: Path) -> None:
    """Change one file of a run, or remove it."""
    path = folder / name
    data = how(path.read_bytes())
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def damage_all_checkpoints(how: Callable[[bytes], bytes | None], folder: Path) -> None:
    for path in sorted((folder / "checkpoints").iterdir()):
        damage_file(f"checkpoints/{path.name}/weights.safetensors", how, folder)


def damage_events(number: int, how: str, folder: Path) -> None:
    """Change one line of events.jsonl, or cut the file in the middle of it."""
    path = folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    line, half = lines[number], len(lines[number]) // 2
    if how == "the rest missing":
        path.write_bytes(b"".join(lines[:number]) + line[:half])
        return
    lines[number] = {
        "cut in the middle": line[:half] + b"\n",
        "NUL bytes": line[:half] + b"\x00" * 8 + line[half + 8 :],
        "not UTF-8": b"\xff\xfe" + line,
    }[how]
    path.write_bytes(b"".join(lines))


def is_event(line: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether `event` of an outcome is that of `line`."""
    return all(line.get(name) == event.get(name) for name in ("type", "step", "epoch"))


def is_one_of(lines: list[dict[str, Any]], event: dict[str, Any]) -> bool:
    """Whether `event` of an outcome is that of one of `lines`."""
    return any(is_event(line, event) for line in lines)
