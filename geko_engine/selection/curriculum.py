"""Progress in [0, 1] -> phase, bucket weights, learning-rate factor: the mountain curriculum. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """One phase: it lasts until `end` (share of the run); weights are (HARD, FOCUS, LIGHT)."""

    name: str
    end: float
    weights: tuple[float, float, float]
    learning_rate_factor: float


class MountainCurriculum:
    """Five phases from easy to hard and back. It measured worse than none, so it is off by default."""

    phases = (
        Phase("warmup", 0.15, (1.0, 2.0, 3.0), 0.5),
        Phase("ascent", 0.35, (2.0, 3.0, 1.0), 0.8),
        Phase("peak", 0.65, (5.0, 2.0, 0.0), 1.0),
        Phase("descent", 0.85, (2.0, 3.0, 1.0), 0.8),
        Phase("consolidate", 1.0, (1.0, 2.0, 3.0), 0.3),
    )

    def phase_at(self, progress: float) -> Phase:
        """The phase at `progress` in [0, 1]; outside it the first or the last one."""
        return next((phase for phase in self.phases if progress < phase.end), self.phases[-1])
