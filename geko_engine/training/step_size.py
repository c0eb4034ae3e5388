"""The samples of one optimizer step, shared out to processes and micro-batches. Pure; imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.selection.epoch_plan import steps_per_epoch

FEWEST_TOKENS = 16  # per batch: below that, each sample has one of its own anyway

FEW_STEPS = 100  # by which a small dataset is learnt, at the usual learning rates
SIZE = "training.batch_size x training.gradient_accumulation_steps"


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


def smaller_batches(args: GEKOTrainingArgs) -> Iterator[tuple[GEKOTrainingArgs, str]]:
    """Yield `args` and then what needs ever less memory for the same samples a step, each with its words."""
    tokens = args.max_tokens_per_batch
    while tokens >= FEWEST_TOKENS:
        yield dataclasses.replace(args, max_tokens_per_batch=tokens), f"at most {tokens:,} tokens per batch"
        tokens //= 2
    if args.max_tokens_per_batch:
        return
    for size, steps in batch_sizes(args.batch_size, args.gradient_accumulation_steps):
        words = f"batch size {size} and {steps} accumulation steps"
        yield dataclasses.replace(args, batch_size=size, gradient_accumulation_steps=steps), words


def batch_sizes(batch_size: int, accumulation_steps: int) -> Iterator[tuple[int, int]]:
    """Yield (batch size, accumulation steps) with the same samples a step, each batch size at most half the last one.

    Args:
        batch_size, accumulation_steps: the first pair.
    """
    step = batch_size * accumulation_steps
    while batch_size > 0:
        yield batch_size, step // batch_size
        batch_size = next((size for size in range(batch_size // 2, 0, -1) if step % size == 0), 0)


def few_steps(args: GEKOTrainingArgs, samples: int, processes: int = 1) -> str:
    """The sentence for a run of so few optimizer steps that the model hardly learns, with the way out; "" for others.

    Args:
        args: of the run. Where max_steps is set, its number of steps was chosen.
        samples: of an epoch.
        processes: that share the samples of a step.
    """
    size = args.batch_size * args.gradient_accumulation_steps * processes
    steps = args.planned_steps(steps_per_epoch(samples, size))
    if args.step_limit or steps >= FEW_STEPS:
        return ""
    smaller = args.epochs * samples // FEW_STEPS // processes
    shared = f" in each of {processes} processes" if processes > 1 else ""
    epochs = "training.max_epochs" if args.finds_length else "training.num_epochs"
    said = f"At most {steps:,} optimizer steps of {size:,} samples each: a model learns little in so few."
    if smaller > 0:
        return f"{said} {SIZE} = {smaller:,}{shared} would give {FEW_STEPS} or more."
    return f"{said} More of them need smaller steps ({SIZE}) and more epochs ({epochs})."
