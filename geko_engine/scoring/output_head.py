"""The output embedding of a model, watched by hooks, so that it sees target rows only, or a single one. Knows torch only.

Where head and loss are computed together (token_loss.py), the model's own logits are never seen, so it must be certain
what they would have been. The first forward pass proves it: the head's output is replaced by numbers of ours, and what
comes out of the model must be these, or what the model's settings say that it makes of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from geko_engine.exceptions import ModelError
from geko_engine.scoring.chunked_loss import PLAIN, Tail

SCALES = ("logit_scale", "lm_head_multiplier")  # what families call it in their settings
DIVISORS = ("logits_scaling",)
CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
WIDEST = 64.0  # the numbers of ours lie between minus this and this: no cap goes unnoticed


class Head:
    """Hooks on the output embedding of `model`; `found` says whether there is one."""

    def __init__(self, model: nn.Module) -> None:
        self.module = output_embedding(model)
        self.found = self.module is not None
        self._rows: Tensor | None = None  # which are kept before the head
        self._positions = 0  # of the present batch
        self._single = False  # or only the first position, for its shape
        self._captured: list[Tensor] = []  # what the head would have been given
        self._proof: _Proof | None = None
        self._tails: dict[tuple[bool, bool], Tail | None] = {}
        if self.module is not None:
            # Not compiled: otherwise a compiled model would recompile for each number of target rows.
            self.module.register_forward_pre_hook(torch.compiler.disable(self._before))
            self.module.register_forward_hook(torch.compiler.disable(self._after))

    def outputs(self, model: nn.Module, inputs: dict[str, Tensor], rows: Tensor) -> Any:
        """The model's outputs, with logits of `rows` [K] of its flattened positions only, if it calls its head."""
        self._rows, self._positions = rows, inputs["input_ids"].numel()
        try:
            return model(**inputs)
        finally:
            self._rows = None

    def hidden(self, model: nn.Module, inputs: dict[str, Tensor], rows: Tensor) -> tuple[Tensor, Tail, Any] | None:
        """What the head would be given for `rows` [K], as [K, H], what the model makes of what it returns, and its outputs.

        None, with the random states restored, if the model's logits cannot be computed from these rows.
        """
        key = (model.training, torch.is_grad_enabled())
        if not fuses(self.module) or self._tails.get(key, PLAIN) is None:
            return None
        if key not in self._tails:
            return self._first(model, inputs, rows, key)
        outputs, hidden = self._single_pass(model, inputs, rows)
        tail = self._tails[key]
        return None if hidden is None or tail is None else (hidden, tail, outputs)

    def _first(
        self, model: nn.Module, inputs: dict[str, Tensor], rows: Tensor, key: tuple[bool, bool]
    ) -> tuple[Tensor, Tail, Any] | None:
        """As `hidden`, with the proof; it is given once for training and once for scans."""
        states = _random_states(rows.device)
        self._proof = _Proof(self.module)
        try:
            outputs, hidden = self._single_pass(model, inputs, rows)
            tail = self._proof.tail(outputs, settings(model)) if hidden is not None else None
        finally:
            self._proof = None
        self._tails[key] = tail
        if tail is None:
            _restore(states, rows.device)
        return None if hidden is None or tail is None else (hidden, tail, outputs)

    def _single_pass(self, model: nn.Module, inputs: dict[str, Tensor], rows: Tensor) -> tuple[Any, Any]:
        """(outputs for one position, hidden rows, or None where the head was not called exactly once)."""
        self._rows, self._single, self._positions = rows, True, inputs["input_ids"].numel()
        try:
            outputs = model(**inputs)
            return outputs, self._captured[0] if len(self._captured) == 1 else None
        finally:
            self._rows, self._single, self._captured = None, False, []

    def _before(self, _head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._rows is None:
            return None
        flat = args[0].reshape(-1, args[0].shape[-1])
        if len(flat) != self._positions:
            raise ModelError(
                f"The model's head sees {len(flat)} positions where the batch has {self._positions}, so its logits do not "
                "belong to the tokens (prompt tuning and p-tuning put their own in front): use LoRA instead."
            )
        kept = flat.index_select(0, self._rows)
        if not self._single:
            return (kept[None], *args[1:])
        self._captured.append(kept)
        return (flat[None, :1], *args[1:])

    def _after(self, _head: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        return None if self._proof is None else self._proof.replace(args[0], output)


class _Proof:
    """That a model's logits are a tail of what its linear head makes of what it is given, and of nothing else."""

    def __init__(self, head: Any) -> None:
        self._head = head
        self._linear = False
        self._numbers: Tensor | None = None

    def replace(self, given: Tensor, made: Tensor) -> Tensor:
        """Called with what the head was given and made of it; the numbers to go on with instead."""
        weight, bias = self._head.weight, self._head.bias
        # Hooks of others, or weights that lie elsewhere, would show here.
        self._linear = weight.device == given.device and _close(linear(given, weight, bias), made)
        numbers = torch.linspace(-WIDEST, WIDEST, made.shape[-1], device=made.device).to(made.dtype)
        self._numbers = numbers.expand(made.shape).clone().requires_grad_(torch.is_grad_enabled())
        return self._numbers

    def tail(self, outputs: Any, config: Any) -> Tail | None:
        """The tail, or None where nothing is proven."""
        logits, numbers = getattr(outputs, "logits", None), self._numbers
        if not self._linear or numbers is None or logits is None or logits.numel() != numbers.numel():
            return None
        # Something trained that is added behind the head would get no gradient; it may well be zero now.
        if any(leaf is not numbers for leaf in _leaves(logits.grad_fn)):
            return None
        got, plain = logits.detach().flatten().float(), numbers.detach().flatten().float()
        for tail in (PLAIN, tail_of(config)):
            if torch.equal(got, plain) if tail == PLAIN else _close(tail.apply(plain.clone()), got, numbers.dtype):
                return tail
        return None


def output_embedding(model: nn.Module) -> Any:
    """The module that makes logits, or None; where peft trains a copy of it, that copy."""
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    copies = getattr(head, "modules_to_save", None)
    return copies[head.active_adapters[0]] if isinstance(copies, nn.ModuleDict) and head.active_adapters else head


def fuses(head: Any) -> bool:
    """Whether a head is of the kind that can be computed together with the loss; adapters on it are of another."""
    return type(head) is nn.Linear


def settings(model: Any) -> Any:
    """The settings of a model that makes text, or None."""
    config: Any = getattr(model, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def tail_of(config: Any) -> Tail:
    """What a model with these settings is expected to make of what its head returns."""
    scale = 1.0
    for name in (*SCALES, *DIVISORS):
        value = getattr(config, name, None)
        if isinstance(value, int | float) and value:
            scale *= 1 / value if name in DIVISORS else value
    caps = [value for name in CAPS if isinstance(value := getattr(config, name, None), int | float)]
    return Tail(scale, float(caps[0]) if caps else 0.0)


def _close(a: Tensor, b: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Equal but for rounding in `dtype`, by default that of b."""
    tolerance = 8 * torch.finfo(dtype or b.dtype).eps
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=tolerance, atol=tolerance)


def _leaves(node: Any) -> Iterator[Tensor]:
    """The tensors that a gradient through `node` of autograd's graph ends at."""
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]


def _random_states(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _restore(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
