"""How far a run is, how many steps it has, where it ends, and the learning rate of its next step. Knows no data and no loop."""

from __future__ import annotations

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.config.training_choices import CONSTANT
from geko_engine.selection.epoch_plan import Plan
from geko_engine.training import reports
from geko_engine.training.ending import ALL, Ending
from geko_engine.training.schedule import learning_rate_at, warmup_cut, warmup_share
from geko_engine.training.state import TrainerState

WARMUP_EPOCHS = 3  # the warm-up of a run that finds its length is at most a tenth of so many


class RunSchedule:
    """The length of one run and the learning rate over it, by epochs, max_steps, a time limit or its own judgement.

    Args:
        args: of the run. ending: decides where a run of open length ends. steps_per_epoch: of plain training.

    Attributes:
        warmup_steps: optimizer steps of warm-up. warmup_cut: a sentence where that is less than was asked for, or "".
    """

    def __init__(self, args: GEKOTrainingArgs, ending: Ending, steps_per_epoch: int) -> None:
        self._args, self._ending = args, ending
        total_steps = args.planned_steps(steps_per_epoch)
        if args.finds_length:  # of a run whose length is open, a tenth may be more than all that it takes
            total_steps = min(total_steps, WARMUP_EPOCHS * steps_per_epoch)
        self._warmup = warmup_share(args.warmup_steps, total_steps, args.warmup_ratio)
        self.warmup_cut = warmup_cut(args, total_steps)
        self.warmup_steps = 0 if args.schedule == CONSTANT else round(self._warmup * total_steps)

    def share_done(self, state: TrainerState, plan: Plan | None) -> float:
        """Share of the run in [0, 1], by steps; `plan`: of the present epoch, None before the first one."""
        if state.finished:
            return 1.0
        if self._args.finds_length:
            return self._ending.share_done(state)
        timed = self._ending.time_share(state.seconds)
        if self._args.step_limit:
            return max(timed, state.step / self._args.step_limit)
        done = plan.share_done(state.step_in_plan) if plan and state.planned else 0.0
        return min(1.0, max(timed, (state.epoch + done) / self._args.epochs))

    def steps_planned(self, info: reports.RunInfo, state: TrainerState, plan: Plan) -> int:
        """Optimizer steps of the run, as far as is known now."""
        share = self.share_done(state, plan)
        steps = reports.steps_planned(info, state, plan)
        return min(steps, round(state.step / share)) if self._args.time_limit and share else steps

    def end_if_due(self, state: TrainerState) -> bool:
        """Whether the run ends at this step, which may be in the middle of an epoch; noted in `state` with the reason."""
        if reason := self._ending.length_reason(state):
            state.finished, state.reason = True, reason
        elif self._has_all_steps(state):
            state.finished = True
        elif self._ending.is_time_up(state.seconds):
            state.finished, state.reason = True, self._ending.time_is_up
        return state.finished

    def end_with_epoch(self, state: TrainerState) -> bool:
        """Whether the run ends with the epoch that is done: the last one, or that of the last step; noted in `state`."""
        if not self.end_if_due(state) and not self._args.step_limit and state.epoch >= self._args.epochs:
            state.finished, state.reason = True, ALL if self._args.finds_length else state.reason
        return state.finished

    def _has_all_steps(self, state: TrainerState) -> bool:
        """Whether max_steps ends the run here, which may be in the middle of an epoch."""
        return 0 < self._args.step_limit <= state.step

    def learning_rate(self, state: TrainerState, share_done: float, factor: float) -> float:
        """Of the next step.

        Args:
            share_done: of the run, in [0, 1]. factor: the curriculum's.
        """
        args = self._args
        if args.finds_length:
            risen = min(1.0, state.step / self.warmup_steps) if self.warmup_steps else 1.0
            return args.learning_rate * factor * risen
        return learning_rate_at(share_done, args.learning_rate, self._warmup, factor, args.schedule)
