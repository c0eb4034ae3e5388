"""Atomic file writes: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import json
import math
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside `path` and rename it to `path`. Only for a single writer.

    Args:
        path: is always complete.
        write: called with the path of the temporary file.
    """
    temporary = path.with_name(f".{path.name}.writing")  # always the same name: replaces what a killed writer left
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_json(path: Path, values: Any) -> None:
    """Write `values` to `path` as JSON, atomically. Several processes and threads may write."""
    replace_text(path, json.dumps(finite(values), indent=1, allow_nan=False))


def replace_text(path: Path, text: str) -> None:
    """Write `text` to `path`, atomically. Several processes and threads may write."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder beside `path` and rename it to `path`. Only for a single writer.

    A kill at any moment leaves the old folder or the new one at `path`, or none; never a part of one.

    Args:
        path: of the folder; what is there is replaced.
        write: called with the path of an empty temporary folder.
    """
    temporary, old = path.with_name(f".{path.name}.writing"), path.with_name(f".{path.name}.removed")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        temporary.mkdir()
        write(temporary)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def finite(value: Any) -> Any:
    """`value` with NaN and infinities replaced by None: JSON has no such numbers, and browsers reject them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
