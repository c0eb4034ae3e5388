"""How the samples of a run are doing, group by group: by file, by answer, by a column of the data. Numpy only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from geko_app.samples.store import Samples
from geko_engine.exceptions import RunError


@dataclass(frozen=True)
class Group:
    """The samples that have one value in common.

    Attributes:
        value: the text that they share. samples: how many they are. visited: of them, trained on or scored.
        loss: mean of the last visits, nats per target; nan without any. right: share of the visited ones that is correct.
        mislabeled: how many are likely mislabeled. compute: share of all tokens that were trained on.
        forgotten: how many were right after some epoch, and are wrong now.
    """

    value: str
    samples: int
    visited: int
    loss: float
    right: float
    mislabeled: int
    compute: float
    forgotten: int


def slicings(samples: Samples) -> dict[str, list[Group]]:
    """Name of each slicing of a run -> its groups, the largest loss first.

    Raises:
        RunError: the run has kept no slices.
    """
    try:
        found = read_slices(samples.folder.slices_path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(
            "This run has kept no groups of its samples: it was made by an earlier version of GEKO."
        ) from error
    return {
        name: _groups(samples, values, member)
        for name, (values, member) in found.items()
        if len(member) == samples.count
    }


def _groups(samples: Samples, values: list[str], member: NDArray[np.int32]) -> list[Group]:
    states, count = samples.states, len(values)

    def total(weights: NDArray[np.generic]) -> NDArray[np.float64]:
        return np.bincount(member, weights=weights.astype(float), minlength=count).astype(float)

    visited = samples.visited
    number, met = total(np.ones(samples.count)), total(visited)
    trained = total(states.seen * samples.facts["tokens"].astype(float))
    correct = visited & (states.correct > 0)
    loss, right = total(np.where(visited, states.loss, 0.0)), total(correct)
    with np.errstate(invalid="ignore"):
        loss, right = loss / met, right / met
    was_right = (
        (samples.history["correct"] > 0).any(axis=0) if len(samples.history["epochs"]) else np.zeros_like(visited)
    )
    suspect, forgotten = total(samples.suspects), total(was_right & visited & ~correct)
    share = trained / max(1.0, float(trained.sum()))
    order = np.argsort(-np.where(met > 0, loss, -1.0), kind="stable").tolist()
    return [
        Group(
            values[i],
            int(number[i]),
            int(met[i]),
            float(loss[i]),
            float(right[i]),
            int(suspect[i]),
            float(share[i]),
            int(forgotten[i]),
        )
        for i in order
    ]


def read_slices(path: Path) -> dict[str, tuple[list[str], NDArray[Any]]]:
    """What geko_engine/runs/sample_slices.py wrote: name of each slicing -> (its values, place of each sample's, [count]).

    Raises:
        OSError, ValueError, pa.ArrowException: the file cannot be read.
    """
    table = parquet.read_table(path)
    found = {}
    for name in json.loads((table.schema.metadata or {}).get(b"slices", b"[]")):
        column = table.column(name).combine_chunks().dictionary_encode()
        found[name] = (column.dictionary.to_pylist(), column.indices.to_numpy())
    return found
