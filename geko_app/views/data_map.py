"""The samples of a run -> the data map of the Samples page: one point a sample, at most MAP_POINTS. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from geko_app.runs.live_state import BUCKETS
from geko_app.samples.store import Samples
from geko_engine.selection.buckets import Bucket

MAP_POINTS = 5000


def data_map(samples: Samples) -> dict[str, Any]:
    """The data map: one point a sample, by bucket, of confidence (y) against variability (x) over the epochs.

    Mean and standard deviation of the probability of a target token, exp(-loss), as in dataset cartography (Swayamdipta
    et al., 2020). The record's own confidence is that in whatever the model answers, right or wrong.
    """
    probability = np.exp(-samples.history["loss"].astype(np.float32))
    visits = np.isfinite(probability).sum(axis=0)
    eligible = np.flatnonzero(visits >= 2)
    priority = np.random.default_rng(0).random(
        samples.count
    )  # fixed, so that the same samples are chosen after every epoch
    chosen = np.sort(eligible[np.argsort(priority[eligible])[:MAP_POINTS]])
    some = probability[:, chosen]
    mean, spread = (np.nanmean(some, axis=0), np.nanstd(some, axis=0)) if len(chosen) else (chosen, chosen)
    bucket = samples.states.bucket[chosen]
    traces = [
        {
            "id": chosen[bucket == b].tolist(),
            "x": np.round(spread[bucket == b].astype(float), 4).tolist(),
            "y": np.round(mean[bucket == b].astype(float), 4).tolist(),
        }
        for b in (Bucket[name.upper()] for name in BUCKETS)
    ]
    return {"traces": traces, "note": map_note(len(chosen), len(eligible), samples.count)}


def map_note(shown: int, eligible: int, count: int) -> str:
    """How to read the map, below it."""
    if not eligible:
        return "The map needs samples that were visited in at least two epochs; there are none yet."
    which = f"A fixed random sample of {shown:,} is shown." if shown < eligible else "All of them are shown."
    return (
        f"{eligible:,} of {count:,} samples were visited in at least two epochs. {which} Top: the model knows them. Right: it "
        "is still learning them. Bottom left: it does not learn them; their labels are often wrong."
    )
