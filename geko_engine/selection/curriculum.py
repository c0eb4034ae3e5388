"""The mountain curriculum: share of the run -> phase, bucket weights, learning-rate factor. Numpy-free and pure."""

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
    """Five phases from easy to hard and back. It measured worse than none, so it is off by default.

    `phase_at` is all that training uses. The rest is gekolib's interface, for scripts that step through it by samples.

    Args:
        total_samples: samples of the whole run, for `step`.
    """

    phases = (
        Phase("warmup", 0.15, (1.0, 2.0, 3.0), 0.5),
        Phase("ascent", 0.35, (2.0, 3.0, 1.0), 0.8),
        Phase("peak", 0.65, (5.0, 2.0, 0.0), 1.0),
        Phase("descent", 0.85, (2.0, 3.0, 1.0), 0.8),
        Phase("consolidate", 1.0, (1.0, 2.0, 3.0), 0.3),
    )

    def __init__(self, total_samples: int = 1) -> None:
        self.total_samples, self.samples_seen = total_samples, 0

    def phase_at(self, progress: float) -> Phase:
        """The phase at `progress` in [0, 1]; outside it the first or the last one."""
        return next((phase for phase in self.phases if progress < phase.end), self.phases[-1])

    @property
    def current_phase(self) -> Phase:
        """The phase after the samples counted by `step`."""
        return self.phase_at(self.get_total_progress())

    def step(self, num_samples: int = 1) -> None:
        """Count `num_samples` more."""
        self.samples_seen += num_samples

    def get_total_progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return min(self.samples_seen / self.total_samples, 1.0)

    def get_phase_progress(self) -> float:
        """Share of the present phase that is done, in [0, 1]."""
        phase, done = self.current_phase, self.get_total_progress()
        begin = max((earlier.end for earlier in self.phases if earlier.end < phase.end), default=0.0)
        return (done - begin) / (phase.end - begin)

    def get_current_weights(self) -> tuple[float, float, float]:
        """Weights of (HARD, FOCUS, LIGHT) in the present phase."""
        return self.current_phase.weights

    def adjust_learning_rate(self, base_lr: float) -> float:
        """`base_lr` times the present phase's factor."""
        return base_lr * self.current_phase.learning_rate_factor

    def is_complete(self) -> bool:
        """Whether all samples have been counted."""
        return self.samples_seen >= self.total_samples

    def reset(self) -> None:
        """Begin anew."""
        self.samples_seen = 0
