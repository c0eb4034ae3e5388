"""Feeds the micro-batches of a plan to the loop, prepared by worker processes where asked for. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geko_engine.config import GEKOTrainingArgs
from geko_engine.data import Collator
from geko_engine.planner import Plan

WORKERS_ON_GPU = 2  # tokens are ready-made, so more would only wait


class _PlanBatches:
    """The batch sampler: it only ever holds the present plan, so nothing is read ahead of the record."""

    def __init__(self) -> None:
        self.batches: Iterator[list[int]] = iter(())

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches


class PlanLoader:
    """One DataLoader for the whole run; `start` points it at a plan."""

    def __init__(self, samples: Any, collate: Collator, args: GEKOTrainingArgs, device: torch.device) -> None:
        self._size, self._seed = args.batch_size, args.seed
        workers = args.dataloader_num_workers
        if workers < 0:
            workers = WORKERS_ON_GPU if device.type == "cuda" else 0
        self._batches, self._generator = _PlanBatches(), torch.Generator()
        self._loader: Any = DataLoader(
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
        """Micro-batches of `plan` from `first_step` on, in order."""

        def micro_batches() -> Iterator[list[int]]:
            for step in range(first_step, plan.steps):
                ids = plan.ids(step)
                for start in range(0, len(ids), self._size):
                    yield ids[start : start + self._size].tolist()

        self._batches.batches = micro_batches()
        # Its own stream: an iterator draws from a generator, and the global one belongs to dropout.
        self._generator.manual_seed(self._seed * 7919 + epoch)
        return iter(self._loader)
