"""Models on this computer: those in the Hub's cache and in folders, with their sizes. Loads none; imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geko_engine.models.names import ADAPTER
from geko_engine.storage.user_paths import FILE, kind_of

LONGEST_HEADER = 50_000_000  # bytes of a safetensors file before its tensors
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class StoredModel:
    """One model on the disk.

    Attributes:
        name: what to give as model.name.
        size: bytes of its weights.
        parameters: their number; None where the files do not say it.
        is_adapter: whether these are the weights of an adapter alone.
    """

    name: str
    size: int
    parameters: int | None
    is_adapter: bool = False


def model_in(folder: Path, name: str = "") -> StoredModel | None:
    """The model in a folder that save_pretrained wrote, or None.

    Args:
        folder: to look in.
        name: what to call it; the folder by default.
    """
    is_adapter = kind_of(folder / "config.json") != FILE
    if is_adapter and kind_of(folder / ADAPTER) != FILE:
        return None
    try:
        files = next((found for kind in WEIGHTS if (found := sorted(folder.glob(kind)))), [])
        if not files:
            return None
        counts = [_parameters(file) for file in files]
        known = [count for count in counts if count is not None]
        size = sum(file.stat().st_size for file in files)
    except OSError:
        return None
    return StoredModel(name or str(folder), size, sum(known) if len(known) == len(counts) else None, is_adapter)


def cached_models() -> Iterator[StoredModel]:
    """The models whose weights are in the cache of huggingface_hub, by name."""
    from huggingface_hub import constants

    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        snapshots = sorted(folder.glob("snapshots/*"), key=lambda path: path.stat().st_mtime, reverse=True)
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        found = (model for snapshot in snapshots if (model := model_in(snapshot, name)))
        yield from list(found)[:1]


def _parameters(file: Path) -> int | None:
    """The number of weights in a safetensors file, from its header; None for other files."""
    if file.suffix != ".safetensors":
        return None
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > LONGEST_HEADER:
            return None
        try:
            tensors = json.loads(opened.read(length))
            return int(sum(math.prod(t["shape"]) for name, t in tensors.items() if name != "__metadata__"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
