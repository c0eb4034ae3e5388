"""One forward pass -> loss, confidence and correctness of every sample in it. Knows torch, and nothing of GEKO's rule.

Only the positions whose next token is a target go through the head of the model, and one pass over their logits gives
the training loss and all statistics: tracking every sample costs less than plain training does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from geko_engine.data.batches import IGNORE_INDEX
from geko_engine.exceptions import ModelError
from geko_engine.scoring.chunked_loss import TokenLoss, loss_of_hidden, loss_of_logits
from geko_engine.scoring.output_head import Head

SampleFunction = Callable[[Any, dict[str, Tensor]], Tensor]


@dataclass
class SampleScores:
    """What one forward pass tells about its B samples; all tensors but objective and probability have shape [B].

    Attributes:
        objective: loss_sum times the weights of the samples, summed to a scalar; it alone carries the gradient, which
            may have been computed already: backward goes through it once.
        loss_sum: negative log-likelihood summed over the sample's targets, in nats.
        targets: number of target tokens.
        loss: loss_sum / targets (0 without targets).
        correct: every target is the most likely token.
        confidence: smallest target probability when correct, else the mean probability of the most likely token.
        min_target_probability: smallest target probability.
        probability: of each target token, sample by sample, [K]; None where the model tells only losses.
        exact: True when the signals are the sample's own, False when they were copied from a batch mean.
    """

    objective: Tensor
    loss_sum: Tensor
    targets: Tensor
    loss: Tensor
    correct: Tensor
    confidence: Tensor
    min_target_probability: Tensor
    exact: bool = True
    probability: Tensor | None = None


class Scorer:
    """Scores batches with `model`; lets only target rows through its output embedding where there is one.

    Args:
        model: anything that takes input_ids and attention_mask and returns an object with `.logits` [B, T, V],
            or takes labels too and returns `.loss`, one per sample or one for the batch.
        compute_confidence, compute_correctness: optional (outputs, batch) -> [B]; where given, they decide.
        warn: called with one sentence when only batch-level signals are to be had.
    """

    def __init__(
        self,
        model: nn.Module,
        compute_confidence: SampleFunction | None = None,
        compute_correctness: SampleFunction | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.compute_confidence, self.compute_correctness, self._warn = compute_confidence, compute_correctness, warn
        self._warned = False
        # An adapter's wrapper takes anything and hands it on, so the module inside is asked.
        named: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        self._parameters = inspect.signature(named.forward).parameters
        labels = self._parameters.get("labels")
        self._needs_labels = labels is not None and labels.default is inspect.Parameter.empty
        # The user's functions expect the logits of every position, so nothing may be left out for them.
        self._head = None if compute_confidence or compute_correctness else Head(model)

    def __call__(self, model: nn.Module, batch: dict[str, Tensor], weights: Tensor | None = None) -> SampleScores:
        """Scores of `batch`: input_ids, attention_mask, labels, all [B, T] with IGNORE_INDEX where not a target.

        Args:
            weights: [B] float32, of each sample in the objective (default: 1).

        Raises:
            ModelError: when the output has neither `.logits` nor `.loss`.
        """
        next_labels = pad(batch["labels"][:, 1:], (0, 1), value=IGNORE_INDEX)
        count, length = next_labels.shape
        rows = (next_labels != IGNORE_INDEX).flatten().nonzero().squeeze(1)
        target, sample = next_labels.flatten()[rows], rows // length
        if weights is None:
            weights = torch.ones(count, device=rows.device)
        row_weight = weights[sample]
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        head = self._head if self._head is not None and self._head.found else None
        fused = head.hidden(model, inputs, rows) if head is not None else None
        if head is not None and fused is not None:
            hidden, tail = fused
            return per_sample(loss_of_hidden(hidden, head.module, tail, target, row_weight), sample, count)
        outputs = self._call_whole(model, batch) if head is None else head.outputs(model, inputs, rows)
        logits = getattr(outputs, "logits", None)
        if logits is None:
            return self._from_loss(outputs, batch, weights)
        flat = logits.flatten(0, -2)
        if len(flat) != len(rows):  # nothing was left out before the head, or the model does not call its head
            flat = flat.index_select(0, rows)
        return self._own_signals(per_sample(loss_of_logits(flat, target, row_weight), sample, count), outputs, batch)

    def _call_whole(self, model: nn.Module, batch: dict[str, Tensor]) -> Any:
        """All positions, with the inputs that the module's forward names; labels only where it needs them."""
        inputs = {name: value for name, value in batch.items() if self._takes(name)}
        if not self._needs_labels:
            outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
            has_signal = getattr(outputs, "logits", None) is not None or getattr(outputs, "loss", None) is not None
            if has_signal or "labels" not in inputs:
                return outputs
            self._needs_labels = True
        return model(**inputs)

    def _takes(self, name: str) -> bool:
        kinds = {parameter.kind for parameter in self._parameters.values()}
        return name in self._parameters or inspect.Parameter.VAR_KEYWORD in kinds

    def _from_loss(self, outputs: Any, batch: dict[str, Tensor], weights: Tensor) -> SampleScores:
        loss = getattr(outputs, "loss", None)
        if loss is None:
            raise ModelError("The model's output has neither .logits nor .loss, so there is nothing to train on.")
        size = len(batch["labels"])
        targets = (batch["labels"][:, 1:] != IGNORE_INDEX).sum(1).float()
        exact = loss.ndim == 1 and len(loss) == size
        if not exact and not self._warned:
            self._warned = True
            self._warn(
                "The model returns only one loss for the whole batch: all samples of a batch share its signals. "
                "Return .logits or one loss per sample for true per-sample tracking."
            )
        each = (loss if exact else loss.reshape(-1).mean().expand(size)).float()
        objective, each = (each * targets * weights).sum(), each.detach()
        confidence = torch.exp(-each)
        scores = SampleScores(objective, each * targets, targets, each, each < 0.5, confidence, confidence, exact)
        return self._own_signals(scores, outputs, batch)

    def _own_signals(self, scores: SampleScores, outputs: Any, batch: dict[str, Tensor]) -> SampleScores:
        for name, function in (("confidence", self.compute_confidence), ("correct", self.compute_correctness)):
            if function is None:
                continue
            value = torch.as_tensor(function(outputs, batch), device=scores.loss.device)
            if value.shape != scores.loss.shape:
                raise ModelError(
                    f"Your function for {name!r} returned shape {tuple(value.shape)}, "
                    f"but one value per sample, shape {tuple(scores.loss.shape)}, is needed."
                )
            setattr(scores, name, value.detach().bool() if name == "correct" else value.detach().float())
        return scores


def per_sample(tokens: TokenLoss, sample: Tensor, count: int) -> SampleScores:
    """Scores of `count` samples from those of K target tokens and the sample [K] that each belongs to."""
    probability, highest = tokens.probability, tokens.highest

    def total(values: Tensor) -> Tensor:
        return torch.zeros(count, device=values.device, dtype=values.dtype).index_add(0, sample, values)

    targets = total(torch.ones_like(probability))
    divisor = targets.clamp(min=1)
    min_target_probability = torch.ones(count, device=probability.device).scatter_reduce(0, sample, probability, "amin")
    correct = (total((probability < highest).float()) == 0) & (targets > 0)
    confidence = torch.where(correct, min_target_probability, total(highest) / divisor)
    loss_sum = total(tokens.loss)
    loss = loss_sum / divisor
    return SampleScores(
        tokens.objective, loss_sum, targets, loss, correct, confidence, min_target_probability, probability=probability
    )
