"""What GEKO is measured against in the savings benchmark: trainers that spend a given compute in other ways."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.third_party import silence
from benchmarks.workload import watch
from geko_engine import Bucket, BucketCounts, GEKOConfig, GEKOTrainer, GEKOTrainingArgs
from geko_engine.config.selection import GEKO_AGGRESSIVE, GEKO_BALANCED, GEKO_CONSERVATIVE
from geko_engine.data.batches import IGNORE_INDEX, TokenizedData
from geko_engine.selection.epoch_plan import Plan, distribute_tokens, steps_per_epoch
from geko_engine.selection.geko_policy import BucketPolicy, GekoPolicy
from geko_engine.selection.policy import EpochInfo
from geko_engine.selection.sample_records import SampleStates
from geko_engine.selection.step_sizes import even_bounds

OFF = GEKOConfig(enabled=False)
ARMS: dict[str, GEKOConfig] = {
    "plain": OFF,
    "plain with the guard": GEKOConfig(frozen_replay=1.0, prediction_confidence=1.0, stable_share=0.0),
    "geko": GEKOConfig(),
    "geko, skipping always": GEKOConfig(min_known_share=0.0),
    "geko, no look-alikes": GEKOConfig(prediction_confidence=1.0),
    "geko, replay of a quarter": GEKOConfig(frozen_replay=0.25),
    "geko, no look-alikes, replay of a quarter": GEKOConfig(prediction_confidence=1.0, frozen_replay=0.25),
    "geko, no replay": GEKOConfig(frozen_replay=0.0),
    "geko, re-check instead of replay": GEKOConfig(frozen_replay=0.0, recheck_ratio=0.5),
    "geko, no noise guard": GEKOConfig(noise_guard=False),
    "geko, initial scan": GEKOConfig(initial_scan=True),
    "geko, pruning after 1": GEKOConfig(prune_frozen_after=1),
    "geko, weights 3/1/0": GEKOConfig(bucket_weights=(3.0, 1.0, 0.0)),
    "InfoBatch's rule": GEKOConfig(mastery="below_mean_loss", frozen_replay=0.5, noise_guard=False),
    "aggressive": GEKO_AGGRESSIVE,
    "balanced": GEKO_BALANCED,
    "conservative": GEKO_CONSERVATIVE,
    "seed": GEKOConfig.seed(),
}
GUARDED = "geko, guarding always"  # suspects are left out from the first one on, however few they are
# These get the budget that "geko" spent with the same mix and seed:
SHORT = "short"  # plain training that ends there, its learning rate decayed to zero by then
TUNED = "short, tuned"  # the same, with the learning rate and the batch size that were best on rows of another seed
RANDOM = "random pruning"  # the first epoch on everything, then random samples left out
LARGEST_LOSS = "selective backprop"  # the same, but those with the smallest loss are left out
AT_BUDGET = (SHORT, TUNED, RANDOM, LARGEST_LOSS)
GEKOLIB = "gekolib 0.3.1"  # as published, from its own package
# "geko, no look-alikes" in whole steps, which become fewer; the learning rate is raised by a power of how many fewer, but
# never above its peak.
FEWER_STEPS = {
    "fewer steps, same rate": 0.0,
    "fewer steps, rate by the square root": 0.5,
    "fewer steps, rate in proportion": 1.0,
}
OTHERS = (*AT_BUDGET, GEKOLIB, GUARDED, *FEWER_STEPS)


class FewerStepsPolicy(GekoPolicy):
    """GEKO's choice of samples in steps of plain training's size."""

    def _plan(self, epoch: EpochInfo) -> Plan | None:
        plan = super()._plan(epoch)
        if plan is None or len(plan.order) == len(self.samples):
            return plan
        bounds = even_bounds(len(plan.order), steps_per_epoch(len(plan.order), self.step_size))
        steps = np.random.default_rng((self.seed, epoch.number, 3)).permutation(len(bounds) - 1)
        starts, sizes = bounds[:-1][steps], np.diff(bounds)[steps]
        tokens = distribute_tokens(plan.order, starts, self.samples.lengths, float(plan.plain_tokens_per_step.sum()))
        return dataclasses.replace(plan, starts=starts, sizes=sizes, plain_tokens_per_step=tokens)


class FewerStepsTrainer(GEKOTrainer):
    """GEKO with FewerStepsPolicy; `exponent`: of the number of plain steps that one stands for, as a factor of the rate."""

    def __init__(self, *args: Any, exponent: float, **options: Any) -> None:
        self.exponent = exponent
        super().__init__(*args, **options)
        sizes = {"step_size": self.engine.step_size, "batch_size": self.engine.batch_size}
        self.policy = FewerStepsPolicy(
            self.config, self.samples, epochs=self.args.num_epochs, seed=self.args.seed, **sizes
        )

    def _present_learning_rate(self) -> float:
        rate = super()._present_learning_rate()
        fewer = self.info.steps_per_epoch / self._current_plan().steps
        return max(rate, min(self.args.learning_rate, rate * fewer**self.exponent))


class ShareStates(SampleStates):
    """A record whose partition freezes all but a share of the samples: random ones, or those with the smallest loss."""

    def __init__(self, count: int, share: float, seed: int, *, by_loss: bool) -> None:
        super().__init__(count)
        self._share, self._rng, self._by_loss = share, np.random.default_rng(seed), by_loss

    def partition(self, config: GEKOConfig) -> BucketCounts:
        if self.visits().any():  # the first epoch trains on everything
            rank = self.loss if self._by_loss else self._rng.random(self.count)
            left_out = rank < np.quantile(rank, 1 - self._share)
            self.arrays["bucket"][:] = np.where(left_out, Bucket.FREEZE, Bucket.FOCUS)
            self._counts = self._count(self.bucket)
        return self.counts()


class SharePolicy(BucketPolicy):
    """Leaves out what ShareStates freezes."""

    def __init__(self, config: GEKOConfig, samples: Any, *, share: float, by_loss: bool, **options: Any) -> None:
        super().__init__(config, samples, **options)
        self.states = ShareStates(len(samples), share, self.seed, by_loss=by_loss)


def build(
    model: Any, data: TokenizedData, tokenizer: Any, arm: str, args: GEKOTrainingArgs, budget: float
) -> GEKOTrainer:
    """The trainer of an arm; `budget` is the share of plain training's compute for those AT_BUDGET.

    The held-out set is scored after the run, so it costs no arm any time.
    """
    if arm in (SHORT, TUNED):
        steps = round(budget * args.num_epochs * -(-len(data) // args.batch_size))
        return GEKOTrainer(model, data, tokenizer, None, OFF, replace(args, max_steps=steps), on_event=_silent)
    if arm in FEWER_STEPS:
        given = (model, data, tokenizer, None, ARMS["geko, no look-alikes"], args)
        return FewerStepsTrainer(*given, on_event=_silent, exponent=FEWER_STEPS[arm])
    if arm == GUARDED:
        trainer = GEKOTrainer(model, data, tokenizer, None, GEKOConfig(), args, on_event=_silent)
        trainer.policy.noise.found = True
        return trainer
    if arm not in AT_BUDGET:
        return GEKOTrainer(model, data, tokenizer, None, ARMS.get(arm, OFF), args, on_event=_silent)
    bare = GEKOConfig(frozen_replay=0.0, noise_guard=False, prediction_confidence=1.0, stable_share=0.0)
    trainer = GEKOTrainer(model, data, tokenizer, None, bare, args, on_event=_silent)
    share = max(0.0, (budget * args.num_epochs - 1) / (args.num_epochs - 1))
    options = {"epochs": args.num_epochs, "seed": args.seed, "step_size": trainer.engine.step_size}
    options["batch_size"] = trainer.engine.batch_size
    trainer.policy = SharePolicy(bare, data, share=share, by_loss=arm == LARGEST_LOSS, **options)
    return trainer


def _silent(_event: object) -> None:
    """Where events go: nowhere."""


def run_published(module: Any, model: Any, data: TokenizedData, args: GEKOTrainingArgs) -> float:
    """Train with gekolib's own trainer at its own defaults; the share of plain training's compute that it spent."""
    longest = int(data.lengths.max())
    rows = []
    for index in range(len(data)):
        sample = data[index]
        padding = longest - len(sample["input_ids"])
        rows.append(
            {
                "input_ids": torch.tensor(np.pad(sample["input_ids"], (0, padding))).long(),
                "attention_mask": torch.tensor(np.pad(np.ones_like(sample["input_ids"]), (0, padding))).long(),
                "labels": torch.tensor(np.pad(sample["labels"], (0, padding), constant_values=IGNORE_INDEX)),
            }
        )
    names = ("output_dir", "num_epochs", "batch_size", "learning_rate", "warmup_steps", "seed")
    own = {name: getattr(args, name) for name in names}
    quiet = {"save_steps": 10**9, "eval_steps": 10**9, "logging_steps": 10**9, "save_at_end": False}
    published = module.GEKOTrainingArgs(**own, **quiet, dataloader_num_workers=0, use_rich_ui=False)
    seen = watch(model)
    with silence():
        module.GEKOTrainer(model=model, train_dataset=rows, args=published).train()
    return seen.tokens / (args.num_epochs * float(data.lengths.sum()))
