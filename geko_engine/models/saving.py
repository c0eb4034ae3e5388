"""Saving models, and the tensors that training changes. Knows no training loop."""

from __future__ import annotations

import hashlib
import json
import math
from copy import deepcopy as copy_of
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geko_engine.exceptions import RunError
from geko_engine.models.names import ROUNDED_BASE
from geko_engine.models.sharding import own_part, shared_like, whole


def save_model(
    model: Any,
    tokenizer: Any,
    path: Path,
    dtype: torch.dtype | None = None,
    state: dict[str, torch.Tensor] | None = None,
) -> None:
    """Save a model (or adapter) and its tokenizer for from_pretrained; a plain module as model.safetensors.

    Args:
        model: with save_pretrained, or any torch module.
        tokenizer: saved beside it if it has save_pretrained; may be None.
        path: folder, created if missing.
        dtype: in which the weights of a whole model are written; None for the one that they are held in. Adapters are
            always written as they are held.
        state: its weights, as from `whole_state`, where they are shared out.

    Raises:
        RunError: when a trainable weight is not finite.
    """
    if state is None:
        require_finite(not_finite(model))
    path.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "save_pretrained"):
        if hasattr(model, "peft_config"):
            _save_adapters(model, path, state)
            if getattr(model, "generation_config", None) is not None:  # where generation stops, for who reads it here
                model.generation_config.save_pretrained(path)
        elif dtype in (None, getattr(model, "dtype", None)):
            model.save_pretrained(path, state_dict=state)
        else:
            _save_in(dtype, model, path, model.state_dict() if state is None else state)
    else:
        from safetensors.torch import save_model as save_tensors

        save_tensors(model, str(path / "model.safetensors"))
    if tokenizer is not None and hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(path)


def keep_initial_adapters(model: Any) -> None:
    """Remember what the adapters of `model` begin with, where their initialization (PiSSA) took it out of the base weights."""
    if str(model.peft_config[model.active_adapter].init_lora_weights).startswith("pissa"):
        model.initial_adapters = {name: p.detach().clone() for name, p in model.named_parameters() if is_low_rank(name)}


def fits_4bit_only(model: Any) -> bool:
    """Whether the adapters of `model` make up for the rounding of their base weights (LoftQ), and fit no others."""
    return bool(getattr(model, "fits_4bit_only", False))


def is_low_rank(name: str) -> bool:
    """Whether a parameter is one of an adapter's two matrices."""
    return ".lora_A." in name or ".lora_B." in name


def _save_adapters(model: Any, path: Path, state: dict[str, torch.Tensor] | None) -> None:
    """Save the adapters for the base model as its author published it.

    PiSSA trains W - s B0 A0 + s B A, so beside W belongs s (B A - B0 A0): an adapter of twice the rank that holds both.
    """
    if fits_4bit_only(model):
        values = {"trained_with": "LoftQ", "bits": 4, "type": "nf4", "quantized_scales": True}
        (path / ROUNDED_BASE).write_text(json.dumps(values) + "\n", encoding="utf-8")
    initial = getattr(model, "initial_adapters", None)
    if initial is None:
        model.save_pretrained(path, state_dict=state)
        return
    state = model.state_dict() if state is None else dict(state)
    for name, before in initial.items():
        first = name.rpartition(".lora_A.")[1]  # A [r, in], B [out, r]
        both = [state[name], before.to(state[name].device) * (1 if first else -1)]
        state[name] = torch.cat(both, dim=0 if first else 1)
    settings = model.peft_config[model.active_adapter]
    factor = math.sqrt(2) if settings.use_rslora else 2  # the scale stays: alpha / r, or alpha / sqrt(r)
    saved = copy_of(settings)
    saved.init_lora_weights, saved.r, saved.lora_alpha = True, 2 * settings.r, factor * settings.lora_alpha
    saved.rank_pattern = {name: 2 * rank for name, rank in settings.rank_pattern.items()}
    saved.alpha_pattern = {name: factor * alpha for name, alpha in settings.alpha_pattern.items()}
    model.peft_config[model.active_adapter] = saved
    try:
        model.save_pretrained(path, state_dict=state)
    finally:
        model.peft_config[model.active_adapter] = settings


