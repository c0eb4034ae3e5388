"""Whether a run packs its batches or pads them, and why: by the setting, the attention, and a question to the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.config.training_choices import ON
from geko_engine.exceptions import ConfigError, GekoError, is_out_of_memory
from geko_engine.models.attention import attention_of, takes_bounds
from geko_engine.scoring.evaluation import SCAN_FACTOR
from geko_engine.scoring.packing_check import packing_problem
from geko_engine.training.engine import TrainingEngine

FIELD = "training.padding_free"
LARGEST_TABLE = 8192  # positions: no model has learned ones, or a stored mask, for more


def choose(engine: TrainingEngine, samples: Any, warn: Callable[[str], None]) -> str:
    """Let `engine` pack its batches where that is asked for and right; every process must ask.

    Args:
        warn: called with a sentence where the attention would take packed rows, but the model may not have them.

    Returns:
        "on" or "off", with the reason, for the header of the run.

    Raises:
        ConfigError: when padding_free is on and cannot be.
    """
    args, name = engine.args, attention_of(engine.model) or "the model"
    reason = _not_asked_for(args, name)
    if reason:
        return f"off ({reason})"
    reason = next(filter(None, engine.gather(_obstacle(engine, samples, warn))), "")
    if not reason:
        engine.pack()
        return f"on ({name})"
    if args.padding_free == ON:
        raise ConfigError(f"padding_free is on, but {reason}: set padding_free to auto or off.", FIELD)
    grouped = ", in groups of similar length" if args.group_by_length else ""
    warn(f"Batches are padded{grouped}, although {name} could do without: {reason}.")
    return f"off ({reason})"


def _not_asked_for(args: GEKOTrainingArgs, name: str) -> str:
    if args.padding_free == "auto" and not takes_bounds(name):
        return f"{name} has no kernels for samples of different lengths"
    return "switched off" if args.padding_free == "off" else ""


def _obstacle(engine: TrainingEngine, samples: Any, warn: Callable[[str], None]) -> str:
    """Why the samples of a batch cannot share a row, as the end of a sentence; "" if they can."""
    if engine.is_compiled:
        return "torch.compile wants batches of few lengths"
    if engine.args.neftune_noise_alpha:
        return "the noise of neftune_noise_alpha gets smaller as a row gets longer"
    if "position_ids" in getattr(samples, "passed_on", ()):
        return "the dataset has position_ids of its own"
    scorer = engine.scored.scorer
    sentence = "" if scorer.packing_obstacle else _settled_as_in_training(engine, samples)
    if sentence:
        warn(sentence)
    return scorer.packing_obstacle or _found_by_asking(engine, samples)


def _settled_as_in_training(engine: TrainingEngine, samples: Any) -> str:
    """`settle_loss` in the mode in which the trainer asks again: some losses are other ones in training."""
    was_training = engine.model.training
    engine.model.train()
    sentence = engine.settle_loss(samples)
    engine.model.train(was_training)
    return sentence


def _found_by_asking(engine: TrainingEngine, samples: Any) -> str:
    limit = engine.padded.limit
    largest = -samples.lengths  # of a scan, whose batches are the largest
    largest.sort()
    tokens = min(limit, int(-largest[: SCAN_FACTOR * engine.args.batch_size].sum())) if limit <= LARGEST_TABLE else 0
    try:
        return packing_problem(engine.scored, samples, engine.padded, engine.device, tokens=tokens, half=engine.is_half)
    except GekoError:
        raise
    except Exception as error:  # noqa: BLE001 - a model may refuse such a row in any way
        if is_out_of_memory(error):
            return "memory ran out when the model was asked"
        return (
            f"the model refuses such a row ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        )
