"""Peak memory of one piece of work, each in a fresh child process. Measures bytes above what was resident before."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.common import memory_growth
from benchmarks.third_party import load_gekolib, make_trainer
from benchmarks.workload import Rows, Size, make_model, make_rows, run_geko
from geko_engine.scoring.sample_scores import Scorer

LOSSES = ("transformers", "GEKO", "gekolib")


def loss_memory(way: str, size: Size, target_share: float) -> int:
    """Peak bytes of forward, loss and backward of one batch; with "GEKO" and "gekolib" every sample is scored too.

    The gradients, which are the same for all, are allocated before.
    """
    model = make_model(size)
    rows = make_rows(size, [size.tokens] * size.batch, target_share=target_share)
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    work: dict[str, Any] = {"transformers": _own_loss, "GEKO": _tracked_loss, "gekolib": _gekolib_loss}
    return memory_growth(lambda: work[way](model, batch, rows))


def _own_loss(model: Any, batch: dict[str, torch.Tensor], _rows: Rows) -> None:
    model(**batch).loss.backward()


def _tracked_loss(model: Any, batch: dict[str, torch.Tensor], _rows: Rows) -> None:
    scores = Scorer(model)(model, batch)
    (scores.objective / scores.targets.sum()).backward()


def _gekolib_loss(model: Any, batch: dict[str, torch.Tensor], rows: Rows) -> None:
    trainer = make_trainer(load_gekolib(), model, rows, len(rows), "unused")
    outputs = model(**batch)
    outputs.loss.backward()
    with torch.no_grad():  # in the order of its train()
        trainer.compute_confidence(outputs, batch)


def run_memory(
    size: Size,
    rows: Rows,
    lora: dict[str, Any] | None,
    changes: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> int:
    """Peak bytes of a whole run of GEKOTrainer: weights (held in `dtype`), gradients, optimizer state, activations."""

    def work() -> None:
        run_geko(make_model(size).to(dtype), rows, size.batch, lora=lora_config(lora), **changes)

    return memory_growth(work)


def lora_config(values: dict[str, Any] | None) -> Any:
    """A peft.LoraConfig of `values`, or None."""
    if values is None:
        return None
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", **values)
