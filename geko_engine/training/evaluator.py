"""Measures the model of a run on rows that it is not trained on: evaluation set, retention, held-out loss. Knows no loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.batches import samples_to_judge
from geko_engine.exceptions import RunError
from geko_engine.reporting.events import Evaluated, Event, Message
from geko_engine.scoring.evaluation import SampleScores, in_id_order
from geko_engine.training import reports
from geko_engine.training.ending import Ending
from geko_engine.training.scans import Scans
from geko_engine.training.state import TrainerState

FORGOTTEN = 0.1  # of the loss on general rows: so much more is said
MOST = 0.1  # of the tokens that went through the model since the last time: where the general rows are more, they wait
WAITING = (
    "The general rows ({tokens:,} tokens) are measured when that is at most a tenth of what was trained since the last time, and at the end. "
    "Fewer rows in data.retention take less."
)


class Evaluator:
    """Evaluates the weights that the run would be delivered with, and lets `ending` judge what it finds.

    Args:
        samples: the evaluation set, or None. trained: number of samples that the run trains on.
        scans: computes the scores. emit: called with the events. warn: called with a sentence for the user.

    Attributes:
        general_samples: rows that show whether the model forgets, or None.
        last: scores of the last evaluation, of every row of the evaluation set in their order; None before the first.
    """

    def __init__(
        self,
        samples: Any,
        trained: int,
        scans: Scans,
        ending: Ending,
        args: GEKOTrainingArgs,
        emit: Callable[[Event], None],
        warn: Callable[[str], None],
    ) -> None:
        self._samples, self._trained, self._scans, self._ending = samples, trained, scans, ending
        self._seed, self._emit, self._warn = args.seed, emit, warn
        self.general_samples: Any = None
        self.last: SampleScores | None = None
        self._said = False

    def evaluate_if_due(self, state: TrainerState) -> bool:
        """Measure what there is to measure, if it is due; it may end the run. Returns whether it was. Raises Stopped."""
        due = state.evaluation_due and (self._samples is not None or self.general_samples is not None)
        if due:
            general = self._measure_retention(state) if self._is_retention_due(state) else []
            if self._samples is not None:
                reason = self._ending.judge_evaluation(state, self.evaluate(state))
                if reason and not state.finished:
                    state.finished, state.reason = True, reason
            self._keep(general, state)  # only now: a stop in the evaluation leaves both to be repeated
        state.evaluation_due = False  # only now: a stop in the middle leaves it due
        return due

    def evaluate(self, state: TrainerState) -> Evaluated:
        """Loss and exact match on the evaluation set; not counted as compute on either side.

        Raises:
            RunError: when there is no evaluation set. Stopped: when a stop was asked for.
        """
        if self._samples is None:
            raise RunError("There is no evaluation set: give eval_dataset.", "data.eval")
        began = time.monotonic()
        with self._ending.weights(state):
            found = self._scans.scores(self._samples, np.arange(len(self._samples)), "evaluating")
        self.last = in_id_order(found)
        event = reports.evaluated(state, found, time.monotonic() - began)
        state.evaluations.append(asdict(event))
        self._emit(event)
        return event

    def measure_at_end(self, state: TrainerState) -> None:
        """Measure the general rows where they have waited since weights that are not the last ones. Raises Stopped."""
        if state.general_losses and state.general_passed != state.counter.passed:
            self._keep(self._measure_retention(state), state)

    def _keep(self, general: list[float], state: TrainerState) -> None:
        if general:
            state.general_losses += general
            state.general_passed = state.counter.passed

    def _is_retention_due(self, state: TrainerState) -> bool:
        """Whether the general rows cost little beside what was trained since; they are measured first and last in any case."""
        if self.general_samples is None or state.finished or not state.general_losses:
            return True
        tokens = int(self.general_samples.lengths.sum())
        if tokens <= MOST * (state.counter.passed - state.general_passed):
            return True
        if not self._said:
            self._said = True
            self._emit(Message(WAITING.format(tokens=tokens)))
        return False

    def _measure_retention(self, state: TrainerState) -> list[float]:
        """The loss on rows that show whether the model forgets, if there are any; not counted as compute."""
        if self.general_samples is None:
            return []
        began, ids = time.monotonic(), np.arange(len(self.general_samples))
        with self._ending.weights(state):
            found = self._scans.scores(self.general_samples, ids, "evaluating", "general rows")
        measured = reports.retention(state, found, time.monotonic() - began)
        before = state.general_losses
        self._emit(measured)
        if before and before[-1] <= (1 + FORGOTTEN) * before[0] < measured.loss:
            self._warn(reports.forgetting_sentence(before[0], measured.loss))
        return [measured.loss]

    def check_length(self, state: TrainerState) -> None:
        """Judge from held-out samples whether the run ends; counted as compute, as plain training needs none of it."""
        began, samples = time.monotonic(), self._samples
        assert samples is not None, "a run without evaluation data cannot find its length"
        count = samples_to_judge(self._trained + len(samples))
        ids = np.sort(np.random.default_rng(self._seed).permutation(len(samples))[:count])
        with self._ending.weights(state):
            found = self._scans.scores(samples, ids, "")
        state.counter.scan(found.tokens, found.padding, len(ids))
        self._emit(self._ending.judge_length(state, found.mean_loss, time.monotonic() - began))
