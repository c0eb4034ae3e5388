"""Where a run stands, JSON-ready. Knows no model, no rule and no loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geko_engine.training.compute import TokenCounter


@dataclass
class TrainerState:
    """Where a run stands: with the policy's state, weights and random states it is all that a resume needs.

    Tokens and losses are summed over the run, `epoch_*` over the present epoch; seconds are those of running.

    Attributes:
        step, epoch: optimizer steps and epochs done. step_in_plan: steps of the present plan done.
        epoch_plain_tokens: tokens of plain training that the steps of this epoch stood for so far.
        plain_tokens: tokens of as many steps of plain training, summed over the run.
        epoch_loss: summed over its targets. epoch_targets: these.
        train_loss: mean over the targets of the last ended epoch.
        planned: whether an epoch has begun. evaluation_due: before the training, then when a step or an epoch says so.
        skipped_in_a_row: latest steps whose update was skipped because the gradient was not finite.
        backward_cost: of a backward pass, the forward pass being 1; 0 before the first step, which it is counted in.
        reason: why the run ended.
        events: number of the last event in the run's log when this was saved; None where that is not known.
    """

    step: int = 0
    epoch: int = 0
    step_in_plan: int = 0
    epoch_plain_tokens: float = 0.0
    plain_tokens: float = 0.0
    epoch_loss: float = 0.0
    epoch_targets: float = 0.0
    train_loss: float | None = None
    planned: bool = False
    seconds: float = 0.0
    train_seconds: float = 0.0
    finished: bool = False
    evaluation_due: bool = True
    skipped_in_a_row: int = 0
    backward_cost: float = 0.0
    reason: str = ""
    events: int | None = 0
    counter: TokenCounter = field(default_factory=TokenCounter)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
