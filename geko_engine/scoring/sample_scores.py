"""One forward pass -> loss, confidence and correctness of each sample in the batch. Knows torch, but no selection rule.

Only positions whose next token is a target go through the model's head, and one pass over their logits computes the
training loss and all scores. So tracking every sample costs less than plain training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geko_engine.data.batches import (
    FOR_THE_SCORER,
    IGNORE_INDEX,
    LARGEST_TARGET,
    TARGET_ROWS,
    next_labels,
    with_target_rows,
)
from geko_engine.data.packed_batches import attention_bounds, samples_of
from geko_engine.exceptions import ModelError
from geko_engine.models.attention import attention_of, takes_bounds
from geko_engine.scoring.chunked_loss import TokenLoss, loss_of_hidden, loss_of_logits
from geko_engine.scoring.output_head import Head

SampleFunction = Callable[[Any, dict[str, Tensor]], Tensor]


@dataclass
class BatchScores:
    """Scores of the B samples of one forward pass; all tensors but objective and probability have shape [B].

    Attributes:
        objective: loss_sum times the sample weights, summed to a scalar. The only tensor with a gradient, and
            backward may be called on it only once.
        loss_sum: negative log-likelihood summed over the sample's targets, in nats.
        targets: number of target tokens.
        loss: loss_sum / targets (0 without targets).
        correct: every target is the most likely token.
        confidence: smallest target probability when correct, else the mean probability of the most likely token.
        min_target_probability: smallest target probability.
        probability: of each target token, sample by sample, [K]; None if the model returns only losses.
        exact: True if the scores are the sample's own, False if they are copies of the batch mean.
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
    """Computes BatchScores. Only target rows go through the model's output embedding, if it has one.

    Args:
        model: anything that takes input_ids and attention_mask and returns an object with `.logits` [B, T, V],
            or takes labels too and returns `.loss`, one per sample or one for the batch.
        compute_confidence, compute_correctness: optional (outputs, batch) -> [B]; they replace the built-in scores.
        warn: called with one sentence if the model returns only one loss a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        compute_confidence: SampleFunction | None = None,
        compute_correctness: SampleFunction | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.compute_confidence, self.compute_correctness, self._warn = compute_confidence, compute_correctness, warn
        self._warned = self._own = False
        self._parameters = forward_parameters(model)
        base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        self._router_weight = float(getattr(base, "router_aux_loss_coef", 0.0) or 0.0)
        # By argument, not in the model's config, which is saved with the model and used for generation.
        self._always: dict[str, Any] = {"use_cache": False} if "use_cache" in self._parameters else {}
        self._takes_bounds = self._takes("cu_seq_lens_q") and takes_bounds(attention_of(model))
        labels = self._parameters.get("labels")
        self._needs_labels = labels is not None and labels.default is inspect.Parameter.empty
        # The user's functions expect the logits of every position.
        self._head = None if compute_confidence or compute_correctness else Head(model)

    def __call__(self, model: nn.Module, batch: dict[str, Tensor], weights: Tensor | None = None) -> BatchScores:
        """Scores of `batch`: input_ids, attention_mask, labels, all [B, T] with IGNORE_INDEX where not a target.

        Or what a PackedCollator makes: input_ids, position_ids, labels, all [1, T], and the bounds of the samples. A batch that has been through `with_target_rows` is scored without waiting for its device.

        Args:
            weights: [B] float32, weight of each sample in the objective (default 1).

        Raises:
            ModelError: if the output has neither `.logits` nor `.loss`.
        """
        found = batch if TARGET_ROWS in batch else with_target_rows(batch)
        rows, largest = found[TARGET_ROWS], found[LARGEST_TARGET]
        sample, count = samples_of(batch, rows)
        bounds = attention_bounds(batch) if self._takes_bounds else {}
        batch = {name: value for name, value in batch.items() if name not in FOR_THE_SCORER}
        target = next_labels(batch["labels"]).flatten()[rows]
        if weights is None:
            weights = torch.ones(count, device=rows.device)
        row_weight = weights[sample]
        if self._own:
            return self._from_loss(self._with_labels(model, batch), batch, weights)
        inputs = {name: value for name, value in batch.items() if name != "labels"} | self._always | bounds
        head = self._head if self._head is not None and self._head.found else None
        fused = head.hidden(model, inputs, rows) if head is not None else None
        if head is not None and fused is not None:
            hidden, tail, outputs = fused
            scores = per_sample(loss_of_hidden(hidden, head.module, tail, target, row_weight), sample, count)
            return self._with_router_loss(scores, outputs)
        outputs = self._call_whole(model, batch) if head is None else head.outputs(model, inputs, rows)
        logits = getattr(outputs, "logits", None)
        if logits is None:
            return self._from_loss(outputs, batch, weights)
        _check_shape(logits, largest)
        flat = logits.flatten(0, -2)
        if len(flat) != len(rows):  # the model has no head that could be hooked, or does not call it
            flat = flat.index_select(0, rows)
        scores = per_sample(loss_of_logits(flat, target, row_weight), sample, count)
        return self._own_signals(self._with_router_loss(scores, outputs), outputs, batch)

    @property
    def packing_obstacle(self) -> str:
        """Why the scores of samples in one row would not be had apart, as the end of a sentence; "" if they would."""
        if self.compute_confidence or self.compute_correctness:
            return "compute_confidence and compute_correctness get a row for each sample"
        if self._own:
            return "the model's own loss is one for the whole batch, or for each of its rows"
        if self._head is None or not self._head.found:
            return "the model has no output embedding (get_output_embeddings)"
        return "" if "position_ids" in self._parameters else "the model takes no position_ids"

    @property
    def may_have_loss(self) -> bool:
        """Whether the model takes labels, and so may return a loss of its own."""
        return "labels" in self._parameters

    def own_loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor | None:
        """The loss that the model itself returns for `batch`, one or one per sample [B]; None if it has none."""
        loss = getattr(self._with_labels(model, batch), "loss", None)
        return loss.detach() if isinstance(loss, Tensor) else None

    def use_own_loss(self) -> None:
        """From now on, train with and score by the model's own loss."""
        self._own = self._warned = True

    def _with_labels(self, model: nn.Module, batch: dict[str, Tensor]) -> Any:
        return model(**{name: value for name, value in batch.items() if self._takes(name)}, **self._always)

    def _with_router_loss(self, scores: BatchScores, outputs: Any) -> BatchScores:
        """Add the load-balancing loss of a mixture of experts, as the model's own loss does with labels.

        It is there where config.output_router_logits is set; it belongs to no sample, so the record has no part in it.
        """
        loss = getattr(outputs, "aux_loss", None)
        if isinstance(loss, Tensor) and loss.numel() == 1 and self._router_weight:
            scores.objective = scores.objective + self._router_weight * loss.squeeze() * scores.targets.sum()
        return scores

    def _call_whole(self, model: nn.Module, batch: dict[str, Tensor]) -> Any:
        """All positions, with the inputs that the module's forward names; labels only where it needs them."""
        inputs = {name: value for name, value in batch.items() if self._takes(name)} | self._always
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

    def _from_loss(self, outputs: Any, batch: dict[str, Tensor], weights: Tensor) -> BatchScores:
        loss = getattr(outputs, "loss", None)
        if loss is None:
            raise ModelError("The model's output has neither .logits nor .loss: return one of them.")
        size = len(batch["labels"])
        targets = (batch["labels"][:, 1:] != IGNORE_INDEX).sum(1).float()
        exact = loss.ndim == 1 and len(loss) == size
        if not exact and not self._warned:
            self._warned = True
            self._warn(
                "The model returns one loss for the whole batch, so all samples of a batch get the same scores. "
                "Return .logits or one loss per sample to track each sample."
            )
        each = (loss if exact else loss.reshape(-1).mean().expand(size)).float()
        objective, each = (each * targets * weights).sum(), each.detach()
        confidence = torch.exp(-each)
        scores = BatchScores(objective, each * targets, targets, each, each < 0.5, confidence, confidence, exact)
        return self._own_signals(scores, outputs, batch)

    def _own_signals(self, scores: BatchScores, outputs: Any, batch: dict[str, Tensor]) -> BatchScores:
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


def _check_shape(logits: Tensor, largest: Tensor) -> None:
    """Raise ModelError for logits of another head than that of a language model. largest: target, on the host."""
    if logits.ndim < 3 or int(largest) >= logits.shape[-1]:
        raise ModelError(
            f"The model's logits have shape {tuple(logits.shape)}, but one score for each token of the vocabulary at each "
            "position is needed: give a model with a language model head (AutoModelForCausalLM), not a classifier."
        )


def forward_parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The parameters of a model's forward, by name; of the model inside where adapters wrap it."""
    # An adapter's wrapper accepts any argument and passes it on.
    named: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return inspect.signature(named.forward).parameters


def per_sample(tokens: TokenLoss, sample: Tensor, count: int) -> BatchScores:
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
    return BatchScores(
        tokens.objective, loss_sum, targets, loss, correct, confidence, min_target_probability, probability=probability
    )
