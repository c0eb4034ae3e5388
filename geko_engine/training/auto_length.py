"""When a run has trained enough, from its losses on held-out samples. Pure; knows no model and no loop.

The learning rate stays constant after its warm-up. At each check the averaged weights, which the run would deliver, are scored;
a parabola through the last checks but the one that fits worst, in the logarithms of step and loss, says when their loss will be
lowest. The run ends when that point is near at two checks in a row, as one can be chance, and not before every sample came up
once: until then nothing can be learned by heart. With fewer checks behind the parabola, a step in a staircase looks like the end
of it.

Each check comes when the run is a fixed factor longer than at the one before, so the checks cost the same share of every run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FIRST_CHECK = 0.3  # epochs
GROWTH = 1.12  # of the run from one check to the next
FITTED = 9  # checks, of which the parabola leaves out one; nothing is known before there are so many
IN_A_ROW = 2  # checks that find the lowest point near
REACH = 1.1  # of the run: a lowest point that is no further ahead is near
RISEN = 0.005  # of the lowest loss: so much above it is a rise and no chance
FARTHEST = 1000.0  # of the run: what lies beyond counts as never
USELESS = 1e9  # nats: stands for a loss that is not finite, in what a checkpoint writes as JSON


@dataclass(frozen=True)
class LengthCheck:
    """What a check found.

    Attributes:
        step: optimizer steps done. loss: on the held-out samples, nats per target.
        lowest_at: the step at which the loss of the averaged weights is expected to be lowest, as far as is known.
        gain: share of the loss that is still to be won by then; None while unknown.
        is_near: whether that step is near, or was passed.
        goes_on: whether more training is likely to help; False ends the run.
    """

    step: int
    loss: float
    lowest_at: int | None
    gain: float | None
    is_near: bool
    goes_on: bool


class AutoLength:
    """Decides after each check whether the run ends.

    Args:
        checks: [step, loss] of each check so far; kept and added to.
        steps_per_epoch: of plain training.
    """

    def __init__(self, checks: list[list[float]], steps_per_epoch: int) -> None:
        self.checks, self._steps_per_epoch = checks, steps_per_epoch

    def is_due(self, step: int) -> bool:
        """Whether a check comes after optimizer step `step`."""
        if not self.checks:
            return step >= math.ceil(FIRST_CHECK * self._steps_per_epoch)
        last = int(self.checks[-1][0])
        return step >= max(last + 1, math.ceil(GROWTH * last))

    def judge(self, step: int, loss: float) -> LengthCheck:
        """Add a check; a loss that is not finite ends the run at once."""
        self.checks.append([step, loss if math.isfinite(loss) else USELESS])
        near = [self._is_near(self.checks[: len(self.checks) - back]) for back in range(IN_A_ROW)]
        goes_on = math.isfinite(loss) and not all(near)
        lowest = _lowest(self.checks)
        if lowest is None:
            return LengthCheck(step, loss, None if goes_on else step, None if goes_on else 0.0, near[0], goes_on)
        at, gain = lowest
        return LengthCheck(step, loss, round(step * math.exp(at)), gain, near[0], goes_on)

    def _is_near(self, checks: Sequence[Sequence[float]]) -> bool:
        """Whether the lowest point is near after the last of `checks`, or was passed."""
        if len(checks) < FITTED or checks[-1][0] < self._steps_per_epoch:
            return False
        lowest = _lowest(checks)
        before, last = checks[-2][1], checks[-1][1]
        has_risen = last >= before and last > (1 + RISEN) * min(check[1] for check in checks)
        return has_risen or (lowest is not None and lowest[0] <= math.log(REACH))


def _lowest(checks: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """(how far ahead the loss is lowest, in the logarithm of the step; share of it that is won by then)."""
    recent = checks[-FITTED:]
    if len(recent) < FITTED or min(check[1] for check in recent) <= 0:
        return None
    x = np.log([check[0] for check in recent])
    x, y = x - x[-1], np.log([check[1] for check in recent])
    farthest = np.argmax(np.abs(np.polyval(np.polyfit(x, y, 2), x) - y))  # is chance, and would be so for nine checks
    curvature, slope, _ = np.polyfit(np.delete(x, farthest), np.delete(y, farthest), 2)
    if curvature <= 0:
        return None
    at = float(min(max(0.0, -slope / (2 * curvature)), math.log(FARTHEST)))
    return at, float(max(0.0, 1 - math.exp(curvature * at * at + slope * at)))
