"""One forward pass -> loss, confidence and correctness of every sample in it. Knows torch, and nothing of GEKO's rule.

The head of the model sees only the positions whose next token is a target, and one pass over its logits gives the
training loss and all statistics: tracking every sample costs less than plain training does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from geko_engine.exceptions import ModelError

IGNORED = -100  # label of a position that is no target, as in transformers
CHUNK_BYTES = 8 << 20  # of logits in float32 at a time; larger blocks stay in the heap of some allocators
SampleFunction = Callable[[Any, dict[str, Tensor]], Tensor]


@dataclass
class SampleScores:
    """What one forward pass tells about its B samples; all tensors have shape [B].

    Attributes:
        loss_sum: negative log-likelihood summed over the sample's targets, in nats; carries the gradient.
        targets: number of target tokens.
        loss: loss_sum / targets (0 without targets), detached.
        correct: every target is the most likely token.
        confidence: smallest target probability when correct, else the mean probability of the most likely token.
        p_min: smallest target probability.
        exact: True when the signals are the sample's own, False when they were copied from a batch mean.
    """

    loss_sum: Tensor
    targets: Tensor
    loss: Tensor
    correct: Tensor
    confidence: Tensor
    p_min: Tensor
    exact: bool = True


class _TokenStatistics(torch.autograd.Function):
    """logits [K, V], target [K] -> loss [K], target probability [K], highest probability [K].

    float32 exists for one chunk of rows at a time, and backward writes the gradient into the memory of the
    logits (nobody reads them again), so the peak is one logits tensor in the model's own precision.
    """

    @staticmethod
    def chunks(logits: Tensor) -> Iterator[slice]:
        """Rows that are worked on together."""
        size = max(16, CHUNK_BYTES // (4 * logits.shape[1]))
        for start in range(0, logits.shape[0], size):
            yield slice(start, start + size)

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = logits.shape[0]
        log_sum, picked, top = (torch.empty(count, dtype=torch.float32, device=logits.device) for _ in range(3))
        for rows in _TokenStatistics.chunks(logits):
            chunk = logits[rows].float()
            log_sum[rows] = torch.logsumexp(chunk, -1)
            picked[rows] = chunk.gather(1, target[rows, None]).squeeze(1)
            top[rows] = chunk.amax(-1)
        ctx.save_for_backward(logits, target, log_sum)
        probability, highest = torch.exp(picked - log_sum), torch.exp(top - log_sum)
        ctx.mark_non_differentiable(probability, highest)
        return log_sum - picked, probability, highest

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _p: Tensor, _h: Tensor) -> tuple[Tensor, None]:
        logits, target, log_sum = ctx.saved_tensors
        result = logits.detach()
        for rows in _TokenStatistics.chunks(logits):
            chunk = torch.exp(result[rows].float() - log_sum[rows, None])
            chunk.scatter_add_(1, target[rows, None], chunk.new_full((chunk.shape[0], 1), -1.0))
            result[rows] = chunk.mul_(grad[rows, None]).to(result.dtype)
        return result, None


class Scorer:
    """Scores batches with `model`; keeps only target rows before the output embedding where there is one.

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
        self._rows: Tensor | None = None
        head: Any = getattr(model, "get_output_embeddings", lambda: None)()
        # An adapter's wrapper takes anything and hands it on, so the module inside is asked.
        named: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        self._parameters = inspect.signature(named.forward).parameters
        labels = self._parameters.get("labels")
        self._needs_labels = labels is not None and labels.default is inspect.Parameter.empty
        own_functions = compute_confidence or compute_correctness
        # The user's functions expect the logits of every position, so nothing may be left out for them.
        self._gathers = head is not None and own_functions is None
        if self._gathers:
            # Not compiled: a compiled model would else compile anew for each number of target rows.
            head.register_forward_pre_hook(torch.compiler.disable(self._keep_target_rows))

    def _keep_target_rows(self, _head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._rows is None:
            return None
        hidden = args[0]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._rows)[None], *args[1:])

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> SampleScores:
        """Scores of `batch`: input_ids, attention_mask, labels, all [B, T] with IGNORED where not a target.

        Raises:
            ModelError: when the output has neither `.logits` nor `.loss`.
        """
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        next_labels = pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
        rows = (next_labels != IGNORED).flatten().nonzero().squeeze(1)
        self._rows = rows if self._gathers else None
        try:
            outputs = model(**inputs) if self._gathers else self._call_whole(model, batch)
        finally:
            self._rows = None
        logits = getattr(outputs, "logits", None)
        if logits is None:
            return self._from_loss(outputs, batch)
        flat = logits.flatten(0, -2)
        if len(flat) != len(rows):  # nothing was left out before the head, or the model does not call its head
            flat = flat.index_select(0, rows)
        scores = per_sample(flat, next_labels.flatten()[rows], rows // next_labels.shape[1], len(next_labels))
        return self._own_signals(scores, outputs, batch)

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

    def _from_loss(self, outputs: Any, batch: dict[str, Tensor]) -> SampleScores:
        loss = getattr(outputs, "loss", None)
        if loss is None:
            raise ModelError("The model's output has neither .logits nor .loss, so there is nothing to train on.")
        size = len(batch["labels"])
        targets = (batch["labels"][:, 1:] != IGNORED).sum(1).float()
        exact = loss.ndim == 1 and len(loss) == size
        if not exact and not self._warned:
            self._warned = True
            self._warn(
                "The model returns only one loss for the whole batch: all samples of a batch share its signals. "
                "Return .logits or one loss per sample for true per-sample tracking."
            )
        each = (loss if exact else loss.reshape(-1).mean().expand(size)).float()
        confidence = torch.exp(-each.detach())
        scores = SampleScores(
            each * targets, targets, each.detach(), each.detach() < 0.5, confidence, confidence, exact
        )
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


def per_sample(logits: Tensor, target: Tensor, sample: Tensor, count: int) -> SampleScores:
    """Scores from the logits [K, V] of target positions, their targets [K] and the sample [K] each belongs to."""
    loss, probability, highest = _TokenStatistics.apply(logits, target)

    def total(values: Tensor) -> Tensor:
        return torch.zeros(count, device=values.device, dtype=values.dtype).index_add(0, sample, values)

    targets = total(torch.ones_like(probability))
    divisor = targets.clamp(min=1)
    p_min = torch.ones(count, device=probability.device).scatter_reduce(0, sample, probability, "amin")
    wrong = total((probability < highest).float())
    correct = (wrong == 0) & (targets > 0)
    confidence = torch.where(correct, p_min, total(highest) / divisor)
    loss_sum = total(loss)
    return SampleScores(loss_sum, targets, loss_sum.detach() / divisor, correct, confidence, p_min)
