"""How the samples of a run are doing, group by group: by file, by answer, by a column of the data. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geko_app.samples.store import Samples
from geko_engine.quality.label_issues import LIKELY, LOOK


@dataclass(frozen=True)
class Group:
    """The samples that have one value in common.

    Attributes:
        value: the text that they share. samples: how many they are. visited: of them, trained on or scored.
        loss: mean of the last visits, nats per target; nan without any. right: share of the visited ones that is correct.
        suspected: how many labels are, in either grade. compute: share of all tokens that were trained on.
        forgotten: how many were right after some epoch, and are wrong now.
    """

    value: str
    samples: int
    visited: int
    loss: float
    right: float
    suspected: int
    compute: float
    forgotten: int


def slicings(samples: Samples) -> dict[str, list[Group]]:
    """Name of each slicing of a run -> its groups, the largest loss first."""
    return {name: _groups(samples, values, member) for name, (values, member) in samples.slices.items()}


def in_group(samples: Samples, slicing: str, value: str) -> NDArray[np.bool_]:
    """Mask [count] of the samples of one group; all where the run has no such slicing, none where that has no such value."""
    if slicing not in samples.slices:
        return np.ones(samples.count, bool)
    values, member = samples.slices[slicing]
    return np.asarray(member == (values.index(value) if value in values else -1))


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
    suspect, forgotten = (
        total(samples.issues.mask(LIKELY) | samples.issues.mask(LOOK)),
        total(was_right & visited & ~correct),
    )
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
