"""Where a run stands, JSON-ready. Knows no model and no loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geko_engine.training.compute import TokenCounter


@dataclass
class Progress:
    """Where a run stands, JSON-ready: together with record, plan and random states it is all that a resume needs.

    Tokens and losses are summed over the run, `epoch_*` over the present pass; seconds are those of running.
    """

    step: int = 0
    epoch: int = 0
    step_in_plan: int = 0
    epoch_start_step: int = 0
    epoch_due: float = 0.0  # tokens of plain training that the steps of this pass stood for so far
    epoch_loss: float = 0.0  # summed over its targets
    epoch_targets: float = 0.0
    revision: int = 0  # of the plan of this pass
    epoch_predicted_met: int = 0  # samples that look-alikes told to be known, met in this pass all the same
    epoch_predicted_right: int = 0  # of these, answered right
    train_loss: float | None = None  # mean over the targets of the last whole pass
    planned: bool = False
    seconds: float = 0.0
    train_seconds: float = 0.0
    finished: bool = False
    evaluation_due: bool = True  # before the training; then again when a step or a pass says so
    reason: str = ""
    counter: TokenCounter = field(default_factory=TokenCounter)
    predicted: list[dict[str, int]] = field(default_factory=list)  # one entry a pass: left out, met, right
    panel_asked: bool = False  # whether the first look at the panel is done, or was not wanted
    churn: list[dict[str, float]] = field(default_factory=list)  # one entry a later look: epoch, settled, churns
    buckets: list[dict[str, int]] = field(default_factory=list)  # one entry a partition
    evaluations: list[dict[str, Any]] = field(default_factory=list)
