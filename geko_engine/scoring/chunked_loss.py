"""Loss and likelihood of every target token, from logits or from what the head is given. Knows torch only.

From what the head is given, the logits are made a few rows at a time and the gradient is computed while they are at
hand: whole logits never exist, and no logit is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

CHUNK_BYTES = 16 << 20  # of logits in float32 at a time: more than that no longer stays near a processor
CHUNK_BYTES_GPU = 256 << 20  # each chunk reads all weights of the head, so there it should have some hundred rows
FEWEST_ROWS = 64


class TokenLoss(NamedTuple):
    """Of K target tokens.

    Attributes:
        objective: sum of weight x loss, a scalar; carries the gradient.
        loss: negative log-likelihood in nats. probability: of the target. highest: of the likeliest token. All [K].
    """

    objective: Tensor
    loss: Tensor
    probability: Tensor
    highest: Tensor


@dataclass(frozen=True)
class Tail:
    """What a model makes of the x that its head returns: scale * x, and where there is a cap, cap * tanh(that / cap)."""

    scale: float = 1.0
    cap: float = 0.0

    def apply(self, logits: Tensor) -> Tensor:
        """In place."""
        if self.scale != 1:
            logits.mul_(self.scale)
        return logits.div_(self.cap).tanh_().mul_(self.cap) if self.cap else logits

    def slope(self, logits: Tensor) -> Tensor | float:
        """Derivative where the tail gave `logits`."""
        return (logits / self.cap).square_().neg_().add_(1).mul_(self.scale) if self.cap else self.scale


PLAIN = Tail()


def chunk_rows(columns: int, device: torch.device) -> int:
    """Rows of logits with `columns` columns that are worked on together."""
    size = CHUNK_BYTES_GPU if device.type == "cuda" else CHUNK_BYTES
    return max(FEWEST_ROWS, size // (4 * columns))


def _chunks(count: int, columns: int, device: torch.device) -> Iterator[slice]:
    size = chunk_rows(columns, device)
    for start in range(0, count, size):
        yield slice(start, start + size)


class _LossOfLogits(torch.autograd.Function):
    """logits [K, V], target [K] -> loss, probability, highest [K].

    float32 exists for one chunk of rows at a time, and backward writes the gradient into the memory of the
    logits (nobody reads them again), so the peak is one logits tensor in the model's own precision.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = logits.shape[0]
        log_sum, picked, top = (torch.empty(count, dtype=torch.float32, device=logits.device) for _ in range(3))
        for rows in _chunks(len(logits), logits.shape[1], logits.device):
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
        for rows in _chunks(len(logits), logits.shape[1], logits.device):
            chunk = torch.exp(result[rows].float() - log_sum[rows, None])
            chunk.scatter_add_(1, target[rows, None], chunk.new_full((chunk.shape[0], 1), -1.0))
            result[rows] = chunk.mul_(grad[rows, None]).to(result.dtype)
        return result, None


def loss_of_logits(logits: Tensor, target: Tensor, weight: Tensor) -> TokenLoss:
    """From logits [K, V], whose memory is written over in the backward pass; target and weight: [K]."""
    loss, probability, highest = _LossOfLogits.apply(logits, target)  # type: ignore[no-untyped-call]  # torch declares none
    return TokenLoss((loss * weight).sum(), loss.detach(), probability, highest)


