"""How many samples each optimizer step trains on. Pure, numpy only.

Where samples are left out the number of steps stays, and each gets smaller: under AdamW the number of steps times the
learning rate moves the weights. Fewer steps at a higher rate are faster, and measured worse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_STEP = 4  # a step never shrinks below so many samples


def whole_bounds(count: int, step_size: int) -> NDArray[Any]:
    """Bounds [steps + 1] of the steps of plain training on `count` samples."""
    return np.append(np.arange(0, count, step_size), count)


def shrunken_bounds(planned: int, steps: int, step_size: int, batch_size: int = 0) -> NDArray[Any]:
    """Bounds [steps + 1] of the steps for `planned` samples, fewer than plain training has; [0] when there are none.

    No step falls below SMALLEST_STEP. Where a step takes several forward passes, each step gets a whole number of them,
    so that their number falls with the samples: 2.4 passes a step are 2 and 3 in turn.

    Args:
        steps: that plain training takes. step_size: samples of each of these. batch_size: of them, those of one forward
            pass; 0 for all.
    """
    if not planned:
        return np.zeros(1, int)
    steps = min(steps, max(1, planned // min(SMALLEST_STEP, step_size)))
    passes = -(-planned // (batch_size or step_size))
    if passes > steps:
        return np.take(even_bounds(planned, passes), even_bounds(passes, steps))
    return even_bounds(planned, steps)


def even_bounds(count: int, parts: int) -> NDArray[Any]:
    """Bounds [parts + 1] of `parts` parts of `count` things whose sizes differ by at most one."""
    return np.arange(parts + 1) * count // parts
