"""The seam between a training loop and the rule that decides which samples get compute. Numpy only; knows no loop.

A loop drives a policy like this:

    for epoch in range(epochs):
        if request := policy.scan_request(When.EPOCH_START):
            policy.scanned(request, scores of a forward pass without training)
        plan = policy.begin_epoch(EpochInfo(epoch, step, progress))
        if plan is None: stop, policy.reason says why
        step_in_plan = 0
        while step_in_plan < plan.steps:
            if request := policy.scan_request(When.STEP, step_in_plan):
                policy.scanned(request, scores)
            if new_plan := policy.replan(step_in_plan):
                plan, step_in_plan = new_plan, 0
                continue
            train on plan.ids(step_in_plan) with the loss weights plan.weights(step_in_plan)
            policy.observe(ids, signals, step)
            step_in_plan += 1
        if request := policy.scan_request(When.EPOCH_END):
            policy.scanned(request, scores)
        policy.end_epoch()
    if request := policy.scan_request(When.RUN_END):
        policy.scanned(request, scores of the weights that the run is saved with)

`tests/engine/selection/test_foreign_loop.py` is such a loop in plain PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geko_engine.selection.curriculum import Phase
from geko_engine.selection.epoch_plan import Plan
from geko_engine.selection.history import History
from geko_engine.selection.sample_records import BucketCounts, SampleStates


class When(Enum):
    """The moments at which a loop asks a policy whether samples should be scored without training."""

    EPOCH_START = "epoch_start"
    STEP = "step"
    EPOCH_END = "epoch_end"
    RUN_END = "run_end"  # the weights are those that the run is saved with


@dataclass(frozen=True)
class EpochInfo:
    """Where the run stands when an epoch begins.

    Attributes:
        number: the epoch, from 0. step: optimizer steps done so far. progress: share of the run done, in [0, 1].
    """

    number: int
    step: int
    progress: float


@dataclass(frozen=True)
class SampleSignals:
    """What a forward pass says about n samples; all arrays but the last are [n].

    Attributes:
        loss: mean negative log-likelihood per target token, in nats.
        correct: bool, every target is the most likely token.
        confidence: see BatchScores in geko_engine.scoring.
        min_target_probability: smallest probability of a target.
        target_probabilities: of each target, sample by sample, [sum of targets]; empty unless a scan asked for them.
    """

    loss: NDArray[Any]
    correct: NDArray[Any]
    confidence: NDArray[Any]
    min_target_probability: NDArray[Any]
    target_probabilities: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.float32))

    def of(self, mask: NDArray[Any]) -> SampleSignals:
        """Those of the samples in `mask` [n], without the probabilities of single targets."""
        arrays = (self.loss, self.correct, self.confidence, self.min_target_probability)
        return SampleSignals(*(array[mask] for array in arrays))


@dataclass(frozen=True)
class ScanRequest:
    """Samples to score with a forward pass alone. The loop counts its tokens as compute.

    Attributes:
        ids: sample ids [n], ascending. with_tokens: whether target_probabilities are needed.
        at_end: whether the samples are looked at once more because a person will read about them, and not to be trained on.
        phase, message: how it is shown to the user; "" for a scan too short to be shown.
    """

    ids: NDArray[Any]
    with_tokens: bool = False
    at_end: bool = False
    phase: str = ""
    message: str = ""


@dataclass(frozen=True)
class EpochSummary:
    """What an epoch came to, ready for the EpochEnded event.

    Attributes:
        predicted_left_out: samples that were left out because similar prompts are answered correctly.
        predicted_met: such samples that were trained on all the same. predicted_right: of these, answered correctly.
        criterion: what is left out from now on, and why, in words. messages: (level, sentence) pairs for the log.
    """

    predicted_left_out: int = 0
    predicted_met: int = 0
    predicted_right: int = 0
    criterion: str = ""
    messages: tuple[tuple[str, str], ...] = ()


class SelectionPolicy(Protocol):
    """Which samples get compute. A policy owns the record of every sample; a loop drives it as drawn above.

    Attributes:
        states, history: the record of every sample, and its path over the epochs.
        listed: ids of samples that a person will see for what their texts are like; set by whoever knows, scored at RUN_END.
        plan: the plan of the present epoch, None between epochs. reason: why there is no plan.
    """

    states: SampleStates
    history: History
    listed: NDArray[Any]
    plan: Plan | None
    reason: str

    def scan_request(self, when: When, steps_done: int = 0) -> ScanRequest | None:
        """Samples to score without training, or None. Asking again before `scanned` gives the same answer."""

    def scanned(self, request: ScanRequest, signals: SampleSignals) -> None:
        """The scores of a request, in the order of its ids."""

    def begin_epoch(self, epoch: EpochInfo) -> Plan | None:
        """The plan of an epoch; None when nothing is left to train on."""

    def replan(self, steps_done: int) -> Plan | None:
        """What replaces the rest of the present plan after `steps_done` of its steps; None to go on."""

    def observe(self, ids: NDArray[Any], signals: SampleSignals, step: int) -> None:
        """What optimizer step `step` saw of the samples it trained on."""

    def end_epoch(self) -> EpochSummary:
        """Close the epoch: every rule draws its conclusions, and the history gets its row."""

    def phase(self, progress: float) -> Phase | None:
        """The curriculum's phase at `progress` in [0, 1]; None without a curriculum."""

    def counts(self) -> BucketCounts:
        """Samples in each bucket now."""

    def pruned_count(self) -> int:
        """Samples that are pruned now."""

    def summary(self) -> dict[str, Any]:
        """The policy's part of report.json."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resume needs: arrays, and values that JSON can hold."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises CheckpointError when it is of other samples."""
