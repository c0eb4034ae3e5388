"""How the samples of an optimizer step are split into forward passes, and these over processes. Pure, numpy only."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MicroBatches:
    """The split of a step; every process computes the same one.

    Attributes:
        batch_size: most samples of a forward pass of one process. max_tokens: most tokens of it, padding included,
            instead of batch_size; 0 for no such limit. processes: that take part.
        multiple: lengths of batches are multiples of this. packed: whether there is no padding.
    """

    batch_size: int
    max_tokens: int = 0
    processes: int = 1
    multiple: int = 1
    packed: bool = False

    def shares(self, lengths: NDArray[Any], rank: int) -> Iterator[tuple[NDArray[Any], bool]]:
        """For each forward pass of a step: the positions in the step that process `rank` takes, and True.

        Every process gets the same number of passes. Where there are fewer samples than processes, those that would have
        none take the first one with False: it stands in with weight 0, and is not recorded.

        Args:
            lengths: tokens of each sample of the step, in its order [n].
        """
        bounds = self.bounds(lengths)
        for start, end in itertools.pairwise(bounds):
            positions = np.arange(start, end)
            own = positions[rank :: self.processes]
            yield (own, True) if len(own) else (positions[:1], False)

    def count(self, lengths: NDArray[Any]) -> int:
        """Forward passes of a step, the same in every process."""
        return len(self.bounds(lengths)) - 1

    def bounds(self, lengths: NDArray[Any]) -> list[int]:
        """Bounds of the fewest passes that the limit allows, as even as can be: 33 samples in batches of 16 are 3 x 11."""
        if not self.max_tokens:
            passes = -(-len(lengths) // (self.batch_size * self.processes))
            return [part * len(lengths) // passes for part in range(passes + 1)] if passes else [0]
        padded = (-(-lengths // self.multiple) * self.multiple).tolist()
        found = self._filled(padded, self.max_tokens)
        # The smallest budget that needs no more passes makes them even; neighbours are of similar length.
        low, high = self.max_tokens // 2, self.max_tokens
        while high - low > 1:
            middle = (low + high) // 2
            tried = self._filled(padded, middle)
            if len(tried) > len(found):
                low = middle
            else:
                found, high = tried, middle
        return found

    def _filled(self, padded: list[int], budget: int) -> list[int]:
        """Bounds of passes that are filled one after the other up to `budget` tokens; a longer sample goes alone."""
        bounds, longest, taken = [0], 0, [0] * self.processes
        for position, length in enumerate(padded):
            own, rank = divmod(position - bounds[-1], self.processes)
            tokens = taken[rank] + length if self.packed else (own + 1) * max(longest, length)
            if position > bounds[-1] and tokens > budget:
                bounds.append(position)
                longest, taken, rank = 0, [0] * self.processes, 0
            longest = max(longest, length)
            taken[rank] += length
        return [*bounds, len(padded)] if padded else bounds
