"""The plan of one epoch from the record: which samples, in which steps, with which loss weights. Pure, numpy only.

The same record, seed and epoch give the same plan. Frozen samples are really skipped; what that does to the steps is
decided in step_sizes.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import Bucket, bucket_loss_weights
from geko_engine.selection.mastery import MASTERY_CRITERIA
from geko_engine.selection.sample_records import Prediction, SampleStates
from geko_engine.selection.step_sizes import shrunken_bounds, whole_bounds

WINDOW_STEPS = 64  # lengths are sorted inside shuffled windows of so many steps
SUSPECT_SKIP = 0.9  # share of the suspected wrong labels that an epoch leaves out


@dataclass(frozen=True)
class Plan:
    """One epoch. Step i trains on `ids(i)` with the loss weights `weights(i)`.

    Attributes:
        order: sample ids [n]. starts, sizes: first position and length of each step [steps].
        loss_weights: float32 [n], aligned with order.
        plain_tokens_per_step: float64 [steps], tokens of plain training that each step stands for.
        share: share of the epoch that the plan covers: 1, and less once it was revised on the way.
        replayed, left_out, suspects: counts of samples, for the events.
    """

    order: NDArray[Any]
    loss_weights: NDArray[Any]
    starts: NDArray[Any]
    sizes: NDArray[Any]
    plain_tokens_per_step: NDArray[Any]
    share: float = 1.0
    replayed: int = 0
    left_out: int = 0
    suspects: int = 0

    @property
    def steps(self) -> int:
        return len(self.starts)

    def share_done(self, steps: int) -> float:
        """Share of the epoch that is done after `steps` of this plan."""
        return (1.0 - self.share) + self.share * (steps / max(1, self.steps))

    def ids(self, step: int) -> NDArray[Any]:
        """Sample ids of one step."""
        return self.order[self.starts[step] : self.starts[step] + self.sizes[step]]

    def weights(self, step: int) -> NDArray[Any]:
        """Loss weights of one step, aligned with `ids`."""
        return self.loss_weights[self.starts[step] : self.starts[step] + self.sizes[step]]

    def state_dict(self) -> dict[str, Any]:
        """Every field by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Plan:
        """The plan that `state_dict` was taken from."""
        return cls(**state)


