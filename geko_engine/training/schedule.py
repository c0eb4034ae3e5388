"""The learning rate as a pure function of progress. Knows no parameters and no data."""

from __future__ import annotations

import math
from collections.abc import Callable

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.config.training_choices import CONSTANT, CONSTANT_WITH_WARMUP

LONGEST_WARMUP = 0.1  # of the run, so that a short run with the default 100 warm-up steps still trains
DECAY = 1 / 3  # of the run, at the end of warmup_stable_decay

# Share of the peak at `progress` in (warmup, 1]; names and curves of transformers.
SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "linear": lambda progress, warmup: (1.0 - progress) / (1.0 - warmup),
    "cosine": lambda progress, warmup: 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup))),
    CONSTANT: lambda progress, warmup: 1.0,
    CONSTANT_WITH_WARMUP: lambda progress, warmup: 1.0,
    "warmup_stable_decay": lambda progress, warmup: min(1.0, (1.0 - progress) / DECAY),
}


def warmup_share(steps: int, total_steps: int, ratio: float | None = None) -> float:
    """Share of the run that is warm-up.

    Args:
        steps: the setting warmup_steps; at most LONGEST_WARMUP of the run is taken.
        total_steps: of the run.
        ratio: the setting warmup_ratio, which replaces the steps.
    """
    return min(steps / max(1, total_steps), LONGEST_WARMUP) if ratio is None else ratio


def warmup_cut(args: GEKOTrainingArgs, total_steps: int) -> str:
    """The sentence for a run that is too short for its warm-up steps, or ""."""
    share = warmup_share(args.warmup_steps, total_steps)
    taken = round(share * total_steps)
    if args.warmup_ratio is not None or args.schedule == CONSTANT or args.warmup_steps <= taken + 1:
        return ""
    return (
        f"Warm-up takes {taken:,} steps instead of warmup_steps = {args.warmup_steps:,}: it is at most a tenth of the run. "
        "Set warmup_ratio to choose another share."
    )


def learning_rate_at(
    progress: float, peak: float, warmup: float, factor: float = 1.0, schedule: str = "linear"
) -> float:
    """The learning rate when the share `progress` of the run is done.

    With progress = step / total it is that of transformers' schedule of the same name.

    Args:
        progress: in [0, 1].
        peak: learning rate at the end of the warm-up.
        warmup: share of the run over which it rises linearly.
        factor: the curriculum's.
        schedule: a key of SCHEDULES.
    """
    if progress < warmup and schedule != CONSTANT:
        return peak * factor * progress / warmup
    return peak * factor * max(0.0, SCHEDULES[schedule](min(1.0, progress), warmup))
