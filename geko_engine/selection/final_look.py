"""What the list of suspicious samples is based on at the end of a run: the final model, not each sample's last visit. Numpy only.

A sample was last scored when it was last trained on, by weights that have changed since. So the suspects are scored once more
when the run is over. With final_scan all samples are, and then outliers are judged anew, among the final losses of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from geko_engine.selection.buckets import Bucket
from geko_engine.selection.policy import ScanRequest
from geko_engine.selection.sample_records import SampleStates


def final_request(states: SampleStates, listed: NDArray[np.int64], everything: bool) -> ScanRequest | None:
    """The suspects as the record stands, and the samples of `listed` [n], or all samples; None where there are none."""
    if everything:
        ids = np.arange(states.count, dtype=np.int64)
        return ScanRequest(ids, at_end=True, phase="scanning", message="scoring every sample with the final model")
    ids = np.union1d(np.flatnonzero(states.suspects()), listed).astype(np.int64)
    if not len(ids):
        return None
    return ScanRequest(ids, at_end=True, phase="scanning", message="scoring the listed samples with the final model")


@contextmanager
def looked_at_again(states: SampleStates, ids: NDArray[np.int64]) -> Iterator[None]:
    """Inside, visits of `ids` [n] are recorded that came without any training since the last ones.

    They can clear a sample of suspicion, but raise none: an outlier that is still HARD stays one, and HARD a second time
    in a row means after more training. A final scan of all samples judges outliers anew afterwards.
    """
    streak, outlier = states.hard_streak[ids], states.loss_outlier[ids]
    yield
    is_hard = states.bucket[ids] == Bucket.HARD
    states.hard_streak[ids] = np.where(is_hard, np.maximum(streak, 1), 0)
    states.loss_outlier[ids] = np.where(is_hard, outlier, 0)