def steps_per_epoch(count: int, step_size: int) -> int:
    """Optimizer steps of an epoch of plain training."""
    return -(-count // step_size)


def replay_shares(states: SampleStates, config: GEKOConfig) -> NDArray[Any]:
    """Share at which each sample is replayed while it is FREEZE, [count] float32."""
    pruned_share = min(config.pruned_replay, config.frozen_replay)
    return np.where(states.pruned(config), pruned_share, config.frozen_replay).astype(np.float32)


def choose_rechecks(states: SampleStates, config: GEKOConfig, *, epoch: int, seed: int) -> NDArray[Any]:
    """Ids [n], sorted, to score without training before `epoch`: a share of FREEZE; all before the first one if asked for."""
    if epoch == 0:
        return np.arange(states.count if config.initial_scan else 0, dtype=np.int32)
    frozen = np.flatnonzero(states.bucket == Bucket.FREEZE).astype(np.int32)
    rng = np.random.default_rng((seed, epoch, 1))  # its own stream: the plan must not depend on this draw
    return np.sort(rng.choice(frozen, round(config.recheck_ratio * len(frozen)), replace=False))


def select(
    states: SampleStates,
    bucket: NDArray[Any],
    config: GEKOConfig,
    rng: np.random.Generator,
    bucket_weights: tuple[float, float, float],
    *,
    skips_mastered: bool = True,
    skips_suspects: bool = False,
) -> tuple[NDArray[Any], NDArray[Any], dict[str, int]]:
    """Ids to train on, their loss weights, and the counts of what was replayed or left out.

    Args:
        bucket: as of the last partition, [count]. skips_mastered: or only what is FREEZE because it is stable.
        skips_suspects: most of them, see NoiseEvidence.
    """
    frozen = (bucket == Bucket.FREEZE) | (states.predicted_status == Prediction.KNOWN)
    if not skips_mastered:
        frozen &= states.predicted_status == Prediction.STABLE
    suspect = states.suspects()
    draw = rng.random(states.count, dtype=np.float32)
    shares = replay_shares(states, config)
    replayed = frozen & (draw < shares)
    skipped_suspect = suspect & (draw < SUSPECT_SKIP) & skips_suspects
    seen_too_often = ~frozen & (states.seen >= config.max_times_seen)
    planned = (~frozen & ~skipped_suspect & ~seen_too_often) | (replayed & (states.seen < config.max_times_seen))
    weights = np.zeros(states.count, np.float32)
    weights[planned] = bucket_loss_weights(bucket[planned], bucket_weights)
    # Stable samples keep weight 1: up-weighting would amplify noise that cannot be learned.
    raised = replayed & (states.predicted_status != Prediction.STABLE)
    weights[raised] *= shares[raised] ** -MASTERY_CRITERIA[config.mastery].replay_weight_exponent
    ids = np.flatnonzero(planned & (weights > 0)).astype(np.int32)
    counts = {
        "replayed": int((replayed & planned).sum()),
        "left_out": int((skipped_suspect | seen_too_often).sum()),
        "suspects": int(suspect.sum()),
    }
    return ids, weights[ids], counts


def is_full_epoch(config: GEKOConfig, epoch: int, num_epochs: int) -> bool:
    """Whether `epoch` (from 0) is one of the last, in which some criteria train on everything."""
    ratio = MASTERY_CRITERIA[config.mastery].full_epoch_ratio
    return ratio > 0 and epoch >= num_epochs - max(1, round(ratio * num_epochs))


def thaw_ratio(states: SampleStates, since_step: int) -> float | None:
    """Share of the samples that began the last epoch as FREEZE and were met in it that are FREEZE no more.

    None when none was met, so nothing is known. `since_step`: the step at which that epoch began.
    """
    met = (states.frozen_epochs > 0) & (states.last_step >= since_step)
    return float((states.bucket[met] != Bucket.FREEZE).mean()) if met.any() else None


def is_mastered(states: SampleStates, since_step: int, config: GEKOConfig) -> bool:
    """Whether the run may end early: 95 % of what can be learned is mastered and under 2 % of it thaws.

    A stable sample is FREEZE because training hardly changes it, not because its answer is right: it is not counted.
    """
    learnable = states.count - (int(states.suspects().sum()) if config.noise_guard else 0)
    thawed = thaw_ratio(states, since_step)
    mastered = (states.bucket == Bucket.FREEZE) & (states.predicted_status != Prediction.STABLE)
    return thawed is not None and thawed < 0.02 and int(mastered.sum()) >= 0.95 * learnable


def plan_epoch(
    states: SampleStates,
    lengths: NDArray[Any],
    config: GEKOConfig,
    *,
    epoch: int,
    seed: int,
    step_size: int,
    batch_size: int = 0,
    group_by_length: bool = True,
    bucket_weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
    longest_first: bool = False,
    everything: bool = False,
    skips_mastered: bool = True,
    skips_suspects: bool = False,
    bucket: NDArray[Any] | None = None,
    shared_draws: bool = False,
) -> Plan:
    """The plan of `epoch` (from 0).

    Args:
        lengths: tokens of each sample [count]. group_by_length: samples of similar length share a step.
        step_size: samples per optimizer step of plain training. batch_size: of them, those of one forward pass; 0 for
            all. Both of all processes together.
        longest_first: begin with the step that holds the longest sample, so that running out of memory
            happens at once and not after an hour.
        everything: every sample once, with weight 1. skips_mastered, skips_suspects: see `select`. bucket: as of the last partition, [count] (default: as of now).
        shared_draws: one stream of random numbers for what is left out and for the order, as version 1 had it. With two of
            them, the order is plain training's where nothing is left out.
    """
    rng = np.random.default_rng((seed, epoch))
    if config.enabled and not everything:
        ids, weights, counts = select(
            states,
            states.bucket if bucket is None else bucket,
            config,
            rng if shared_draws else np.random.default_rng((seed, epoch, 4)),
            bucket_weights,
            skips_mastered=skips_mastered,
            skips_suspects=skips_suspects,
        )
    else:
        ids, weights = np.arange(states.count, dtype=np.int32), np.ones(states.count, np.float32)
        counts = {}
    plain = steps_per_epoch(states.count, step_size)
    if len(ids) == states.count:
        bounds = whole_bounds(len(ids), step_size)
    else:
        bounds = shrunken_bounds(len(ids), plain, step_size, batch_size)
    shuffled = rng.permutation(len(ids))
    position = shuffled
    if group_by_length:
        window = np.searchsorted(bounds[WINDOW_STEPS:-1:WINDOW_STEPS], np.arange(len(ids)), "right")
        key = (
            window * (int(lengths.max(initial=0)) + 1) + lengths[ids[shuffled]]
        )  # window, then length: one sort for both
        position = shuffled[np.argsort(key, kind="stable")]
    order, weights = ids[position], weights[position]
    steps = rng.permutation(len(bounds) - 1)
    if longest_first and len(order):
        holder = int(np.searchsorted(bounds, np.argmax(lengths[order]), "right")) - 1
        at = int(np.flatnonzero(steps == holder)[0])
        steps[[0, at]] = steps[[at, 0]]
    starts, sizes = bounds[:-1][steps], np.diff(bounds)[steps]
    tokens = distribute_tokens(order, starts, lengths, float(lengths.sum()))
    return Plan(order, weights, starts, sizes, tokens, **counts)


def distribute_tokens(order: NDArray[Any], starts: NDArray[Any], lengths: NDArray[Any], total: float) -> NDArray[Any]:
    """`total` tokens of plain training, shared out to the steps by their own tokens."""
    if not len(starts):
        return np.zeros(0)
    ascending = np.argsort(starts)
    own = np.empty(len(starts))
    own[ascending] = np.add.reduceat(lengths[order].astype(float), starts[ascending])
    return np.asarray(own * (total / own.sum()))
