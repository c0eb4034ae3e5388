"""Plain training with a record: every sample in every epoch. The other policies build on it. Numpy only."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.curriculum import Phase
from geko_engine.selection.epoch_plan import Plan, plan_epoch
from geko_engine.selection.history import History
from geko_engine.selection.policy import (
    EpochInfo,
    EpochSummary,
    SampleSignals,
    ScanRequest,
    When,
)
from geko_engine.selection.sample_records import BucketCounts, SampleStates
from geko_engine.selection.samples import Agree, SelectionData


class UniformPolicy:
    """Trains on every sample once per epoch, and records what the model makes of each.

    Args:
        config: thresholds of the buckets, which are recorded here and decide nothing.
        samples: the training samples (lengths, targets and tokens).
        epochs: epochs of the run. seed: of all random choices.
        step_size: samples of an optimizer step. batch_size: of them, those of one forward pass; 0 for all.
        group_by_length: whether samples of similar length share a step.
        agree: returns the first process's value in every process; the last bit of a sum may differ between machines.
    """

    def __init__(
        self,
        config: GEKOConfig,
        samples: SelectionData,
        *,
        epochs: int,
        seed: int = 42,
        step_size: int,
        batch_size: int = 0,
        group_by_length: bool = True,
        agree: Agree = lambda value: value,
    ) -> None:
        self.config, self.samples, self.epochs, self.seed = config, samples, epochs, seed
        self.step_size, self.batch_size, self.agree = step_size, batch_size, agree
        self.group_by_length = group_by_length
        self.states, self.history = SampleStates(len(samples)), History(len(samples))
        self.listed: NDArray[Any] = np.zeros(0, np.int64)
        self.plan: Plan | None = None
        self.reason = ""
        self.epoch, self.epoch_start_step, self.step = 0, 0, 0
        self.partitions: list[dict[str, int]] = []  # one entry an epoch: what was planned, and the buckets

    def scan_request(self, when: When, steps_done: int = 0) -> ScanRequest | None:
        return None

    def scanned(self, request: ScanRequest, signals: SampleSignals) -> None:
        raise NotImplementedError("this policy asks for no scan")

    def begin_epoch(self, epoch: EpochInfo) -> Plan | None:
        self.epoch, self.step = epoch.number, epoch.step
        self.plan = self._plan(epoch)
        if self.plan is not None:
            self.epoch_start_step = epoch.step
            planned = {"epoch": self.epoch, "planned": len(self.plan.order)}
            self.partitions.append(planned | asdict(self.counts()))
        return self.plan

    def _plan(self, epoch: EpochInfo) -> Plan | None:
        self.states.begin_epoch()
        return plan_epoch(
            self.states,
            self.samples.lengths,
            self.config,
            epoch=epoch.number,
            seed=self.seed,
            step_size=self.step_size,
            batch_size=self.batch_size,
            group_by_length=self.group_by_length,
            longest_first=epoch.number == 0,
            everything=True,
        )

    def replan(self, steps_done: int) -> Plan | None:
        return None

    def observe(self, ids: NDArray[Any], signals: SampleSignals, step: int) -> None:
        self.step = step
        self._record(ids, signals, trained=True)

    def _record(self, ids: NDArray[Any], signals: SampleSignals, *, trained: bool) -> None:
        self.states.record(
            ids,
            signals.loss,
            signals.confidence,
            signals.correct,
            signals.min_target_probability,
            step=self.step,
            config=self.config,
            trained=trained,
        )

    def end_epoch(self) -> EpochSummary:
        self._conclude()
        self.plan, self.epoch = None, self.epoch + 1
        self.history.append(self.states, epoch=self.epoch, step=self.step)
        return self._epoch_summary()

    def _conclude(self) -> None:
        """What the rules of a policy make of the epoch that has just ended; its number is still `epoch`."""

    def _epoch_summary(self) -> EpochSummary:
        return EpochSummary()

    def phase(self, progress: float) -> Phase | None:
        return None

    def counts(self) -> BucketCounts:
        return self.states.counts()

    def pruned_count(self) -> int:
        return 0

    def summary(self) -> dict[str, Any]:
        return {
            "buckets": self.partitions,
            "predicted": [{"left_out": 0, "met": 0, "right": 0}] * self.epoch,
            "churn": [],
            "final_buckets": asdict(self.counts()),
            "pruned": self.pruned_count(),
            "mastery": "",
            "mastery_reason": "",
            "criterion": "",
        }

    def state_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ("epoch", "epoch_start_step", "step", "partitions", "reason")}
        plan = {} if self.plan is None else prefixed("plan", self.plan.state_dict())
        return (
            values
            | prefixed("states", self.states.state_dict())
            | prefixed("history", self.history.state_dict())
            | plan
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.states.load_state_dict(part(state, "states"))
        self.history.load_state_dict(part(state, "history"))
        plan = part(state, "plan")
        self.plan = Plan.from_state_dict(plan) if plan else None
        for name in ("epoch", "epoch_start_step", "step", "partitions", "reason"):
            setattr(self, name, state[name])


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    """`state` with "prefix." before each of its names."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def part(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The values whose names begin with "prefix.", by the rest of their names."""
    return {name.removeprefix(f"{prefix}."): value for name, value in state.items() if name.startswith(f"{prefix}.")}
