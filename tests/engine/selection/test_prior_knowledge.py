"""Mastered samples are skipped only where the model knew a good part of the data before it was trained on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.geko_policy import GekoPolicy
from geko_engine.selection.policy import EpochInfo, SampleSignals
from geko_engine.selection.prior_knowledge import PriorKnowledge
from geko_engine.selection.samples import SelectionData


class Samples:
    """A thousand short samples, each of its own prompt."""

    lengths = np.full(1000, 8)
    targets = np.full(1000, 2)

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": np.arange(index, index + 8), "labels": np.array([-100] * 6 + [1, 2])}


def two_epochs(known_before: float, **changes: Any) -> GekoPolicy:
    """A run in which the model knows that share at the first visits of the first 64 samples, and everything afterwards."""
    samples: SelectionData = Samples()
    config = GEKOConfig(prediction_confidence=1.0, min_q_for_freeze=0.0, frozen_replay=0.0, **changes)
    policy, seen = GekoPolicy(config, samples, epochs=3, seed=0, step_size=8), 0
    for epoch in range(2):
        plan = policy.begin_epoch(EpochInfo(epoch, policy.step, epoch / 3))
        assert plan is not None
        for step in range(plan.steps):
            ids = plan.ids(step)
            right = (
                (np.arange(seen, seen + len(ids)) % 64 < known_before * 64) if seen < 64 else np.ones(len(ids), bool)
            )
            seen += len(ids)
            certain = np.where(right, 0.99, 0.3)
            policy.observe(ids, SampleSignals(np.where(right, 0.01, 2.0), right, certain, certain), policy.step + 1)
        policy.end_epoch()
        if epoch == 0:
            policy.states.partition(config)
    return policy


@pytest.mark.parametrize(
    ("known", "changes", "skips"), [(0.5, {}, True), (0.1, {}, False), (0.0, {"min_known_share": 0.0}, True)]
)
def test_mastered_samples_are_skipped_where_that_pays(known: float, changes: dict[str, float], skips: bool) -> None:
    policy = two_epochs(known, **changes)
    planned = [entry["planned"] for entry in policy.partitions]
    assert planned[0] == 1000 and (planned[1] < 100) == skips and (planned[1] == 1000) != skips
    assert ("this is plain training" in policy.criterion()) != skips
    assert policy.summary()["known_before"] == pytest.approx(known, abs=0.01)


def test_the_share_is_that_of_the_first_visits_and_is_kept_by_a_resume() -> None:
    prior = PriorKnowledge(10_000, 0.25)
    assert prior.share is None and not prior.pays
    prior.observe(np.ones(300, bool))
    prior.observe(np.zeros(400, bool))
    assert prior.share == pytest.approx(3 / 7) and prior.pays
    prior.observe(np.zeros(1000, bool))  # enough were seen by then
    again = PriorKnowledge(10_000, 0.25)
    again.load_state_dict(prior.state_dict())
    assert again.share == pytest.approx(3 / 7)
    earlier = PriorKnowledge(10_000, 0.25)
    earlier.load_state_dict({})  # a checkpoint of an earlier version, which always skipped
    assert earlier.pays
