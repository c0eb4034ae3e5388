"""Leaves out what training hardly changes any more: samples whose likes get the same answers from the model as before.

For data of which hardly any answer is ever exactly right (long free text), where nothing counts as mastered otherwise. No
loss tells there what is known: wording that may be this or that keeps it up for ever, and what is hard falls too slowly to
be seen. But where something is still being learnt the probabilities of the targets move from look to look, up and down, long
before their mean does; what is known keeps them. That movement is called churn (between two versions of a model: Milani Fard
and others, 2016).

A small random panel is looked at without training, a first time early in the run and then at the end of each epoch; look-alikes
carry its churn over to all samples. What is told to change least is left out of the next epoch like all that is frozen, and
comes back when it changes again. It is done only where the panel itself confirms it, each member told by the others, and given
up as soon as answers come to be exactly right. The looks are counted as compute. Knows the trainer's parts, not its loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.prompt_similarity import told_by_others, told_value
from geko_engine.selection.sample_records import Told

if TYPE_CHECKING:
    from geko_engine.scoring.evaluation import Scan
    from geko_engine.training.trainer import GEKOTrainer

FIRST_LOOK = 1 / 4  # of the first epoch: by then the first shock of the training is over
MOST_RIGHT = 0.05  # where more of the answers are exactly right, those tell what is mastered
PANEL, PANEL_PART = 256, 16  # members: so many, but at most every sixteenth sample, as each look costs compute
FEWEST = 100  # members; of fewer nothing is told
MOST_CHURN = 0.05  # of what is settled: a model that moves more is still being shaped, whatever moves least
CLEARLY_LESS, SURE = 2 / 3, 3.0  # of the churn of the others; standard errors of the difference


@dataclass(frozen=True)
class Settled:
    """What a look at the panel told.

    Attributes:
        mask: bool [samples], what changes least; nothing where the panel does not confirm it.
        churn, others: mean churn of the panel's members told to be settled (each by the others), and of the rest.
    """

    mask: NDArray
    churn: float
    others: float


def look_if_due(trainer: GEKOTrainer) -> None:
    """The first look, once a quarter of the first epoch is done and hardly any answer was right so far. Raises Stopped."""
    progress, plan = trainer.progress, trainer.plan
    if progress.panel_asked or progress.epoch or plan is None or plan.share_done(progress.step_in_plan) < FIRST_LOOK:
        return
    wanted = is_wanted(trainer.config) and trainer.args.num_epochs > 1
    if wanted and right_since(trainer, progress.epoch_start_step) <= MOST_RIGHT:
        trainer.panel = _look(trainer)
    progress.panel_asked = True  # only now: a stop in the middle leaves it due


def look_again(trainer: GEKOTrainer) -> NDArray | None:
    """At the end of an epoch after which another follows: the panel as it is now; None without one. Raises Stopped."""
    if not len(trainer.panel) or trainer.progress.epoch + 1 >= trainer.args.num_epochs:
        return None
    if right_since(trainer, (trainer.progress.epoch_start_step + trainer.progress.step) // 2) > MOST_RIGHT:
        _give_up(trainer)
        return None
    return _look(trainer)


def heed_churn(trainer: GEKOTrainer, now: NDArray | None) -> None:
    """Tell anew what is settled, from the panel as it was at the last look and as it is `now`."""
    if now is None:
        return
    states, samples, progress = trainer.states, trainer.samples, trainer.progress
    panel = panel_of(samples, trainer.args.seed)
    churn = churn_between(trainer.panel, now, samples.targets[panel])
    # The first process decides for all: the last bit of a sum may differ from machine to machine.
    found = trainer.machine.gather(find_settled(samples, panel, churn, trainer.config.settled_share))[0]
    trainer.panel = now
    states.forget(Told.SETTLED)
    met = states.bucket != Bucket.UNSEEN  # what has not come up was told to be known: that stays, with its own test
    states.arrays["predicted"][found.mask & met & ~states.suspects() & ~states.never_freeze] = Told.SETTLED
    states.partition(trainer.config)
    settled = int((states.predicted == Told.SETTLED).sum())
    progress.churn.append(
        {"epoch": progress.epoch + 1, "settled": settled, "settled_churn": found.churn, "others_churn": found.others}
    )


def right_since(trainer: GEKOTrainer, step: int) -> float:
    """Share of the samples met after optimizer step `step` whose answer was exactly right."""
    return float(trainer.states.correct[trainer.states.met_since(step)].mean())


def _give_up(trainer: GEKOTrainer) -> None:
    trainer.panel = trainer.panel[:0]
    trainer.states.forget(Told.SETTLED)
    trainer.states.partition(trainer.config)
    trainer.progress.churn.clear()


def is_wanted(config: GEKOConfig) -> bool:
    """Whether churn may leave something out."""
    return config.enabled and config.mastery == "exact" and config.settled_share > 0


def panel_of(samples: Any, seed: int) -> NDArray:
    """Ids of the members, sorted; none of too few samples. Those without a target cannot change."""
    able = np.flatnonzero(samples.targets > 0)
    size = min(PANEL, len(able) // PANEL_PART)
    if size < FEWEST:
        return able[:0]
    return np.sort(np.random.default_rng((seed, 3)).choice(able, size, replace=False))


def churn_between(before: NDArray, now: NDArray, targets: NDArray) -> NDArray:
    """Mean change of the probability of each sample's targets, in [0, 1], [n].

    Args:
        before, now: probabilities, sample by sample, [sum of targets]. targets: of each sample, [n], none 0.
    """
    moved = np.abs(now - before)
    churn: NDArray = np.add.reduceat(moved, np.cumsum(targets) - targets) / targets
    return churn


def find_settled(samples: Any, panel: NDArray, churn: NDArray, share: float) -> Settled:
    """The samples that change least: as many as hold `share` of all churn, as the `panel` [n] and its `churn` [n] tell."""
    own = least(told_by_others(samples, panel, churn), share)
    nothing = np.zeros(len(samples), bool)
    if not own.any() or own.all():
        return Settled(nothing, float(churn.mean()), float(churn.mean()))
    settled, others = churn[own], churn[~own]
    gap = others.mean() - settled.mean()
    sure = gap > SURE * np.hypot(settled.std() / np.sqrt(len(settled)), others.std() / np.sqrt(len(others)))
    confirmed = sure and settled.mean() < CLEARLY_LESS * others.mean()
    mask = least(told_value(samples, panel, churn, np.arange(len(samples))), share) if confirmed else nothing
    return Settled(mask, float(settled.mean()), float(others.mean()))


def least(churn: NDArray, share: float) -> NDArray:
    """Mask [n] of the smallest values of `churn` [n] that together hold at most `share` of their sum, none above MOST_CHURN.

    What is told below 0 counts as 0.
    """
    churn = np.maximum(churn, 0)
    order = np.argsort(churn, kind="stable")
    mask = np.zeros(len(churn), bool)
    mask[order[np.cumsum(churn[order]) <= share * churn.sum()]] = True
    return mask & (churn <= MOST_CHURN)


def _look(trainer: GEKOTrainer) -> NDArray:
    """Probabilities of the panel's targets, member by member; empty where there is no panel, or the model gives none."""
    panel = panel_of(trainer.samples, trainer.args.seed)
    if not len(panel):
        return np.zeros(0, np.float32)
    found = trainer.machine.scan(
        trainer.samples, panel, trainer.should_stop, lambda done, total: None, with_tokens=True
    )
    trainer.progress.counter.scan(found.tokens, found.padding, len(panel))
    return member_by_member(found) if len(found.probability) else found.probability


def member_by_member(found: Scan) -> NDArray:
    """The probabilities of a scan, which went by length and by process, in the order of the ids."""
    members = np.split(found.probability, np.cumsum(found.targets).astype(int)[:-1])
    return np.concatenate([members[i] for i in np.argsort(found.ids)])
