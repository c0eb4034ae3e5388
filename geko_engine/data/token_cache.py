"""Tokenised data kept by content: the same rows, format, tokenizer and length are never tokenised twice.

The key is a digest of all of these, so nothing is ever stale. Files lie in $GEKO_CACHE, else in the user's cache
folder; the oldest go when together they pass MAX_BYTES.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from geko_engine.data.batches import TokenizedData
from geko_engine.data.rendering import RenderedRows
from geko_engine.exceptions import Stopped

LAYOUT = 6  # of the files, and of how a row becomes tokens: raise it when either changes
MAX_BYTES = 4 << 30
ARRAYS = ("tokens", "learnt", "offsets", "rows", "parts", "digests")
LISTS = ("truncated", "empty", "masked", "duplicates", "notes", "remarks")
ROWS_AT_A_TIME = 10_000


def cache_folder() -> Path:
    """Where the files are."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("GEKO_CACHE") or Path(base) / "geko") / "tokens"


def key_of(rendered: RenderedRows, max_length: int, should_stop: Callable[[], bool], *, keep_end: bool = False) -> str:
    """Digest of everything that decides the tokens of `rendered`.

    Raises:
        Stopped: when should_stop says so.
    """
    rows, tokenizer = rendered.rows, rendered.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    special = (tokenizer.special_tokens_map, getattr(tokenizer, "chat_template", None), type(tokenizer).__name__)
    digest = blake2b(
        repr((LAYOUT, repr(rendered.format), max_length, keep_end, special, vocabulary)).encode(), digest_size=16
    )
    for first in range(0, len(rows), ROWS_AT_A_TIME):
        if should_stop():
            raise Stopped
        digest.update(json.dumps(rows[first : first + ROWS_AT_A_TIME], default=str).encode())
    return digest.hexdigest()


def load(key: str) -> TokenizedData | None:
    """What was stored under `key`, or None; a damaged file counts as none."""
    path = cache_folder() / f"{key}.safetensors"
    try:
        with safe_open(str(path), framework="np") as file:
            lists = json.loads(file.metadata()["lists"])
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
        os.utime(path)  # the ones used last are kept
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    unusable = {int(row): reason for row, reason in lists.pop("unusable").items()}
    return TokenizedData(**arrays, **lists, unusable=unusable)


def store(key: str, data: TokenizedData) -> None:
    """Keep `data` under `key`. A full or read-only disk only means that it is not kept."""
    lists = {**{name: getattr(data, name) for name in LISTS}, "unusable": data.unusable}
    folder = cache_folder()
    with contextlib.suppress(OSError, SafetensorError):
        folder.mkdir(parents=True, exist_ok=True)
        number, temporary = tempfile.mkstemp(dir=folder, suffix=".writing")
        os.close(number)
        try:
            arrays = {name: getattr(data, name) for name in ARRAYS}
            save_file(arrays, temporary, metadata={"lists": json.dumps(lists)})
            Path(temporary).replace(folder / f"{key}.safetensors")
        finally:
            Path(temporary).unlink(missing_ok=True)
        _remove_oldest(folder)


def _remove_oldest(folder: Path) -> None:
    files = sorted(((p.stat().st_mtime, p.stat().st_size, p) for p in folder.glob("*.safetensors")), reverse=True)
    total = 0
    for _, size, path in files:
        total += size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)
