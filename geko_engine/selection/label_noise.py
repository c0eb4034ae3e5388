"""Doubts the answers of an epoch that look wrong at their first sight, because samples like them have far lower losses.

So a wrong label is found after one visit; without look-alikes it takes two. Knows the trainer's parts, not its loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geko_engine.selection.buckets import SURPRISING, SUSPECT_PROBABILITY, Bucket
from geko_engine.selection.prompt_similarity import excess

if TYPE_CHECKING:
    from geko_engine.training.trainer import GEKOTrainer


def doubt(trainer: GEKOTrainer) -> None:
    """At the end of an epoch: mark the samples met in it that would be suspects at a second such visit, and whose loss
    is surprising.
    """
    if not trainer.config.enabled or not trainer.config.noise_guard:
        return
    states = trainer.states
    met = states.met_since(trainer.progress.epoch_start_step)
    which = np.flatnonzero((states.bucket[met] == Bucket.HARD) & (states.p_min[met] < SUSPECT_PROBABILITY))
    surprising = excess(trainer.samples, met, states.loss[met], which) > SURPRISING
    # The first process decides for all: the last bit of a sum may differ from machine to machine.
    states.arrays["surprising"][met[which]] = trainer.machine.gather(surprising)[0]
