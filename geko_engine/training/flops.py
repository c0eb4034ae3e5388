"""What a backward pass costs in units of the forward pass, counted once on a real batch. Knows torch only."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from geko_engine.scoring.chunked_loss import is_carrying_back

FORMULAS = {**flop_registry, torch.ops.aten.addmm_: flop_registry[torch.ops.aten.addmm]}
FULL, FROZEN = 2.0, 1.0  # where nothing can be counted: with all weights trained, and with most of them frozen

LEAST = 0.01  # 0 means that nothing was counted yet


class FlopCount(TorchDispatchMode):
    """Counts the floating-point operations of matrix products and attention that are run within it.

    Attributes:
        forward, backward: what was counted. in_backward: set it when the forward pass is over.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch declares none
        self.forward = self.backward = 0
        self.in_backward = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        formula = FORMULAS.get(func._overloadpacket)
        if formula is not None:
            count = int(formula(*args, **(kwargs or {}), out_val=made))
            if self.in_backward or is_carrying_back():
                self.backward += count
            else:
                self.forward += count
        return made


def backward_cost(forward: int, backward: int, trained: float, *, recomputes: bool) -> float:
    """Cost of a backward pass, the forward pass being 1.

    Args:
        forward, backward: floating-point operations that were counted; 0 where the kernels are not known to the counter.
        trained: share of the parameters that are trained, in [0, 1].
        recomputes: whether layers are computed again in the backward pass (gradient checkpointing).
    """
    if forward and backward:
        return max(LEAST, round(backward / forward, 2))
    return (FULL if trained > 0.5 else FROZEN) + recomputes
