"""Scoring samples without training on them, shown as a phase of the run. Knows no rule."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.exceptions import Stopped
from geko_engine.reporting.events import Event, Message, PhaseChanged
from geko_engine.scoring.evaluation import SampleScores, in_id_order
from geko_engine.selection.policy import SampleSignals, SelectionPolicy, When
from geko_engine.training.engine import TrainingEngine
from geko_engine.training.state import TrainerState

SHOWN_EVERY = 0.5  # seconds


class Scans:
    """Scores samples on an engine.

    Args:
        emit: called with the events of a scan. should_stop: asked before each batch.

    Attributes:
        listed: gives the ids of samples that are listed for what their texts are like, [n]; the first process decides.
    """

    def __init__(self, engine: TrainingEngine, emit: Callable[[Event], None], should_stop: Callable[[], bool]) -> None:
        self._engine, self._emit, self._should_stop = engine, emit, should_stop
        self.listed: Callable[[], NDArray[Any]] = lambda: np.zeros(0, np.int64)

    def scores(
        self, samples: Any, ids: NDArray[Any], phase: str, message: str = "", *, with_tokens: bool = False
    ) -> SampleScores:
        """Score `ids`; a scan without a phase is too short to be shown. Raises Stopped."""
        shown = [0.0]

        def show(done: int, total: int) -> None:
            if phase and (time.monotonic() - shown[0] > SHOWN_EVERY or done == total):
                shown[0] = time.monotonic()
                self._emit(PhaseChanged(phase, message, done, total))

        if phase:
            self._emit(PhaseChanged(phase, message, 0, len(ids)))
        return self._engine.score_samples(samples, ids, self._should_stop, show, with_tokens=with_tokens)

    def for_policy(self, policy: SelectionPolicy, samples: Any, progress: TrainerState, when: When) -> None:
        """Score what the policy wants to see without training, and count it as compute. Raises Stopped."""
        request = policy.scan_request(when, progress.step_in_plan)
        if request is None:
            return
        began = time.monotonic()
        found = self.scores(samples, request.ids, request.phase, request.message, with_tokens=request.with_tokens)
        progress.scan_seconds += time.monotonic() - began
        progress.counter.scan(found.tokens, found.padding, len(found.ids))
        found = in_id_order(found)
        policy.scanned(
            request,
            SampleSignals(found.loss, found.correct, found.confidence, found.min_target_probability, found.probability),
        )

    def at_end(self, policy: SelectionPolicy, samples: Any, progress: TrainerState) -> None:
        """Score what will be listed once more, with the weights that the run is saved with; counted as compute.

        A stop leaves the record as it is: the run has ended all the same.
        """
        policy.listed = self._engine.gather(self.listed())[0]
        try:
            self.for_policy(policy, samples, progress, When.RUN_END)
        except Stopped:
            self._emit(
                Message("Stopped before samples were scored once more: the record shows the last visit of each.")
            )
