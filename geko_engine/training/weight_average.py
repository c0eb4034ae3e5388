"""The average of the trained weights over the latest part of a run, and a copy of the best ones. Knows no loop and no data.

With a constant learning rate the weights circle around a point that a decay of the rate would settle at. Their average is
near that point at any time, so a run can end when it has trained enough, without having known its length before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

MEMORY = 4  # the weights of step s count s ** MEMORY: their mean age is a sixth of the run so far


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name; shared ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def write(parameters: dict[str, nn.Parameter], tensors: dict[str, Tensor]) -> None:
    """Give `parameters` the values of `tensors`, in their own precision."""
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


class WeightAverage:
    """Average of the trained weights of `model`, in float32 on their device.

    The newest weights get the share (MEMORY + 1) / (step + MEMORY): polynomial-decay averaging (Shamir and Zhang, 2013),
    whose window grows with the run.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = trained(model)
        self._average = {name: p.detach().to(torch.float32, copy=True) for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights of optimizer step `step` (from 1)."""
        share, averages = (MEMORY + 1) / (step + MEMORY), list(self._average.values())
        weights = list(self.weights().values())
        if all(weight.dtype == torch.float32 for weight in weights):
            torch._foreach_lerp_(averages, weights, share)
            return
        for average, weight in zip(averages, weights, strict=True):  # one float32 copy at a time
            average.lerp_(weight.float(), share)

    def weights(self) -> dict[str, Tensor]:
        """The weights that the model has now, not copied, by the names of the parameters."""
        return {name: p.detach() for name, p in self._parameters.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model has the average as its weights."""
        held = {name: p.detach().clone() for name, p in self._parameters.items()}
        write(self._parameters, self._average)
        try:
            yield
        finally:
            write(self._parameters, held)

    def deliver(self) -> None:
        """Give the model the average as its weights."""
        write(self._parameters, self._average)

    def state_dict(self) -> dict[str, Tensor]:
        """The average, by the names of the parameters."""
        return self._average

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave. Raises KeyError where a weight is missing."""
        for name, tensor in self._average.items():
            tensor.copy_(tensors[name])


class BestWeights:
    """A copy of the trained weights of `model` in main memory, as they were when they were best."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = trained(model)
        self._kept: dict[str, Tensor] = {}

    @property
    def is_kept(self) -> bool:
        """Whether there is a copy."""
        return bool(self._kept)

    def keep(self) -> None:
        """Copy the weights that the model has now."""
        self._kept = {name: p.detach().to("cpu", copy=True) for name, p in self._parameters.items()}

    def deliver(self) -> None:
        """Give the model the weights that were kept; none were: those that it has stay."""
        if self._kept:
            write(self._parameters, self._kept)

    def state_dict(self) -> dict[str, Tensor]:
        """The copy, by the names of the parameters; empty before the first one."""
        return self._kept

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        self._kept = dict(tensors)