def _save_in(dtype: torch.dtype, model: Any, path: Path, state: dict[str, torch.Tensor]) -> None:
    """Save a transformers model with its floating-point weights in `dtype`, and with that dtype in its config.json."""
    copies: dict[Any, torch.Tensor] = {}  # tied weights stay tied, or they would be written twice

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        place = (tensor.data_ptr(), tensor.shape)
        if place not in copies:
            copies[place] = tensor.detach().to("cpu", dtype)
        return copies[place]

    model.save_pretrained(path, state_dict={name: copy(tensor) for name, tensor in state.items()})
    settings = copy_of(model.config)
    settings.dtype = dtype
    settings.save_pretrained(path)


def set_end_token(model: Any, tokenizer: Any, token: str) -> bool:
    """Let generation stop at the token that the model has learned to end an answer with, wherever the model is loaded.

    Tokenizer, generation_config.json and config.json are what transformers, vLLM and converters to GGUF read it from.

    Args:
        model: its generation settings keep the ends that they had and get this one first.
        tokenizer: its end of sequence becomes this token.
        token: as text; nothing is changed where it is empty.

    Returns:
        Whether generation with the settings that the model had would not have stopped at this token.
    """
    if not token:
        return False
    number = tokenizer.convert_tokens_to_ids(token)
    if tokenizer.eos_token != token:
        tokenizer.eos_token = token
    settings = getattr(model, "generation_config", None)
    known = []
    if settings is not None:
        before = settings.eos_token_id
        known = before if isinstance(before, list) else [before]
        ends = list(dict.fromkeys([number, *(end for end in known if end is not None)]))
        settings.eos_token_id = ends if len(ends) > 1 else number
    if getattr(model, "config", None) is not None:
        model.config.eos_token_id = number
    return number not in known


def not_finite(model: nn.Module) -> str:
    """The name of a trainable weight of which this process holds a NaN or an infinite value; "" if there is none."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(own_part(parameter)).all()):
            return name
    return ""


def require_finite(name: str) -> None:
    """Raise RunError when there is a `name` of a weight that is not finite: nothing good comes of saving it."""
    if name:
        raise RunError(
            f"The weight {name} is not finite any more, so nothing is saved: resume from the last checkpoint with a "
            "lower learning rate.",
            "training.learning_rate",
        )


def whole_state(model: Any, *, keep: bool = True) -> dict[str, torch.Tensor]:
    """The tensors that `save_model` writes, put together in main memory: of adapters, or of all weights.

    Args:
        model: where its weights are shared out, all processes must call this.
        keep: False in the processes that only hand on their part.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    adapters = hasattr(model, "peft_config")
    together: dict[int, Any] = {}  # by parameter: tied weights stay tied
    found = {}
    for name, tensor in model.state_dict().items():
        given = parameters.get(name, tensor)
        if adapters and not given.requires_grad:
            continue
        if id(given) not in together:
            together[id(given)] = whole(tensor.detach(), keep=keep)
        found[name] = together[id(given)]
    return found if keep else {}


def saved_bytes(model: nn.Module, dtype: torch.dtype | None = None) -> int:
    """Bytes of weights that `save_model` writes; arguments as there."""
    if hasattr(model, "peft_config"):
        copies = 2 if hasattr(model, "initial_adapters") else 1
        return copies * sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return sum(
        p.numel() * (dtype.itemsize if dtype and p.is_floating_point() else p.itemsize) for p in model.parameters()
    )


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """All tensors that training changes, by name: trainable parameters and saved buffers, shared ones once."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    saved = model.state_dict().keys()
    buffers = {name: b for name, b in model.named_buffers() if name in saved}
    return {name: tensor.detach().contiguous() for name, tensor in {**named, **buffers}.items()}


def load_trainable_state(model: nn.Module, tensors: dict[str, torch.Tensor]) -> list[str]:
    """Copy `tensors` into the model in place.

    Args:
        model: its tensors are overwritten.
        tensors: as from `trainable_state`.

    Returns:
        Names that do not fit. If there are any, nothing was copied.
    """
    here = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    expected = trainable_state(model)
    wrong = sorted(set(expected) ^ set(tensors)) or [n for n in tensors if here[n].shape != tensors[n].shape]
    if not wrong:
        with torch.no_grad():
            for name, tensor in tensors.items():
                here[name].copy_(shared_like(tensor, here[name]))
    return wrong


def frozen_fingerprint(model: torch.nn.Module) -> str:
    """A short hash of the first values of each frozen parameter: the base model that an adapter belongs to."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            values = parameter.detach().flatten()[:8].cpu().double().numpy()  # not every device has float64
            digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()[:16]
