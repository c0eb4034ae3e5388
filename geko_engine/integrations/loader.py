"""The batches of a plan, made by the collator and the loader processes that a trainer was given. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geko_engine.integrations.samples import Collate
from geko_engine.selection.epoch_plan import Plan
from geko_engine.training.micro_batches import MicroBatches


def micro_batches(count: int, size: int) -> list[slice]:
    """Where the micro-batches of a step of `count` samples lie in it, of at most `size` samples each; as GEKOTrainer has them."""
    return [slice(*ends) for ends in pairwise(MicroBatches(size).bounds(np.ones(count, int)))]


class PlanBatches:
    """One DataLoader for the whole training; `start` points it at a plan, `end` lets its processes go.

    Args:
        args: the trainer's, for its loader processes and the size of a micro-batch.
    """

    def __init__(self, dataset: Any, collate: Collate, args: Any) -> None:
        self.size, self._seed = args.per_device_train_batch_size, args.seed
        self._ids: Iterator[list[int]] = iter(())
        self._generator = torch.Generator()
        self._loader: DataLoader[Any] | None = DataLoader(
            dataset,
            batch_sampler=_Ids(self),
            collate_fn=collate,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory and args.device.type == "cuda",
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            generator=self._generator,
        )

    def start(self, plan: Plan, first_step: int, epoch: int) -> Iterator[dict[str, Tensor]]:
        """The micro-batches of `plan` from `first_step` on, in order."""
        assert self._loader is not None, "the training has not ended"
        steps = (plan.ids(step) for step in range(first_step, plan.steps))
        self._ids = (ids[part].tolist() for ids in steps for part in micro_batches(len(ids), self.size))
        # Its own stream: an iterator draws from a generator, and the global one belongs to dropout.
        self._generator.manual_seed(self._seed * 7919 + epoch)
        return iter(self._loader)

    def end(self) -> None:
        """Let the loader processes go."""
        self._loader = None


class _Ids:
    """The batch sampler: it only ever holds the present plan, so nothing is read ahead of the record."""

    def __init__(self, batches: PlanBatches) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches._ids
