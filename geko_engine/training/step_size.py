"""The samples of one optimizer step, shared out to processes and micro-batches. Pure; imports no torch."""

from __future__ import annotations


def split_step(samples: int, batch_size: int, processes: int) -> tuple[int, int] | None:
    """(batch size, accumulation steps) of a step of `samples` samples; None where `processes` cannot share it evenly.

    Args:
        samples: of one step in all processes together.
        batch_size: the largest allowed.
    """
    own, rest = divmod(samples, processes)
    if rest or not own:
        return None
    size = next(size for size in range(min(batch_size, own), 0, -1) if own % size == 0)
    return size, own // size


def step_problem(samples: int, batch_size: int, accumulation_steps: int, processes: int) -> str:
    """Why a run whose steps had `samples` samples cannot go on with these settings, and the way out; "" where it can."""
    here = batch_size * accumulation_steps * processes
    if here == samples:
        return ""
    found = split_step(samples, batch_size, processes)
    if found is None:
        possible = [count for count in range(1, processes) if samples % count == 0]
        way_out = f"start {possible[-1]} of them" if len(possible) > 1 else "start one"
        return f"its steps have {samples} samples, which {in_words(processes)} cannot share evenly: {way_out}"
    size, steps = found
    smaller = f"batch_size to {size} and " if size != batch_size else ""
    return (
        f"its steps have {samples} samples, and here they would have {here}: set {smaller}gradient_accumulation_steps to "
        f"{steps}"
    )


def in_words(processes: int) -> str:
    """A number of processes for a sentence."""
    return "1 process" if processes == 1 else f"{processes} processes"
