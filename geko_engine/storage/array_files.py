"""Named arrays in one safetensors file. safetensors is imported only when a file is read or written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def save_arrays(arrays: Mapping[str, NDArray[Any]], path: str | Path) -> None:
    """Write `arrays` to the file `path`."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path))


def load_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """What `save_arrays` wrote."""
    from safetensors.numpy import load_file

    found: dict[str, NDArray[Any]] = load_file(str(path))
    return found
