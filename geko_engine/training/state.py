"""Where a run stands, JSON-ready. Knows no model, no rule and no loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geko_engine.training.compute import TokenCounter
from geko_engine.training.step_times import StepTimes

DROPPED = ("decay_from", "decay_until", "decay_seconds")  # of earlier versions


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
        length_checks: [step, loss] of each check of a length that is found by itself.
        is_enough: whether the last of them has found that more training would not help.
        general_losses: on the rows that show whether the model forgets. general_passed: `counter.passed` at the last of them.
        best_step: whose weights are the best so far, at an evaluation; None where that is not asked. best_value: of the figure that decides, lower
            is better. evaluations_since_best: later ones.
        scan_seconds: of scoring that the policy asked for. step_times: how long steps take.
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
    scan_seconds: float = 0.0
    finished: bool = False
    evaluation_due: bool = True
    skipped_in_a_row: int = 0
    backward_cost: float = 0.0
    length_checks: list[list[float]] = field(default_factory=list)
    is_enough: bool = False
    general_losses: list[float] = field(default_factory=list)
    general_passed: int = 0
    best_step: int | None = None
    best_value: float | None = None
    evaluations_since_best: int = 0
    reason: str = ""
    events: int | None = 0
    counter: TokenCounter = field(default_factory=TokenCounter)
    step_times: StepTimes = field(default_factory=StepTimes)
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_evaluated(self) -> bool:
        """Whether the last evaluation was of this step."""
        return bool(self.evaluations) and self.evaluations[-1]["step"] == self.step > 0

    def begin_epoch(self) -> None:
        """A plan for the next epoch is made, and nothing of it is done."""
        self.planned, self.step_in_plan = True, 0
        self.epoch_plain_tokens, self.epoch_loss, self.epoch_targets = 0.0, 0.0, 0.0

    def end_epoch(self) -> None:
        """All steps of the present epoch are done."""
        self.train_loss = self.epoch_loss / max(1.0, self.epoch_targets)
        self.epoch, self.planned, self.step_in_plan = self.epoch + 1, False, 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainerState:
        """The state that `asdict` made `values` of; what earlier versions did not save has its default."""
        values = {name: value for name, value in values.items() if name not in DROPPED}
        counter, times = TokenCounter(**values["counter"]), StepTimes(**values.get("step_times", {}))
        return cls(**{**values, "counter": counter, "step_times": times})
