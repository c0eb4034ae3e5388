"""A LoRA adapter in the place of a model: its base model, trained on from where the adapter ended, or with it merged.

Knows peft, and neither how models are loaded nor data.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from geko_engine.config.sections import DEMO, ModelConfig
from geko_engine.data.local_files import is_local
from geko_engine.exceptions import ConfigError, ModelError
from geko_engine.models.lora import is_peft_available
from geko_engine.models.names import ADAPTER, is_rounded_base, needs_4bit
from geko_engine.models.quantization import is_quantized
from geko_engine.storage.user_paths import expand

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Adapter:
    """An adapter that a run starts from.

    Attributes:
        path: folder of its files.
        base: its base model, with the other settings of the run's model.
        values: of its adapter_config.json.
    """

    path: Path
    base: ModelConfig
    values: dict[str, Any]

    @property
    def trained_on(self) -> str:
        """What a run that trains the adapter on should know."""
        targets = self.values.get("target_modules") or []
        layers = targets if isinstance(targets, str) else ", ".join(sorted({name.split(".")[-1] for name in targets}))
        return (
            f"The training goes on with the adapter in {str(self.path)!r}, on its base model {self.base.name}: rank "
            f"{self.values.get('r')}, alpha {self.values.get('lora_alpha')}, layers {layers}. These are the adapter's own: "
            "r, alpha, dropout and layers of the settings have no effect."
        )

    @property
    def merged(self) -> str:
        """What a run that trains all weights should know."""
        return (
            f"The adapter in {str(self.path)!r} is merged into its base model {self.base.name}, and all weights are trained, "
            "because LoRA is off."
        )


def starting_adapter(config: ModelConfig) -> Adapter | None:
    """The adapter that a model's name stands for, if its files are on this machine; None for a complete model.

    Raises:
        ModelError: like `adapter_at`.
    """
    if config.name == DEMO:
        return None
    if is_local(config.name):
        return adapter_at(expand(config.name), config)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(config.name, ADAPTER, revision=config.revision)
    return adapter_at(Path(found).parent, config) if isinstance(found, str) else None


def adapter_at(folder: Path, config: ModelConfig) -> Adapter | None:
    """The adapter in a folder; None where a complete model is, or none.

    Args:
        folder: local, or in the Hub's cache.
        config: of the run's model.

    Raises:
        ModelError: the adapter is not of LoRA, names no base model, or its settings cannot be read.
    """
    if not (folder / ADAPTER).is_file() or any((folder / name).is_file() for name in WEIGHTS):
        return None
    try:
        values = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
        base, kind = values["base_model_name_or_path"], str(values["peft_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The {ADAPTER} of {config.name!r} is damaged or names no base model: give the base model.", "model.name"
        ) from error
    if kind != "LORA" or not isinstance(base, str) or not base:
        raise ModelError(
            f"{config.name!r} is no LoRA adapter with a base model ({kind}): give the base model.", "model.name"
        )
    if is_local(base) and not is_local(config.name):
        raise ModelError(
            f"The adapter {config.name!r} names a folder of another machine as its base model ({base!r}): give a merged model.",
            "model.name",
        )
    if is_local(base) and (expand(base) / ADAPTER).is_file() and not (expand(base) / "config.json").is_file():
        raise ModelError(
            f"The adapter {config.name!r} is of another adapter ({base!r}): merge that one first, and give the result.",
            "model.name",
        )
    return Adapter(folder, replace(config, name=base, revision=values.get("revision")), values)


def add_adapter(model: Any, adapter: Adapter, *, trainable: bool) -> Any:
    """The base model with the adapter: to train the adapter on, or merged into the weights.

    Quantized weights keep it beside them: merging would round it.

    Args:
        model: the base model.
        adapter: of this model.
        trainable: whether the adapter is trained on.

    Raises:
        ConfigError: if peft is missing, or the adapter is of LoftQ and the model not in 4 bits. ModelError: if the adapter does not fit the model.
    """
    if not is_peft_available():
        raise ConfigError(
            'An adapter needs peft: install it with `pip install "geko-finetune[peft]"`, or give a complete model.',
            "model.name",
        )
    from peft import PeftModel, prepare_model_for_kbit_training

    fits_4bit_only = is_rounded_base(adapter.path)
    if fits_4bit_only and not getattr(model, "is_loaded_in_4bit", False):
        raise ConfigError(needs_4bit(str(adapter.path)), "model.quantization")
    if trainable and is_quantized(model):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated interface of transformers
            adapted = PeftModel.from_pretrained(model, str(adapter.path), is_trainable=trainable)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(
            f"The adapter in {str(adapter.path)!r} does not fit its base model {adapter.base.name} "
            f"({str(error).splitlines()[0]}): give the complete model.",
            "model.name",
        ) from error
    adapted.fits_4bit_only = fits_4bit_only
    if not trainable and is_quantized(model):
        return adapted
    if not trainable:
        return adapted.merge_and_unload().requires_grad_(True)  # peft froze the weights; all are floating-point ones
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()  # small updates need float32
    return adapted
