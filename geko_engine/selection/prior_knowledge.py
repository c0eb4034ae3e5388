"""How much of the data the model knew before it was trained on it, and whether skipping pays there. Numpy only.

Skipping what is mastered saves compute where the model knew a good part of the data beforehand: those samples teach it
nothing. Where it knew next to nothing, every sample that is mastered by now was just learned, and leaving it out ended worse
than a shorter plain run (banking77; see docs/results.md). The share is read from the first visits, which cost nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FIRST_PART, FEWEST = 1 / 16, 64  # of the samples, and at least so many, are asked: the model has learned little by then


class PriorKnowledge:
    """Counts what was right at the first visits of a run.

    Args:
        count: samples of the run.
        least: share that must have been known for skipping to pay; 0 for always.
    """

    def __init__(self, count: int, least: float) -> None:
        self._wanted, self._least = min(count, max(FEWEST, round(FIRST_PART * count))), least
        self.seen, self.right = 0, 0

    def observe(self, correct: NDArray[Any]) -> None:
        """Note first visits; `correct` is bool [n]. Once enough were seen, later ones change nothing."""
        if self.seen < self._wanted:
            self.seen, self.right = self.seen + len(correct), self.right + int(np.count_nonzero(correct))

    @property
    def share(self) -> float | None:
        """Share of the samples that was known; None before enough were seen."""
        return self.right / self.seen if self.seen >= self._wanted else None

    @property
    def pays(self) -> bool:
        """Whether mastered samples may be skipped. Not before that is known, unless it is always wanted."""
        return self._least == 0 or (self.share is not None and self.share >= self._least)

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"seen": self.seen, "right": self.right}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; a run of an earlier version counts as one that always skips."""
        if not state:
            self._least = 0.0
        for name, value in state.items():
            setattr(self, name, value)
