"""One optimizer step: its samples forward and backward, the weights once, and what it leaves behind. Knows no rule."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import RunError, Stopped
from geko_engine.selection.epoch_plan import Plan, steps_per_epoch
from geko_engine.selection.policy import SampleSignals, SelectionPolicy
from geko_engine.training import reports
from geko_engine.training.checkpoint_files import random_states, restore_random_states
from geko_engine.training.engine import TrainingEngine
from geko_engine.training.state import TrainerState

MOST_SKIPPED = 3  # steps in a row without a finite gradient, then the run ends
WARM_UP = 2  # steps of each process that allocate and compile: their time says nothing about the others


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes:
        ids: of its samples [n]. scores: of them, see `as_columns` [SCORES, n]. tokens, targets: real and target tokens.
        updated: whether the weights moved. seconds: that it took. learning_rate: of its update.
        plain_tokens: of plain training that it stands for. plain_step_tokens: those of one step of plain training in its
            place; a plan of fewer steps than plain training has stands for more with each of them.
    """

    ids: NDArray[Any]
    scores: NDArray[Any]
    tokens: int
    targets: int
    updated: bool
    seconds: float
    learning_rate: float
    plain_tokens: float
    plain_step_tokens: float

    @property
    def loss(self) -> float:
        """Mean over the target tokens."""
        return float(self.scores[0].sum() / max(1, self.targets))


class StepRunner:
    """Runs the steps of plans on an engine.

    Args:
        should_stop: asked before each forward pass but the first. warn: called with a sentence for a skipped step.
    """

    def __init__(
        self,
        engine: TrainingEngine,
        samples: Any,
        args: GEKOTrainingArgs,
        should_stop: Callable[[], bool],
        warn: Callable[[str], None],
    ) -> None:
        self._engine, self._samples, self._args = engine, samples, args
        self._should_stop, self._warn = should_stop, warn
        self._recorded = 0

    def run(self, plan: Plan, index: int, batches: Iterator[dict[str, Tensor]], learning_rate: float) -> StepResult:
        """Forward, score and backward every forward pass of step `index` of `plan`, then update the weights.

        Record and counters move only with the weights: a stop in the middle leaves the step as if not begun.

        Raises:
            Stopped: if a stop was asked for between two forward passes.
        """
        began, engine = time.monotonic(), self._engine
        ids = plan.ids(index)
        lengths, targets = self._samples.lengths[ids], int(self._samples.targets[ids].sum())
        passes = engine.micro_batches.count(lengths)
        drawn = random_states() if passes > 1 else {}
        tables: list[Tensor] = []
        for number in range(passes):
            if tables and engine.any(self._should_stop()):
                engine.optimizer.zero_grad()
                restore_random_states(drawn)
                raise Stopped
            tables.append(engine.backward(next(batches), targets, last=number == passes - 1))
        scores, updated = engine.update(learning_rate, tables, lengths)
        seconds, plain = time.monotonic() - began, float(plan.plain_tokens_per_step[index])
        per_step = plain * plan.steps / (plan.share * steps_per_epoch(len(self._samples), engine.step_size))
        return StepResult(ids, scores, int(lengths.sum()), targets, updated, seconds, learning_rate, plain, per_step)

    def record(self, result: StepResult, progress: TrainerState, policy: SelectionPolicy) -> None:
        """Count the step and show the policy what its samples came to.

        Raises:
            RunError: when it was one of too many in a row without a finite gradient.
        """
        loss_sum, _, loss, correct, confidence, min_target_probability, width = result.scores
        progress.backward_cost = self._engine.backward_cost
        progress.step += 1
        progress.step_in_plan += 1
        signals = SampleSignals(loss, correct > 0.5, confidence, min_target_probability)
        finite = np.isfinite(loss)
        policy.observe(result.ids[finite], signals.of(finite), progress.step)
        progress.counter.train(result.tokens, int(width.sum()) - result.tokens, result.targets, len(result.ids))
        progress.epoch_plain_tokens += result.plain_tokens
        progress.plain_tokens += result.plain_step_tokens
        progress.epoch_loss += float(loss_sum[finite].sum())
        progress.epoch_targets += result.targets
        progress.train_seconds += result.seconds
        self._recorded += 1
        if self._recorded > WARM_UP:
            progress.step_times.add(result.tokens, result.seconds)
        self._check(result, progress)

    def _check(self, result: StepResult, progress: TrainerState) -> None:
        """Name what made a gradient useless."""
        if result.updated and np.isfinite(result.loss):
            progress.skipped_in_a_row = 0
            return
        progress.skipped_in_a_row += 1
        sentence = reports.skipped_sentence(self._samples, result.ids, result.scores[0], progress.step)
        if progress.skipped_in_a_row < MOST_SKIPPED:
            self._warn(sentence)
            return
        raise RunError(
            f"{sentence} It was the {MOST_SKIPPED}rd such step in a row. Lower the learning rate (now "
            f"{self._args.learning_rate:g}) or raise warmup_steps; the last checkpoint holds finite weights.",
            "training.learning_rate",
        )
