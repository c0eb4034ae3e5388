"""Skips samples that training hardly changes any more, on data where hardly any answer is ever exactly right.

There, as with long free text, exact match cannot show what is learned, and neither can the loss: free wording keeps it
high for ever, and the loss of hard samples falls too slowly to be visible within an epoch. But while something is still
being learned, the probabilities of the targets move from scan to scan, up and down, long before their mean does; what is
known keeps them. That movement is called prediction churn (between two versions of a model: Milani Fard and others,
2016).

A small random panel is scored without training, first early in the run and then at the end of each epoch; linear models
over prompts carry its churn over to all samples. Those with the least predicted churn are skipped in the next epoch like
frozen ones, and come back when they change again. This is done only where the panel itself confirms the difference, each
member predicted from the others, and dropped once answers come to be exactly right. The scans count as compute. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.epoch_plan import Plan
from geko_engine.selection.prompt_similarity import cross_predict, predict_values
from geko_engine.selection.sample_records import Prediction, SampleStates
from geko_engine.selection.samples import Agree, SelectionData

FIRST_SCAN = 1 / 4  # of the first epoch: by then the first shock of the training is over
MOST_RIGHT = 0.05  # where more of the answers are exactly right, those show what is mastered
PANEL, PANEL_PART = 256, 16  # members: so many, but at most every sixteenth sample, as each scan costs compute
FEWEST = 100  # members; with fewer nothing is predicted
MOST_CHURN = 0.05  # of what is stable: a model that moves more is still being shaped, whatever moves least
CLEARLY_LESS, SURE = 2 / 3, 3.0  # of the churn of the others; standard errors of the difference


@dataclass(frozen=True)
class StableSamples:
    """What a scan of the panel showed.

    Attributes:
        mask: bool [samples], what changes least; nothing where the panel does not confirm it.
        churn, others: mean churn of the panel members predicted to be stable (each from the others), and of the rest.
    """

    mask: NDArray[Any]
    churn: float
    others: float


class Stability:
    """The rule's state in one run.

    Attributes:
        panel: target probabilities of the panel at its last scan, member by member, [sum of their targets]; empty where
            there is none. asked: whether the first scan is done, or was not wanted.
        results: one {"epoch", "stable", "stable_churn", "others_churn"} for each later scan.
    """

    def __init__(
        self,
        config: GEKOConfig,
        samples: SelectionData,
        states: SampleStates,
        *,
        seed: int,
        epochs: int,
        agree: Agree = lambda value: value,
    ) -> None:
        self.config, self._samples, self._states = config, samples, states
        self._seed, self._epochs, self._agree = seed, epochs, agree
        self.panel = np.zeros(0, np.float32)
        self.asked = False
        self.results: list[dict[str, float]] = []
        self._scanned: NDArray[Any] | None = None  # the panel at the end of this epoch

    @property
    def is_enabled(self) -> bool:
        """Whether anything may be skipped as stable."""
        return self.config.stable_share > 0

    def first_scan(self, plan: Plan | None, steps_done: int, *, epoch: int, since: int) -> NDArray[Any] | None:
        """The panel's ids, once a quarter of the first epoch is done and hardly any answer was right so far."""
        if self.asked or epoch or plan is None or plan.share_done(steps_done) < FIRST_SCAN:
            return None
        if self.is_enabled and self._epochs > 1 and self._accuracy_since(since) <= MOST_RIGHT:
            panel = choose_panel(self._samples, self._seed)
            if len(panel):
                return panel
        self.asked = True
        return None

    def next_scan(self, epoch: int, *, since: int, step: int) -> NDArray[Any] | None:
        """The panel's ids at the end of an epoch that another follows; None without a panel.

        Args:
            since, step: optimizer steps at which the epoch began and ended.
        """
        if not len(self.panel) or epoch + 1 >= self._epochs:
            return None
        if self._accuracy_since((since + step) // 2) > MOST_RIGHT:
            self._drop_panel()
            return None
        return choose_panel(self._samples, self._seed)

    def scanned(self, probabilities: NDArray[Any]) -> None:
        """The target probabilities of the panel, member by member; empty where the model gives only losses."""
        if self.asked:
            self._scanned = probabilities
        else:
            self.panel, self.asked = probabilities, True

    def end_epoch(self, epoch: int) -> None:
        """Mark as stable what changed least since the last scan, where one was made at the end of `epoch`."""
        if self._scanned is None:
            return
        now, self._scanned = self._scanned, None
        states, samples = self._states, self._samples
        members = choose_panel(samples, self._seed)
        churn = prediction_churn(self.panel, now, samples.targets[members])
        found = self._agree(find_stable(samples, members, churn, self.config.stable_share))
        self.panel = now
        states.withdraw(Prediction.STABLE)
        met = states.bucket != Bucket.UNSEEN  # predictions about unseen samples stay: they have their own test
        states.predicted_status[found.mask & met & ~states.suspects() & ~states.never_freeze] = Prediction.STABLE
        states.partition(self.config)
        stable = int((states.predicted_status == Prediction.STABLE).sum())
        self.results.append(
            {"epoch": epoch + 1, "stable": stable, "stable_churn": found.churn, "others_churn": found.others}
        )

    def _accuracy_since(self, step: int) -> float:
        """Share of the samples met after optimizer step `step` whose answer was exactly right."""
        return float(self._states.correct[self._states.met_since(step)].mean())

    def _drop_panel(self) -> None:
        self.panel = self.panel[:0]
        self._states.withdraw(Prediction.STABLE)
        self._states.partition(self.config)
        self.results.clear()

    def state_dict(self) -> dict[str, Any]:
        """Arrays, and values that JSON can hold."""
        return {"panel": self.panel, "asked": self.asked, "results": self.results}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.panel, self.asked, self.results = np.asarray(state["panel"]), state["asked"], state["results"]


def choose_panel(samples: SelectionData, seed: int) -> NDArray[Any]:
    """Ids of the panel's members, sorted; none where there are too few samples. Those without a target cannot change."""
    able = np.flatnonzero(samples.targets > 0)
    size = min(PANEL, len(able) // PANEL_PART)
    if size < FEWEST:
        return able[:0]
    return np.sort(np.random.default_rng((seed, 3)).choice(able, size, replace=False))


def prediction_churn(before: NDArray[Any], now: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """Mean change of the probability of each sample's targets, in [0, 1], [n].

    Args:
        before, now: probabilities, sample by sample, [sum of targets]. targets: of each sample, [n], none 0.
    """
    moved = np.abs(now - before)
    churn: NDArray[Any] = np.add.reduceat(moved, np.cumsum(targets) - targets) / targets
    return churn


def find_stable(samples: SelectionData, panel: NDArray[Any], churn: NDArray[Any], share: float) -> StableSamples:
    """The samples that change least: as many as hold `share` of all churn, predicted from the `panel` [n] and its `churn` [n]."""
    own = lowest_with_share(cross_predict(samples, panel, churn), share)
    nothing = np.zeros(len(samples), bool)
    if not own.any() or own.all():
        return StableSamples(nothing, float(churn.mean()), float(churn.mean()))
    stable, others = churn[own], churn[~own]
    gap = others.mean() - stable.mean()
    sure = gap > SURE * np.hypot(stable.std() / np.sqrt(len(stable)), others.std() / np.sqrt(len(others)))
    confirmed = sure and stable.mean() < CLEARLY_LESS * others.mean()
    everyone = np.arange(len(samples))
    mask = lowest_with_share(predict_values(samples, panel, churn, everyone), share) if confirmed else nothing
    return StableSamples(mask, float(stable.mean()), float(others.mean()))


def lowest_with_share(churn: NDArray[Any], share: float) -> NDArray[Any]:
    """Mask [n] of the smallest values of `churn` [n] that together hold at most `share` of their sum, none above MOST_CHURN.

    Predictions below 0 count as 0.
    """
    churn = np.maximum(churn, 0)
    order = np.argsort(churn, kind="stable")
    mask = np.zeros(len(churn), bool)
    mask[order[np.cumsum(churn[order]) <= share * churn.sum()]] = True
    return mask & (churn <= MOST_CHURN)
