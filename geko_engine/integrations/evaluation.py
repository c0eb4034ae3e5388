"""Counts, while another trainer evaluates, what its own metrics leave out: samples answered exactly, loss per target."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from geko_engine.data.batches import IGNORE_INDEX
from geko_engine.reporting.events import Evaluated
from geko_engine.training.state import TrainerState


class EvaluationWatch:
    """Context manager: looks at every output that `model` gives for inputs with labels. Changes nothing."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._began = model, time.monotonic()
        self._samples = self._right = 0
        self._loss = self._targets = 0.0

    def __enter__(self) -> EvaluationWatch:
        self._hook = self._model.register_forward_hook(self._look, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    @torch.no_grad()
    def _look(self, _module: nn.Module, _args: Any, kwargs: dict[str, Any], outputs: Any) -> None:
        labels = kwargs.get("labels")
        if labels is None:
            return
        learnt = labels[:, 1:] != IGNORE_INDEX
        right = _is_top(outputs, labels) | ~learnt
        targets = float(learnt.sum())
        self._loss += float(outputs.loss) * targets
        self._targets += targets
        self._right += int((right.all(1) & learnt.any(1)).sum())
        self._samples += len(labels)

    def event(self, state: TrainerState) -> Evaluated:
        """What the evaluation came to."""
        return Evaluated(
            state.step,
            state.epoch,
            self._loss / max(1.0, self._targets),
            self._right / max(1, self._samples),
            self._samples,
            state.counter.backwarded,
            time.monotonic() - self._began,
        )


def _is_top(outputs: Any, labels: Tensor) -> Tensor:
    """Whether each label is the most likely next token, [B, T - 1]."""
    top: Tensor | None = getattr(outputs, "is_top1", None)  # TRL's fused head says it, and gives no logits
    if top is None:
        top = outputs.logits[:, :-1].argmax(-1) == labels[:, 1:]
    return top.bool()
