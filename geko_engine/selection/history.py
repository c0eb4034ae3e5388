"""The path of every sample, epoch by epoch: 6 bytes a sample and epoch, and 4 a sample. Knows no model; numpy only.

Four epochs of 1,000,000 samples are 28 MB, in memory, in each checkpoint and beside the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.exceptions import CheckpointError
from geko_engine.selection.sample_records import SampleStates
from geko_engine.storage.array_files import load_arrays, save_arrays

FIELDS = {
    "loss": np.float16,  # nan where the sample was not visited in this epoch
    "confidence": np.float16,  # the same
    "correct": np.uint8,  # as known at the end of the epoch, visited or not
    "bucket": np.uint8,  # the same
}
LARGEST = float(np.finfo(np.float16).max)


class History:
    """The path of `count` samples; `arrays` has one [epochs, count] array for each of FIELDS.

    Attributes:
        epochs, steps: [epochs], number of each kept epoch (from 1) and the optimizer step at its end. An epoch that was
            not whole is not kept: how its samples stand is in the record itself.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._rows: list[dict[str, NDArray[Any]]] = []
        self._visits = np.zeros(count, np.uint32)  # of each sample at the last append
        self._epochs: list[int] = []
        self._steps: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def epochs(self) -> NDArray[Any]:
        return np.array(self._epochs, np.int32)

    @property
    def steps(self) -> NDArray[Any]:
        return np.array(self._steps, np.int32)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        none = np.zeros((0, self.count))
        return {
            name: np.stack([row[name] for row in self._rows]) if self._rows else none.astype(dtype)
            for name, dtype in FIELDS.items()
        }

    def append(self, states: SampleStates, *, epoch: int, step: int) -> None:
        """Enter how all samples stand at the end of `epoch` (from 1), `step` optimizer steps into the run."""
        visits = states.visits().astype(np.uint32)
        visited = visits != self._visits
        self._rows.append(
            {
                "loss": _where(visited, states.loss),
                "confidence": _where(visited, states.confidence),
                "correct": states.correct.copy(),
                "bucket": states.bucket.copy(),
            }
        )
        self._visits = visits
        self._epochs.append(epoch)
        self._steps.append(step)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays."""
        return {**self.arrays, "visits": self._visits, "epochs": self.epochs, "steps": self.steps}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` gave. Raises CheckpointError when it is of another number of samples."""
        if len(state["visits"]) != self.count:
            raise CheckpointError(
                f"The history is of {len(state['visits'])} samples, but the data has {self.count}: "
                "resume with the data that the run was started with."
            )
        self._visits = state["visits"]
        self._epochs, self._steps = state["epochs"].tolist(), state["steps"].tolist()
        self._rows = [{name: state[name][i] for name in FIELDS} for i in range(len(self._epochs))]

    def save(self, path: str | Path) -> None:
        """Write everything to a safetensors file."""
        save_arrays(self.state_dict(), path)

    def load(self, path: str | Path) -> None:
        """Read what `save` wrote. Raises CheckpointError when it is of another number of samples."""
        self.load_state_dict(load_arrays(path))


def _where(visited: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """The values of the visited ones as float16, clipped to its range; nan for the others."""
    return np.where(visited, np.clip(values, -LARGEST, LARGEST), np.nan).astype(np.float16)
