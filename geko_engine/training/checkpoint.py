"""What a trainer's checkpoint holds, and how a trainer goes on from it. Knows the trainer's parts, not its loop."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

import geko_engine
from geko_engine.exceptions import CheckpointError
from geko_engine.models.saving import load_trainable_state, trainable_state
from geko_engine.selection.epoch_plan import Plan
from geko_engine.training.checkpoint_files import (
    random_states,
    read_manifest,
    remove_old,
    restore_random_states,
    write_checkpoint,
)
from geko_engine.training.compute import TokenCounter

if TYPE_CHECKING:
    from geko_engine.training.trainer import GEKOTrainer

__all__ = ["load", "random_states", "remove_old", "restore_random_states", "save"]
FORMAT = 3
PANEL = "panel.safetensors"  # only where churn is measured


def save(trainer: GEKOTrainer, path: Path) -> None:
    """Write weights, optimizer, record, plan, random states, settings and versions to `path`, atomically.

    The first of several processes writes, with the random states of all.
    """
    machine = trainer.machine
    drawn = machine.gather(random_states())

    def write(folder: Path) -> None:
        save_file(trainable_state(trainer.model), str(folder / "weights.safetensors"))
        states: dict[str, Any] = {"optimizer": machine.optimizer.state_dict(), "random": drawn}
        if machine.accelerator.scaler is not None:
            states["scaler"] = machine.accelerator.scaler.state_dict()
        torch.save(states, folder / "states.pt")
        trainer.states.save(folder / "samples.safetensors")
        trainer.history.save(folder / "history.safetensors")
        if len(trainer.panel):
            save_arrays({"probability": trainer.panel}, str(folder / PANEL))
        if trainer.plan is not None:
            save_arrays(_plan_arrays(trainer.plan), str(folder / "plan.safetensors"))
        if trainer.tokenizer is not None and hasattr(trainer.tokenizer, "save_pretrained"):
            trainer.tokenizer.save_pretrained(folder / "tokenizer")

    facts = {"progress": asdict(trainer.progress), "identity": identity(trainer), "versions": versions()}
    if machine.is_main:
        write_checkpoint(path, write, facts)
    machine.wait()


def load(trainer: GEKOTrainer, path: Path) -> None:
    """Bring the trainer to where the checkpoint at `path` was written. Raises CheckpointError."""
    manifest = read_manifest(path)
    differences = [
        f"{name} is {value!r} here and {manifest['identity'].get(name)!r} there"
        for name, value in identity(trainer).items()
        if manifest["identity"].get(name) != value
    ]
    if differences:
        raise CheckpointError(f"The checkpoint {str(path)!r} is of another run: {'; '.join(differences)}.")
    wrong = load_trainable_state(trainer.model, load_file(str(path / "weights.safetensors")))
    if wrong:
        raise CheckpointError(f"The checkpoint {str(path)!r} is of another model: {', '.join(wrong[:3])} do not fit.")
    trainer.states.load(path / "samples.safetensors")
    if (path / "history.safetensors").exists():  # not in checkpoints of earlier versions
        trainer.history.load(path / "history.safetensors")
    plan = path / "plan.safetensors"
    trainer.plan = _plan_from(load_arrays(str(plan))) if plan.exists() else None
    trainer.panel = load_arrays(str(path / PANEL))["probability"] if (path / PANEL).exists() else trainer.panel[:0]
    values = dict(manifest["progress"])
    values["counter"] = TokenCounter(**values["counter"])
    if not values["finished"]:
        values["reason"] = ""  # why it stopped then; why it ended stays true
    trainer.progress = type(trainer.progress)(**values)
    states = torch.load(path / "states.pt", map_location="cpu", weights_only=True)
    machine = trainer.machine
    machine.optimizer.load_state_dict(states["optimizer"])
    if "scaler" in states and machine.accelerator.scaler is not None:
        machine.accelerator.scaler.load_state_dict(states["scaler"])
    restore_random_states(states["random"][machine.rank])  # last: everything above may draw


def identity(trainer: GEKOTrainer) -> dict[str, Any]:
    """What must be the same for a resume to go on with the same run."""
    args = trainer.args
    return {
        "format": FORMAT,
        "samples": len(trainer.samples),
        "data_fingerprint": fingerprint(trainer.samples),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "frozen_weights": frozen_fingerprint(trainer.model),
        "num_epochs": args.num_epochs,
        "samples_per_step": trainer.machine.step_size,
        "processes": trainer.machine.processes,
        "seed": args.seed,
    }


def fingerprint(samples: Any) -> str:
    """A short hash of the lengths of all samples and the tokens of a thousand of them."""
    digest = hashlib.sha256(np.ascontiguousarray(samples.lengths, dtype=np.int64).tobytes())
    for index in np.linspace(0, len(samples) - 1, min(1000, len(samples))).astype(int):
        digest.update(np.asarray(samples[int(index)]["input_ids"], dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]


def frozen_fingerprint(model: torch.nn.Module) -> str:
    """A short hash of the first values of each frozen parameter: the base model that an adapter belongs to."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            values = parameter.detach().flatten()[:8].double().cpu().numpy()
            digest.update(name.encode() + values.tobytes())
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


def _plan_arrays(plan: Plan) -> dict[str, Any]:
    counts = np.array([plan.replayed, plan.left_out, plan.suspects, plan.predicted], np.int64)
    names = ("order", "loss_weights", "starts", "sizes", "due")
    arrays = {name: np.ascontiguousarray(getattr(plan, name)) for name in names}
    return {**arrays, "counts": counts, "share": np.array([plan.share])}


def _plan_from(arrays: dict[str, Any]) -> Plan:
    replayed, left_out, suspects, predicted = arrays.pop("counts").tolist()
    share = float(arrays.pop("share")[0])
    return Plan(**arrays, share=share, replayed=replayed, left_out=left_out, suspects=suspects, predicted=predicted)
