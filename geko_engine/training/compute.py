"""Counts what was forwarded and backwarded, against what plain training would have cost. Knows no model.

Everywhere the same counting: real tokens (no padding), a forward pass 1, a backward pass what it was measured to cost
(flops.py: about 2 with all weights trained, about 1 with adapters), scans and re-checks included, evaluation left out on
both sides.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


def compute_saved_ratio(forwarded: int, backwarded: int, uniform: float, backward_cost: float = 2.0) -> float:
    """1 - (forwarded + cost x backwarded) / ((1 + cost) x uniform), all in tokens; 0 before anything was due."""
    spent = forwarded + backward_cost * backwarded
    return 1.0 - spent / ((1 + backward_cost) * uniform) if uniform > 0 else 0.0


@dataclass
class TokenCounter:
    """Running counts of real tokens, with the padding that came along counted apart."""

    forwarded: int = 0
    backwarded: int = 0
    scanned: int = 0  # the part of `forwarded` that was scored without training
    padding: int = 0
    targets: int = 0  # target tokens trained on
    samples_trained: int = 0
    samples_scanned: int = 0

    def train(self, tokens: int, padding: int, targets: int, samples: int) -> None:
        """Count one micro-batch that was forwarded and backwarded."""
        self.forwarded += tokens
        self.backwarded += tokens
        self.padding += padding
        self.targets += targets
        self.samples_trained += samples

    def scan(self, tokens: int, padding: int, samples: int) -> None:
        """Count one batch that was only forwarded."""
        self.forwarded += tokens
        self.scanned += tokens
        self.padding += padding
        self.samples_scanned += samples

    @property
    def passed(self) -> int:
        """Tokens that went through the model, forward and backward: the same number in every process."""
        return self.forwarded + self.backwarded

    def saved_ratio(self, uniform: float, backward_cost: float = 2.0) -> float:
        """Share of plain training's compute that was not spent (negative when more was)."""
        return compute_saved_ratio(self.forwarded, self.backwarded, uniform, backward_cost)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
