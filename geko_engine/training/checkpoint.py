"""What a checkpoint holds, and how a run goes on from it. Knows the policy as a state_dict, and no loop."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import geko_engine
from geko_engine.config.selection import GEKOConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.config.training_choices import ADAMW, ADAMW_8BIT
from geko_engine.exceptions import CheckpointError, GekoError, is_out_of_memory
from geko_engine.models.precision import held_in
from geko_engine.models.saving import fits_4bit_only, load_trainable_state, not_finite, require_finite, trainable_state
from geko_engine.models.sharding import reshard, whole
from geko_engine.selection.policy import SelectionPolicy
from geko_engine.storage.array_files import load_arrays, save_arrays
from geko_engine.training import version_1
from geko_engine.training.checkpoint_files import (
    random_states,
    read_manifest,
    remove_old,
    restore_random_states,
    write_checkpoint,
)
from geko_engine.training.ending import Ending
from geko_engine.training.engine import TrainingEngine
from geko_engine.training.parallel import shared_optimizer_state, whole_optimizer_state
from geko_engine.training.state import TrainerState
from geko_engine.training.step_size import in_words, step_problem

__all__ = ["TrainingSnapshot", "load", "random_states", "remove_old", "restore_random_states", "save", "snapshot_of"]
FORMAT = 4
POLICY, ENDING = "policy.safetensors", "ending.safetensors"
# What files whose checksums are right, but whose content is none of a checkpoint's, lead to.
UNREADABLE = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError),
    *(SafetensorError, pickle.UnpicklingError),
)
STEP = "samples_per_step"  # the part of the identity that a change of settings can restore
LARGE_PRIME = 1_000_003
# Part of the identity that earlier checkpoints do not have.
ADDED = ("target_fingerprint", "max_steps", "fits_4bit_only")
DECAYING = (
    "The checkpoint {path!r} is of a run that found its length by an earlier rule, and its learning rate had begun to fall: resume it "
    "with the version that wrote it, or start a new run."
)
CONSTANT_NOW = "with num_epochs = auto the learning rate stays at its peak now (was 0.7 of it)"
AVERAGE_NOW = "the learning rate stays constant now, and the average of the weights begins at those of the checkpoint, which has none"
BEST_NOW = "the checkpoint has no best weights, so the best evaluation is looked for anew"
THAT_CHANGE_THE_RESULT = (
    *("learning_rate", "weight_decay", "warmup_steps", "max_grad_norm", "max_tokens_per_batch", "group_by_length"),
    *("bf16", "fp16", "use_8bit_optimizer", "optim", "lr_scheduler_type", "warmup_ratio", "neftune_noise_alpha"),
    *("max_epochs", "max_minutes", "max_cost", "cost_per_hour"),
    *("average_weights", "load_best_model_at_end", "metric_for_best_model", "early_stopping_patience"),
)


@dataclass
class TrainingSnapshot:
    """All that a checkpoint holds, or is loaded into.

    Attributes:
        identity: what must be the same for a resume to go on with the same run, by name.
        settings: what may differ, but changes the result, by dotted key.
        ending: the averaged and the best weights, where they are kept.
    """

    model: torch.nn.Module
    tokenizer: Any
    engine: TrainingEngine
    policy: SelectionPolicy
    state: TrainerState
    identity: dict[str, Any]
    settings: dict[str, Any]
    ending: Ending


def save(snapshot: TrainingSnapshot, path: Path) -> None:
    """Write weights, optimizer, policy, random states, settings and versions to `path`, atomically.

    The first of several processes writes, with the random states of all.

    Raises:
        CheckpointError: when the disk is full or cannot be written. RunError: when a weight is not finite.
    """
    engine, tokenizer = snapshot.engine, snapshot.tokenizer
    reshard(engine.scored)
    require_finite(next(filter(None, engine.gather(not_finite(snapshot.model))), ""))  # in all processes, or in none
    drawn = engine.gather(random_states())
    weights = {name: whole(part, keep=engine.is_main) for name, part in trainable_state(snapshot.model).items()}
    optimizer = whole_optimizer_state(engine.optimizer, keep=engine.is_main)
    policy = snapshot.policy.state_dict()
    arrays = {name: value for name, value in policy.items() if isinstance(value, np.ndarray)}

    def write(folder: Path) -> None:
        save_file(weights, str(folder / "weights.safetensors"))
        states: dict[str, Any] = {"optimizer": optimizer, "random": drawn}
        if engine.accelerator.scaler is not None:
            states["scaler"] = engine.accelerator.scaler.state_dict()
        torch.save(states, folder / "states.pt")
        save_arrays(arrays, folder / POLICY)
        if kept := snapshot.ending.tensors():
            save_file({name: tensor.contiguous() for name, tensor in kept.items()}, str(folder / ENDING))
        if tokenizer is not None and hasattr(tokenizer, "save_pretrained"):
            tokenizer.save_pretrained(folder / "tokenizer")

    facts = {
        "format": FORMAT,
        "state": asdict(snapshot.state),
        "policy": {name: value for name, value in policy.items() if name not in arrays},
        "identity": snapshot.identity,
        "settings": snapshot.settings,
        "versions": versions(),
    }
    if engine.is_main:
        write_checkpoint(path, write, facts)
    engine.wait()


def expected_bytes(
    model: torch.nn.Module, engine: TrainingEngine, policy: SelectionPolicy, ending: Ending | None = None
) -> int:
    """Bytes that a checkpoint takes on the disk, tokenizer and manifest aside.

    Before the first step the optimizer has no state yet: then as much as Adam's two averages is assumed.
    """
    weights = sum(tensor.nbytes for tensor in trainable_state(model).values())
    state = [value for values in engine.optimizer.state.values() for value in values.values()]
    averages = sum(value.nbytes for value in state if isinstance(value, torch.Tensor))
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    arrays = sum(value.nbytes for value in policy.state_dict().values() if isinstance(value, np.ndarray))
    return weights + (averages or 2 * trained) + arrays + (ending.expected_bytes if ending is not None else 0)


def load(snapshot: TrainingSnapshot, path: Path) -> list[str]:
    """Bring model, engine, policy and state to where the checkpoint at `path` was written; `state` is replaced.

    Checkpoints of version 1 are read too.

    Returns:
        A phrase for each setting that differs and changes the result.

    Raises:
        CheckpointError: when it is damaged, or of another model, dataset or schedule (named).
    """
    try:
        return _load(snapshot, path)
    except UNREADABLE as error:
        if isinstance(error, GekoError) or is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise CheckpointError(
            f"The checkpoint {str(path)!r} cannot be read ({reason}): resume from another one."
        ) from error


def _load(snapshot: TrainingSnapshot, path: Path) -> list[str]:
    manifest = read_manifest(path)
    there = manifest["identity"]
    number = manifest.get("format", there.get("format"))
    if number not in (FORMAT, version_1.FORMAT):
        raise CheckpointError(
            f"The checkpoint {str(path)!r} has format {number}, and this version of GEKO reads {version_1.FORMAT} and "
            f"{FORMAT}: resume with the version that wrote it."
        )
    engine = snapshot.engine
    differences = [
        f"{name} is {value!r} here and {there.get(name)!r} there"
        for name, value in snapshot.identity.items()
        if name != STEP and there.get(name, value if name in ADDED else None) != value
    ]
    args = engine.args
    differences += filter(
        None, [step_problem(there[STEP], args.batch_size, args.gradient_accumulation_steps, engine.processes)]
    )
    if differences:
        raise CheckpointError(f"The checkpoint {str(path)!r} is of another run: {'; '.join(differences)}.")
    wrong = load_trainable_state(snapshot.model, load_file(str(path / "weights.safetensors")))
    if wrong:
        raise CheckpointError(f"The checkpoint {str(path)!r} is of another model: {', '.join(wrong[:3])} do not fit.")
    if number == FORMAT:
        values, policy = dict(manifest["state"]), manifest["policy"] | load_arrays(path / POLICY)
    else:
        values, policy = version_1.read(path, manifest["progress"])
    snapshot.policy.load_state_dict(policy)
    kept = load_file(str(path / ENDING)) if (path / ENDING).is_file() else {}
    begins_anew = snapshot.ending.load_tensors(kept)
    values.setdefault("events", None)  # earlier versions did not save it
    if not values["finished"]:
        values["reason"] = ""  # why it stopped then; why it ended stays true
    if values.get("decay_from"):
        raise CheckpointError(DECAYING.format(path=str(path)))
    snapshot.state = TrainerState.from_dict(values)
    states = torch.load(path / "states.pt", map_location="cpu", weights_only=True)
    written = manifest.get("settings", {})
    same_optimizer = not written or _optimizer_of(written) == _optimizer_of(snapshot.settings)
    if same_optimizer:
        engine.optimizer.load_state_dict(shared_optimizer_state(states["optimizer"], engine.optimizer))
    if "scaler" in states and engine.accelerator.scaler is not None:
        engine.accelerator.scaler.load_state_dict(states["scaler"])
    _restore_random_states(states["random"], snapshot)  # last: everything above may draw
    different = _other_processes(len(states["random"]), engine.processes)
    different += [AVERAGE_NOW] if begins_anew else []
    different += [BEST_NOW] if snapshot.ending.forget_lost_best(snapshot.state) else []
    different += [CONSTANT_NOW] if args.finds_length and "decay_from" in values else []
    different += [
        f"{key} is {value!r} (was {written[key]!r})"
        for key, value in json.loads(json.dumps(snapshot.settings)).items()
        if key in written and written[key] != value
    ]
    return different if same_optimizer else [*different, "the new optimizer begins without the state of the old one"]


def _restore_random_states(drawn: list[dict[str, Any]], snapshot: TrainingSnapshot) -> None:
    """Each process goes on with the random states of its rank; one that was not there begins with new ones."""
    rank, args = snapshot.engine.rank, snapshot.engine.args
    if rank < len(drawn):
        restore_random_states(drawn[rank])
    else:
        set_seed((args.seed + rank + LARGE_PRIME * snapshot.state.step) % 2**32)


def _other_processes(there: int, here: int) -> list[str]:
    """A phrase where a run goes on in another number of processes: each has random states of its own."""
    return [] if there == here else [f"{in_words(here)} instead of {there} (dropout draws other numbers)"]


def _optimizer_of(settings: dict[str, Any]) -> str:
    """The optimizer that `settings`, by dotted key, ask for; those of version 1 have no optim."""
    return ADAMW_8BIT if settings.get("training.use_8bit_optimizer") else settings.get("training.optim", ADAMW)


def snapshot_of(
    engine: TrainingEngine,
    tokenizer: Any,
    policy: SelectionPolicy,
    state: TrainerState,
    ending: Ending,
    samples: Any,
    config: GEKOConfig,
) -> TrainingSnapshot:
    """The run of these parts as it stands now, to be saved or to be loaded into."""
    named = identity(engine.model, samples, engine.args, engine)
    return TrainingSnapshot(engine.model, tokenizer, engine, policy, state, named, settings(config, engine), ending)


def settings(config: GEKOConfig, engine: TrainingEngine) -> dict[str, Any]:
    """The settings that change the result of a run and may differ in a resumed one, by dotted key."""
    rule = {f"geko.{name}": value for name, value in asdict(config).items() if name != "log_bucket_stats"}
    training = {f"training.{name}": getattr(engine.args, name) for name in THAT_CHANGE_THE_RESULT}
    found = {"model.dtype": held_in(engine.model), "training.padding_free": "on" if engine.is_packed else "off"}
    return rule | training | found


def identity(model: torch.nn.Module, samples: Any, args: GEKOTrainingArgs, engine: TrainingEngine) -> dict[str, Any]:
    """What must be the same for a resume to go on with the same run."""
    return {
        "samples": len(samples),
        "data_fingerprint": fingerprint(samples),
        "target_fingerprint": fingerprint(samples, "labels"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "frozen_weights": engine.frozen_weights,
        "fits_4bit_only": fits_4bit_only(model),
        "num_epochs": None if args.step_limit else args.num_epochs,
        "max_steps": args.step_limit,
        STEP: engine.step_size,
        "seed": args.seed,
    }


def fingerprint(samples: Any, what: str = "input_ids") -> str:
    """A short hash of the lengths of all samples and the tokens (or the labels) of a thousand of them."""
    digest = hashlib.sha256(np.ascontiguousarray(samples.lengths, dtype=np.int64).tobytes())
    for index in np.linspace(0, len(samples) - 1, min(1000, len(samples))).astype(int):
        digest.update(np.asarray(samples[int(index)][what], dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of what wrote the checkpoint."""
    import accelerate
    import transformers

    return {
        "geko": geko_engine.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
    }