class _LossOfHidden(torch.autograd.Function):
    """hidden [K, H], the head's weight [V, H] and bias [V] -> objective, loss, probability, highest.

    Backward has nothing left to do but to multiply what was computed with the gradient of the objective, a scalar.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, row_weight: Tensor, options: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tail, dtype, learns = options
        with torch.autocast(hidden.device.type, enabled=False):
            work = _HeadPass(hidden, weight, bias, dtype, [flag and learns for flag in ctx.needs_input_grad[:3]])
            for rows in _chunks(len(hidden), len(weight), hidden.device):
                work.chunk(rows, target[rows, None], row_weight[rows, None], tail)
        ctx.gradients = work.gradients
        ctx.dtypes = [None if given is None else given.dtype for given in (hidden, weight, bias)]
        loss, probability, highest = work.scores()
        ctx.mark_non_differentiable(loss, probability, highest)
        return (loss * row_weight).sum(), loss, probability, highest

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # their memory becomes the result: there is no second time
        given = zip(gradients, ctx.dtypes, strict=True)
        return *(None if part is None else part.mul_(grad).to(dtype) for part, dtype in given), None, None, None


class _HeadPass:
    """One pass over chunks of rows: statistics of each row, and the gradients that `wanted` asks for.

    Args:
        dtype: in which the head multiplies. wanted: whether hidden, weight and bias need their gradient.

    Attributes:
        in_backward: whether work of the backward pass is being done, in the forward pass: for those who count.
    """

    in_backward = False

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, wanted: list[bool]
    ) -> None:
        self.hidden, self.weight = hidden.to(dtype), weight.to(dtype)
        self.bias = None if bias is None else bias.to(dtype)
        count, device = len(hidden), hidden.device
        self.log_sum, self.picked, self.top = (torch.empty(count, device=device, dtype=torch.float) for _ in range(3))
        # Sums over all chunks are float32: in half precision each chunk would add a rounding error.
        self.gradients = [
            torch.empty_like(self.hidden) if wanted[0] else None,
            torch.zeros_like(weight, dtype=torch.float) if wanted[1] else None,
            torch.zeros_like(bias, dtype=torch.float) if wanted[2] and bias is not None else None,
        ]

    def chunk(self, rows: slice, target: Tensor, row_weight: Tensor, tail: Tail) -> None:
        """target, row_weight: [rows, 1]."""
        hidden = self.hidden[rows]
        logits = tail.apply(linear(hidden, self.weight, self.bias).float())
        learns = any(gradient is not None for gradient in self.gradients)
        slope = tail.slope(logits) if learns else 1.0
        self.picked[rows] = logits.gather(1, target).squeeze(1)
        top = logits.amax(-1, keepdim=True)
        likelihood = logits.sub_(top).exp_()
        total = likelihood.sum(-1, keepdim=True)
        self.top[rows], self.log_sum[rows] = top.squeeze(1), (top + total.log()).squeeze(1)
        if not learns:
            return
        change = likelihood.mul_(row_weight / total).scatter_add_(1, target, -row_weight)
        _HeadPass.in_backward = True
        try:
            self._add(rows, hidden, change if tail == PLAIN else change.mul_(slope))
        finally:
            _HeadPass.in_backward = False

    def _add(self, rows: slice, hidden: Tensor, change: Tensor) -> None:
        """The gradient `change` [rows, V] of the head's output, carried on to what it was made of."""
        of_hidden, of_weight, of_bias = self.gradients
        if of_bias is not None:
            of_bias += change.sum(0)
        change = change.to(hidden.dtype)
        if of_hidden is not None:
            torch.mm(change, self.weight, out=of_hidden[rows])
        if of_weight is not None and of_weight.dtype == change.dtype:
            of_weight.addmm_(change.t(), hidden)
        elif of_weight is not None:
            of_weight += change.t() @ hidden

    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """loss, probability, highest: [K]."""
        log_sum = self.log_sum
        return log_sum - self.picked, torch.exp(self.picked - log_sum), torch.exp(self.top - log_sum)


def is_carrying_back() -> bool:
    """Whether the gradient of a head is computed at this moment, which happens along with the forward pass."""
    return _HeadPass.in_backward


def loss_of_hidden(hidden: Tensor, head: nn.Linear, tail: Tail, target: Tensor, weight: Tensor) -> TokenLoss:
    """From what a linear head is given, [K, H], without ever making all of its logits; target and weight: [K].

    Precision is that of `head(hidden)` here and now, autocast included.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.weight.dtype
    options = (tail, dtype, torch.is_grad_enabled())
    return TokenLoss(*_LossOfHidden.apply(hidden, head.weight, head.bias, target, weight, options))  # type: ignore[no-untyped-call]


def bytes_of_loss(head: nn.Linear, count: int, dtype: torch.dtype) -> int:
    """What `loss_of_hidden` of `count` rows takes at its peak when the head multiplies in `dtype`: logits of a chunk
    and the gradients that it hands on."""
    columns, width = head.weight.shape
    copies = dtype.itemsize if dtype != head.weight.dtype else 0  # of weights, logits and their change
    chunk = min(count, chunk_rows(columns, head.weight.device)) * columns * (4 + 2 * copies)
    learnt = sum(4 * parameter.numel() for parameter in head.parameters() if parameter.requires_grad)
    return chunk + head.weight.numel() * copies + count * width * dtype.itemsize + learnt
