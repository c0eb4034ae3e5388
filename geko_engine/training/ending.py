"""Where a run ends, at which learning rate, and with which weights: a length found by itself, a time limit, early stopping.

Knows figures and weights, but no data and no loop: the loop asks after each step, and brings what it has measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.config.training_choices import EXACT_MATCH
from geko_engine.reporting.events import Evaluated, LengthChecked
from geko_engine.training.auto_length import USELESS, AutoLength, LengthCheck
from geko_engine.training.state import TrainerState
from geko_engine.training.weight_average import BestWeights, WeightAverage

AVERAGE, BEST = "average.", "best."  # begin the names of the tensors in a checkpoint
TIME_IS_UP = "The time limit of {minutes:g} minutes is reached."
ENOUGH = "More training would not help: the held-out loss has reached its lowest point."
ALL = "The most that the run may take is reached."
NOT_FINITE = "The held-out loss is not finite: lower training.learning_rate, or warm up for longer."
AVERAGED = "The average of the latest weights is delivered."


class Ending:
    """Decides about the end of one run.

    Args:
        model: with its adapters. args: of the run. steps_per_epoch: of plain training.

    Attributes:
        expected_bytes: of what `tensors` will be, at most.
        has_delivered: whether the model was given other weights than those that training would go on from.
    """

    def __init__(self, model: nn.Module, args: GEKOTrainingArgs, steps_per_epoch: int) -> None:
        self._args, self._steps_per_epoch = args, steps_per_epoch
        self._most_steps = args.planned_steps(steps_per_epoch)
        self._average = WeightAverage(model) if args.averages else None
        self._best = BestWeights(model) if args.load_best_model_at_end and not args.finds_length else None
        self.has_delivered = False
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.expected_bytes = 4 * count * ((self._average is not None) + (self._best is not None))

    def delivers_best(self, state: TrainerState) -> bool:
        """Whether the weights of an earlier evaluation are what the run ends with."""
        return self._best is not None and self._best.is_kept and state.best_step != state.step

    # ------------------------------------------------------------ time
    def time_share(self, seconds: float) -> float:
        """Share of the time limit that `seconds` of running are, in [0, 1]; 0 without a limit."""
        limit = self._args.time_limit
        return min(1.0, seconds / limit) if limit else 0.0

    def is_time_up(self, seconds: float) -> bool:
        """Whether the time limit ends the run."""
        return self.time_share(seconds) >= 1.0

    @property
    def time_is_up(self) -> str:
        """The reason for a run that the time limit has ended."""
        return TIME_IS_UP.format(minutes=round(self._args.time_limit / 60, 2))

    # ------------------------------------------------------------ a length found by itself
    def share_done(self, state: TrainerState) -> float:
        """Share of the most that a run which finds its length by itself may take, in [0, 1]."""
        return min(1.0, max(state.step / self._most_steps, self.time_share(state.seconds)))

    def after_step(self, state: TrainerState) -> None:
        """Take the weights of the last step into the average."""
        if self._average is not None:
            self._average.update(state.step)

    def is_check_due(self, state: TrainerState) -> bool:
        """Whether the length is to be judged now."""
        return self._args.finds_length and not state.is_enough and self._lengths(state).is_due(state.step)

    def judge_length(self, state: TrainerState, loss: float, seconds: float) -> LengthChecked:
        """What a check has found; notes in `state` where more would not help.

        Args:
            loss: of the averaged weights on the held-out samples, nats per target. seconds: that the check took.
        """
        found = self._lengths(state).judge(state.step, loss)
        state.is_enough = not found.goes_on
        return LengthChecked(
            step=found.step,
            epochs=found.step / self._steps_per_epoch,
            loss=loss,
            lowest_at=found.lowest_at,
            gain=found.gain,
            goes_on=found.goes_on,
            seconds=seconds,
            sentence=self._sentence(found),
        )

    def length_reason(self, state: TrainerState) -> str:
        """Why a run that finds its length by itself ends here; "" where it goes on."""
        if state.is_enough:
            return ENOUGH if state.length_checks[-1][1] < USELESS else NOT_FINITE
        return ALL if self._args.finds_length and state.step >= self._most_steps else ""

    def _lengths(self, state: TrainerState) -> AutoLength:
        return AutoLength(state.length_checks, self._steps_per_epoch)

    def _sentence(self, found: LengthCheck) -> str:
        if not found.goes_on:
            return ENOUGH if math.isfinite(found.loss) else NOT_FINITE
        if found.is_near:
            return "The held-out loss seems to have reached its lowest point: the next check decides."
        if found.lowest_at is None or found.gain is None or found.lowest_at > self._most_steps:
            return "The held-out loss still falls as fast as before: going on."
        return (
            f"The held-out loss is expected to fall by another {100 * found.gain:.0f} %, until about epoch "
            f"{found.lowest_at / self._steps_per_epoch:.1f}: going on."
        )

    # ------------------------------------------------------------ evaluations
    def judge_evaluation(self, state: TrainerState, found: Evaluated) -> str:
        """Keep the best weights, and say why the run ends here, or ""."""
        args = self._args
        if args.finds_length or not (args.load_best_model_at_end or args.early_stopping_patience):
            return ""
        value = -found.exact_match if args.metric_for_best_model == EXACT_MATCH else found.eval_loss
        if math.isfinite(value) and (state.best_value is None or value < state.best_value):
            state.best_step, state.best_value, state.evaluations_since_best = found.step, value, 0
            if self._best is not None:
                with self.weights(state):
                    self._best.keep()
            return ""
        state.evaluations_since_best += 1
        if not 0 < args.early_stopping_patience <= state.evaluations_since_best:
            return ""
        return (
            f"Early stopping: {args.metric_for_best_model} was best at step {state.best_step:,} and has not improved at "
            f"{state.evaluations_since_best} evaluations since."
        )

    # ------------------------------------------------------------ weights
    @contextmanager
    def weights(self, state: TrainerState) -> Iterator[None]:
        """Inside, the model has the weights that it would be delivered with if the run ended now: the average, where it is kept."""
        if self._average is None or not state.step or self.has_delivered:
            yield
        else:
            with self._average.in_place():
                yield

    def deliver(self, state: TrainerState) -> str:
        """Give the model the weights that the run is to end with; a sentence where these are not the last ones."""
        if self._best is not None and self.delivers_best(state):
            self._best.deliver()
            self.has_delivered = True
            return f"The weights of step {state.best_step:,} are delivered, where {self._args.metric_for_best_model} was best."
        if self._average is not None and state.step:
            self._average.deliver()
            self.has_delivered = True
            return AVERAGED
        return ""

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        average = self._average.state_dict() if self._average is not None else {}
        best = self._best.state_dict() if self._best is not None else {}
        return {AVERAGE + name: t for name, t in average.items()} | {BEST + name: t for name, t in best.items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> bool:
        """Go on from what `tensors` gave, for a model that has the weights of the checkpoint.

        Returns:
            Whether the average begins at the model's weights, as the checkpoint has none.

        Raises:
            KeyError: where the average lacks a weight.
        """
        self.has_delivered = False
        if self._best is not None:
            self._best.load_state_dict(_part(tensors, BEST))
        average = _part(tensors, AVERAGE)
        if self._average is None:
            return False
        self._average.load_state_dict(average or self._average.weights())
        return not average

    def forget_lost_best(self, state: TrainerState) -> bool:
        """Look for the best evaluation anew where its weights were not kept; whether that is so."""
        if self._best is None or self._best.is_kept or state.best_step is None:
            return False
        state.best_step, state.best_value, state.evaluations_since_best = None, None, 0
        return True


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
