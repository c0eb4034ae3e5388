"""Skips, in the first epoch, samples that the model is predicted to answer correctly before they have come up.

The plan of the first epoch is revised when a sixteenth, an eighth, a quarter and a half of it are done, each time for
the part up to the next of these, so that each part is predicted from the freshest samples. What is skipped so and never
met stays skipped in later epochs, until its test fails: a share of the predicted samples is trained on all the same, and
enough of those must be answered correctly. Only what the model knew before the training is found so; what it has just
learned goes on being trained on until its own visits show that it is mastered. Numpy only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.epoch_plan import Plan, distribute_tokens
from geko_engine.selection.mastery import MASTERY_CRITERIA
from geko_engine.selection.prompt_similarity import probabilities
from geko_engine.selection.sample_records import Prediction, SampleStates
from geko_engine.selection.samples import Agree, SelectionData
from geko_engine.selection.step_sizes import shrunken_bounds

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of an epoch; at each but the last the part up to the next one is revised
FEWEST_TESTED, LEAST_RIGHT = 30, 0.8  # of the predicted samples that were met all the same so many must be right


class KnownPrediction:
    """The rule's state in one run.

    Attributes:
        revision: how often the plan of this epoch was revised. left_out: samples that predictions keep out of it.
        met, right: predicted samples that were trained on in this epoch all the same; of these, answered correctly.
        results: one {"left_out", "met", "right"} for each ended epoch.
    """

    def __init__(
        self,
        config: GEKOConfig,
        samples: SelectionData,
        states: SampleStates,
        *,
        seed: int,
        step_size: int,
        batch_size: int = 0,
        agree: Agree = lambda value: value,
    ) -> None:
        self.config, self._samples, self._states = config, samples, states
        self._seed, self._step_size, self._batch_size, self._agree = seed, step_size, batch_size, agree
        self.revision, self.left_out, self.met, self.right = 0, 0, 0, 0
        self.results: list[dict[str, int]] = []

    def begin_epoch(self, plan: Plan) -> None:
        """Count anew; `plan` is that of the epoch."""
        self.revision, self.met, self.right = 0, 0, 0
        known = np.flatnonzero(self._states.predicted_status == Prediction.KNOWN)
        self.left_out = len(np.setdiff1d(known, plan.order))

    def replan(self, plan: Plan, steps_done: int, *, epoch: int, since: int) -> Plan | None:
        """The revised plan where a revision is due; None to go on with `plan`.

        Args:
            steps_done: steps of `plan` that are done. since: optimizer step at which the epoch began.
        """
        if not self.is_due(plan, steps_done, epoch):
            return None
        self.revision += 1
        until, states = SHARES[self.revision], self._states
        candidates = part_of(plan, steps_done, until)
        candidates = candidates[(states.bucket[candidates] == Bucket.UNSEEN) & ~states.never_freeze[candidates]]
        met = states.met_since(since)
        right = states.correct[met].astype(bool)
        likely = probabilities(self._samples, met, right, candidates) > self.config.prediction_confidence
        states.predicted_status[candidates] = self._agree(likely)
        revised = revise(
            plan,
            steps_done,
            until,
            states.predicted_status == Prediction.KNOWN,
            self._samples.lengths,
            np.random.default_rng((self._seed, epoch, 2, self.revision)),
            config=self.config,
            step_size=self._step_size,
            batch_size=self._batch_size,
        )
        self.left_out += len(part_of(plan, steps_done, 1.0)) - len(revised.order)
        return revised

    def is_due(self, plan: Plan, steps_done: int, epoch: int) -> bool:
        """Whether a part of the first epoch begins that may be revised.

        Not where predictions are off, nor after a scan of every sample before the training, nor when their test fails.
        """
        if self.config.prediction_confidence >= 1 or self.config.initial_scan:
            return False
        if epoch or self.revision >= len(SHARES) - 1 or not self.is_trusted():
            return False
        return plan.share_done(steps_done) >= SHARES[self.revision]

    def is_trusted(self) -> bool:
        """Whether enough of the predicted samples that were met all the same in this epoch were answered correctly."""
        return self.met < FEWEST_TESTED or self.right >= LEAST_RIGHT * self.met

    def observe(self, ids: NDArray[Any], correct: NDArray[Any]) -> None:
        """Note how the predicted samples among `ids` [n] fared; `correct` is bool [n]. Call before the record changes."""
        predicted = self._states.predicted_status[ids] == Prediction.KNOWN
        self.met += int(predicted.sum())
        self.right += int((predicted & correct).sum())

    def end_epoch(self) -> None:
        """Note how the predictions fared; what they left out comes up again where they failed."""
        self.results.append({"left_out": self.left_out, "met": self.met, "right": self.right})
        if not self.is_trusted():
            self._states.withdraw(Prediction.KNOWN)

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: getattr(self, name) for name in ("revision", "left_out", "met", "right", "results")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name, value in state.items():
            setattr(self, name, value)


def part_of(plan: Plan, done: int, share: float) -> NDArray[Any]:
    """Ids in the steps of `plan` from `done` on, up to the share `share` of the epoch."""
    return np.concatenate([plan.order[:0], *(plan.ids(step) for step in range(done, _until(plan, done, share)))])


def _until(plan: Plan, done: int, share: float) -> int:
    """The step of `plan` at which the share `share` of the epoch is done."""
    begun = 1.0 - plan.share
    return max(done, min(plan.steps, round(plan.steps * (share - begun) / plan.share)))


def revise(
    plan: Plan,
    done: int,
    share: float,
    predicted: NDArray[Any],
    lengths: NDArray[Any],
    rng: np.random.Generator,
    *,
    config: GEKOConfig,
    step_size: int,
    batch_size: int = 0,
) -> Plan:
    """What is left of `plan` after `done` steps, less the predicted samples of its part up to `share` of the epoch.

    Those are replayed at the share frozen_replay like frozen ones, with the same weight. The steps of the part shrink as
    those of a whole epoch do; the steps after it stay as they are.

    Args:
        predicted: bool [count]. lengths: tokens [count]. step_size, batch_size: as in `plan_epoch`.
    """
    until = _until(plan, done, share)
    part = _positions(plan, done, until)
    part.sort()  # neighbours in the plan are of similar length
    known = predicted[plan.order[part]]
    replayed = known & (rng.random(len(part)) < config.frozen_replay)
    kept = part[~known | replayed]
    weights = plan.loss_weights.copy()
    exponent = MASTERY_CRITERIA[config.mastery].replay_weight_exponent
    weights[part[replayed]] *= (config.frozen_replay or 1.0) ** -exponent
    bounds = shrunken_bounds(len(kept), until - done, step_size, batch_size)
    steps = rng.permutation(len(bounds) - 1)
    starts, sizes = bounds[:-1][steps], np.diff(bounds)[steps]
    positions, later = np.concatenate([kept, _positions(plan, until, plan.steps)]), plan.sizes[until:]
    order, plain = plan.order[positions], plan.plain_tokens_per_step
    own = distribute_tokens(order[: len(kept)], starts, lengths, float(plain[done:until].sum()))
    return replace(
        plan,
        order=order,
        loss_weights=weights[positions],
        starts=np.concatenate([starts, len(kept) + np.cumsum(later) - later]),
        sizes=np.concatenate([sizes, later]),
        plain_tokens_per_step=np.concatenate([own, plain[until:]]),
        share=plan.share * (1 - done / plan.steps),
    )


def _positions(plan: Plan, first: int, last: int) -> NDArray[Any]:
    """Positions in `plan.order` that the steps from `first` up to `last` hold, step by step."""
    spans = zip(plan.starts[first:last], plan.sizes[first:last], strict=True)
    return np.concatenate([np.arange(0), *(np.arange(start, start + size) for start, size in spans)])
