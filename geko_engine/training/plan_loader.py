"""Feeds the micro-batches of a plan to the loop, prepared by worker processes where asked for. Knows no model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.batches import SAMPLE_WEIGHTS, with_target_rows
from geko_engine.selection.epoch_plan import Plan
from geko_engine.training.micro_batches import MicroBatches

WORKERS_ON_GPU = 2  # tokens are ready-made, so more would only wait


@dataclass(frozen=True)
class _Weighted(Dataset[Any]):
    """Samples by (id, loss weight): the weight goes the way of its sample, to the device with the batch."""

    samples: Any
    collate: Callable[[Any], dict[str, Tensor]]

    def __getitem__(self, key: tuple[int, float]) -> tuple[dict[str, NDArray[Any]], float]:
        return self.samples[key[0]], key[1]

    def batch(self, items: list[tuple[dict[str, NDArray[Any]], float]]) -> dict[str, Tensor]:
        """The items as a batch with everything that the scorer needs."""
        batch = with_target_rows(self.collate([sample for sample, _ in items]))
        return {**batch, SAMPLE_WEIGHTS: torch.tensor([weight for _, weight in items], dtype=torch.float32)}


class _PlanBatches:
    """The batch sampler: it only ever holds the present plan, so nothing is read ahead of the record."""

    def __init__(self) -> None:
        self.batches: Iterator[list[tuple[int, float]]] = iter(())

    def __iter__(self) -> Iterator[list[tuple[int, float]]]:
        return self.batches


class PlanLoader:
    """One DataLoader for the whole run; `start` points it at a plan, `end` lets its processes go."""

    def __init__(
        self,
        samples: Any,
        lengths: NDArray[Any],
        collate: Callable[[Any], dict[str, Tensor]],
        args: GEKOTrainingArgs,
        device: torch.device,
        micro_batches: MicroBatches,
        rank: int = 0,
    ) -> None:
        self._lengths, self._micro_batches, self._rank, self._seed = lengths, micro_batches, rank, args.seed
        workers = args.dataloader_num_workers
        if workers < 0:
            workers = WORKERS_ON_GPU if device.type == "cuda" else 0
        self.workers = workers
        self._batches, self._generator = _PlanBatches(), torch.Generator()
        self._loader: Any = None
        weighted = _Weighted(samples, collate)
        self._made = functools.partial(
            DataLoader,
            weighted,
            batch_sampler=self._batches,
            collate_fn=weighted.batch,
            num_workers=workers,
            persistent_workers=args.dataloader_persistent_workers and workers > 0,
            prefetch_factor=args.dataloader_prefetch_factor if workers else None,
            generator=self._generator,
            pin_memory=device.type == "cuda",
        )

    def start(self, plan: Plan, first_step: int, epoch: int) -> Iterator[dict[str, Tensor]]:
        """This process's micro-batches of `plan` from `first_step` on, in order."""

        def micro_batches() -> Iterator[list[tuple[int, float]]]:
            for step in range(first_step, plan.steps):
                ids, weights = plan.ids(step), plan.weights(step)
                for own, real in self._micro_batches.shares(self._lengths[ids], self._rank):
                    yield list(zip(ids[own].tolist(), (weights[own] * real).tolist(), strict=True))

        self._batches.batches = micro_batches()
        # Its own stream: an iterator draws from a generator, and the global one belongs to dropout.
        self._generator.manual_seed(self._seed * 7919 + epoch)
        if self._loader is None:
            self._loader = self._made()
        return iter(self._loader)

    def end(self) -> None:
        """Let the worker processes go: else they would live, and hold what the process had open, until this is collected."""
        self._loader = None
