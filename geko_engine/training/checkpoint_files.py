"""Atomic write and verified read of everything that a resume needs. Knows files and tensors, and no loop.

A checkpoint is a folder `checkpoint-<step>`, written under another name, flushed to disk and then renamed: a
kill in the middle of writing leaves the previous one whole. `manifest.json` lists size and checksum of each file.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geko_engine.exceptions import CheckpointError, CheckpointNotFoundError
from geko_engine.storage.disk_space import disk_refuses, explain_write_errors

MANIFEST = "manifest.json"
BLOCK = 1 << 22  # bytes read at a time


def write_checkpoint(path: Path, write: Callable[[Path], None], facts: dict[str, Any]) -> None:
    """Let `write` fill a temporary folder, add the manifest with `facts`, and rename the folder to `path`.

    Raises:
        CheckpointError: when the disk is full or the folder cannot be written; nothing is left at `path` then.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        files = {str(p.relative_to(temporary)): _fingerprint(p) for p in sorted(temporary.rglob("*")) if p.is_file()}
        manifest = {**facts, "files": files}
        manifest["checksum"] = _checksum(manifest)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for file in temporary.rglob("*"):
            _flush(file)
        _set_aside(path)  # renamed, not removed: a kill in between leaves no checkpoint that is half gone
        temporary.replace(path)
        _flush(path.parent)
        _remove_aside(path.parent)
    except Exception as error:  # native writers have errors of their own
        shutil.rmtree(temporary, ignore_errors=True)
        if not isinstance(error, OSError) and not disk_refuses(error):
            raise
        raise CheckpointError(
            f"The checkpoint {str(path)!r} cannot be written ({getattr(error, 'strerror', None) or error}): free space "
            "or choose another output folder. The previous checkpoint is whole.",
            "output_dir",
        ) from error


def read_manifest(path: Path, *only: str) -> dict[str, Any]:
    """The facts of a checkpoint whose files are all there and unharmed.

    Args:
        only: the files to check, where the others are not needed; all of them by default.

    Raises:
        CheckpointNotFoundError: when there is no checkpoint at `path`.
        CheckpointError: naming what is missing or damaged.
    """
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        listed = manifest["files"].items()
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(f"{str(path)!r} is no whole checkpoint: it has no {MANIFEST}.") from error
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{str(path)!r} is no whole checkpoint: it has no readable {MANIFEST}.") from error
    checksum = manifest.pop("checksum", None)
    version_1 = checksum is None and "format" not in manifest  # it wrote neither
    if not version_1 and checksum != _checksum(manifest):
        raise CheckpointError(f"The {MANIFEST} of the checkpoint {str(path)!r} is damaged: resume from another one.")
    for name, fingerprint in listed:
        if only and name not in only:
            continue
        file = path / name
        if not file.is_file() or _fingerprint(file) != fingerprint:
            state = "damaged" if file.is_file() else "missing"
            raise CheckpointError(
                f"The file {name} of the checkpoint {str(path)!r} is {state}: resume from another one."
            )
    return manifest


def _numpy_state() -> tuple[Any, ...]:
    """numpy's state with its keys as a tensor, so that it can be read back without trusting the file."""
    name, keys, *rest = np.random.get_state()
    return (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest)


def random_states() -> dict[str, Any]:
    """The state of every random generator that training draws from."""
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": _numpy_state(),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = [torch.cuda.get_rng_state()]  # of the one GPU that this process uses
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Put every random generator back where `random_states` found it."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        # Earlier versions saved those of all GPUs. There may be fewer here.
        torch.cuda.set_rng_state(states["cuda"][min(torch.cuda.current_device(), len(states["cuda"]) - 1)])


def remove_old(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what a killed writer left.

    Raises:
        RunError: when the disk refuses.
    """
    with explain_write_errors(folder):
        for leftover in folder.glob(".checkpoint-*.writing"):
            shutil.rmtree(leftover, ignore_errors=True)
        for old in in_order(folder)[:-keep]:
            _set_aside(old)
        _remove_aside(folder)


def in_order(folder: Path) -> list[Path]:
    """The checkpoints below `folder`, oldest first, whole or not."""
    found = [p for p in folder.glob("checkpoint-*") if p.name.split("-")[-1].isdigit()]
    return sorted(found, key=lambda p: int(p.name.split("-")[-1]))


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint below `folder` whose files are all there and unharmed, and what is wrong with newer ones."""
    problems: list[str] = []
    for path in reversed(in_order(folder)):
        try:
            read_manifest(path)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def _set_aside(path: Path) -> None:
    """Rename a checkpoint so that no reader takes it for one any more."""
    if path.exists():
        path.replace(path.with_name(f".{path.name}.{secrets.token_hex(4)}.removed"))


def _remove_aside(folder: Path) -> None:
    for old in folder.glob(".checkpoint-*.removed"):
        shutil.rmtree(old, ignore_errors=True)


def _checksum(manifest: dict[str, Any]) -> int:
    """CRC-32 of a manifest's content."""
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def _fingerprint(path: Path) -> list[int]:
    """[bytes, CRC-32] of a file."""
    checksum, size = 0, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            checksum, size = zlib.crc32(block, checksum), size + len(block)
    return [size, checksum]


def _flush(path: Path) -> None:
    """Make sure that a file or folder has reached the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
