"""What the rules read of the training samples, and how several processes agree on what they found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

Agree = Callable[[Any], Any]  # the value of the first process, in all of them


class SelectionData(Protocol):
    """What a policy reads of the training samples."""

    @property
    def lengths(self) -> NDArray[Any]:
        """Tokens of each sample, [count]."""

    @property
    def targets(self) -> NDArray[Any]:
        """Target tokens of each sample, [count]."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any:
        """A dict with input_ids [length], and labels [length] equal to them where a token is a target."""
