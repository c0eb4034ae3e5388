"""Feeds the micro-batches of a plan to the loop, prepared by worker processes where asked for. Knows no model."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.batches import Collator
from geko_engine.selection.epoch_plan import Plan

WORKERS_ON_GPU = 2  # tokens are ready-made, so more would only wait


def rank_positions(count: int, batch_size: int, rank: int, processes: int) -> Iterator[tuple[NDArray[Any], bool]]:
    """For each micro-batch of a step of `count` samples: the positions that process `rank` takes, and True.

    Every process gets the same number of micro-batches. Where there are fewer samples than processes, those that
    would have none take the first one with False: it stands in with weight 0, and is not recorded.
    """
    for start in range(0, count, batch_size * processes):
        positions = np.arange(start, min(count, start + batch_size * processes))
        own = positions[rank::processes]
        yield (own, True) if len(own) else (positions[:1], False)


class _PlanBatches:
    """The batch sampler: it only ever holds the present plan, so nothing is read ahead of the record."""

    def __init__(self) -> None:
        self.batches: Iterator[list[int]] = iter(())

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches


class PlanLoader:
    """One DataLoader for the whole run; `start` points it at a plan, `end` lets its processes go."""

    def __init__(
        self,
        samples: Any,
        collate: Collator,
        args: GEKOTrainingArgs,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self._size, self._seed, self._rank, self._processes = args.batch_size, args.seed, rank, processes
        workers = args.dataloader_num_workers
        if workers < 0:
            workers = WORKERS_ON_GPU if device.type == "cuda" else 0
        self.workers = workers
        self._batches, self._generator = _PlanBatches(), torch.Generator()
        self._loader: Any = None
        self._made = functools.partial(
            DataLoader,
            samples,
            batch_sampler=self._batches,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=args.dataloader_persistent_workers and workers > 0,
            prefetch_factor=args.dataloader_prefetch_factor if workers else None,
            generator=self._generator,
            pin_memory=device.type == "cuda",
        )

    def start(self, plan: Plan, first_step: int, epoch: int) -> Iterator[dict[str, Tensor]]:
        """This process's micro-batches of `plan` from `first_step` on, in order."""

        def micro_batches() -> Iterator[list[int]]:
            for step in range(first_step, plan.steps):
                ids = plan.ids(step)
                for own, _ in rank_positions(len(ids), self._size, self._rank, self._processes):
                    yield ids[own].tolist()

        self._batches.batches = micro_batches()
        # Its own stream: an iterator draws from a generator, and the global one belongs to dropout.
        self._generator.manual_seed(self._seed * 7919 + epoch)
        if self._loader is None:
            self._loader = self._made()
        return iter(self._loader)

    def end(self) -> None:
        """Let the worker processes go: else they would live, and hold what the process had open, until this is collected."""
        self._loader = None
