"""LoRA adapters, also on quantized weights: which layers get them, and which settings are refused.

Knows peft and bitsandbytes, but no files and no data.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from geko_engine.config.run_config import QUANTIZED_NEEDS_LORA
from geko_engine.config.sections import ALL_LINEAR, LOFTQ, LoraSettings
from geko_engine.exceptions import ConfigError
from geko_engine.models.quantization import count_parameters, is_quantized
from geko_engine.models.saving import keep_initial_adapters

# By model_type in config.json. A name means every layer whose path ends with it, as in peft.
LORA_TARGETS: dict[str, list[str]] = {
    "gpt2": ["c_attn", "c_proj"],
    "gpt_neo": ["c_attn", "c_proj", "q_proj", "v_proj", "out_proj"],  # some of its layers have other names
    "llama": ["q_proj", "v_proj"],  # SmolLM too
    "mistral": ["q_proj", "v_proj"],
    "mixtral": ["q_proj", "v_proj"],
    "qwen": ["c_attn"],  # the first Qwen, which has its own code
    "qwen2": ["q_proj", "v_proj"],
    "qwen3": ["q_proj", "v_proj"],
    "gemma": ["q_proj", "v_proj"],
    "gemma2": ["q_proj", "v_proj"],
    "phi": ["q_proj", "dense"],
    "phi3": ["qkv_proj", "o_proj"],  # Phi's two layers, fused and renamed in Phi-3
    "falcon": ["query_key_value"],
}


def is_peft_available() -> bool:
    """Whether peft is installed."""
    return importlib.util.find_spec("peft") is not None


def require_adapters(model: Any) -> None:
    """Raise ConfigError for quantized weights without adapters: they have no gradient."""
    if is_quantized(model) and not hasattr(model, "peft_config"):
        raise ConfigError(QUANTIZED_NEEDS_LORA, "model.quantization")


def lora_config_for(settings: LoraSettings, model: Any) -> Any | None:
    """The peft.LoraConfig of the settings for this model, or None if LoRA is off.

    Args:
        settings: the section `lora` of a run.
        model: without adapters.

    Raises:
        ConfigError: if peft is missing, a target layer does not exist, LoRA is off and the weights are quantized, or the
            adapters cannot begin with LoftQ.
    """
    if not settings.enabled:
        require_adapters(model)
        return None
    _require_peft()
    from peft import TaskType

    family = getattr(getattr(model, "config", None), "model_type", "")
    targets: Any = settings.target_modules or [t for t in LORA_TARGETS.get(family, []) if _found(model, t)]
    if not targets or targets == [ALL_LINEAR]:
        targets = ALL_LINEAR
    else:
        _check_targets(model, targets)
    named = [] if targets == ALL_LINEAR else [module for t in targets for module in _found(model, t)]
    _check_targets(model, settings.modules_to_save, "lora.modules_to_save")
    whole = [module for t in settings.modules_to_save for module in _found(model, t)]
    _check_sharing(model, named)
    _check_sharing(model, whole, "lora.modules_to_save")
    chosen = named or model.modules()
    return _config_class(settings, model)(
        task_type=TaskType.CAUSAL_LM,
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        init_lora_weights=True if settings.init_lora_weights in ("default", LOFTQ) else settings.init_lora_weights,
        modules_to_save=settings.modules_to_save or None,
        fan_in_fan_out=any(_is_transposed(module) for module in chosen),
    )


def apply_lora(model: nn.Module, lora_config: Any, log: Callable[[str], None] = print) -> nn.Module:
    """Add low-rank adapters to `model`, and log trainable, total and frozen parameters.

    Args:
        model: is changed in place.
        lora_config: a peft.LoraConfig.
        log: called with each line.

    Returns:
        The model with adapters (peft.PeftModel).

    Raises:
        ConfigError: if peft is missing or a target layer does not exist (the message names those that do).
    """
    _require_peft()
    from peft import get_peft_model, prepare_model_for_kbit_training

    from geko_engine.models.loftq import LoftqConfig, begin_with_loftq

    targets = lora_config.target_modules
    if targets is not None and not isinstance(targets, str):
        _check_targets(model, targets)
    if is_quantized(model):
        # Norms and embeddings in float32. Gradient checkpointing has its own setting.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    try:
        with warnings.catch_warnings():
            # peft uses a deprecated interface of transformers; users cannot change that.
            warnings.simplefilter("ignore", FutureWarning)
            adapted: nn.Module = get_peft_model(model, lora_config)
    except ValueError as error:  # a pattern without a match, or a model family that peft does not know
        raise ConfigError(
            f"LoRA cannot be applied ({str(error).splitlines()[0]}). The model's linear layers: {_linear_names(model)}.",
            "lora.target_modules",
        ) from error
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()  # whole layers beside the adapters: small updates need float32
    keep_initial_adapters(adapted)
    total, trainable = count_parameters(adapted)
    log("[GEKO] LoRA applied")
    log(f"  Trainable params : {trainable:,} ({100 * trainable / total:.2f}%)")
    log(f"  Total params     : {total:,}")
    log(f"  Frozen params    : {total - trainable:,}")
    if isinstance(lora_config, LoftqConfig):
        begin_with_loftq(adapted, log)
    return adapted


def _config_class(settings: LoraSettings, model: Any) -> Any:
    """The class of the adapters' configuration. Raises ConfigError if they cannot begin as the settings say."""
    from peft import LoraConfig

    from geko_engine.models.loftq import LoftqConfig, require_loftq

    if settings.init_lora_weights != LOFTQ:
        return LoraConfig
    require_loftq(model)
    return LoftqConfig


def _require_peft() -> None:
    if not is_peft_available():
        raise ConfigError(
            'LoRA needs peft: install it with `pip install "geko-finetune[peft]"`, or switch LoRA off.', "lora.enabled"
        )


def _check_targets(model: nn.Module, targets: Iterable[str], field: str = "lora.target_modules") -> None:
    """Raise ConfigError for names without a layer, and for names of blocks of layers."""
    wrong = sorted(t for t in targets if not _found(model, t) or any(_is_block(m) for m in _found(model, t)))
    if wrong:
        raise ConfigError(
            f"The model has no layers named {', '.join(wrong)}. Its linear layers: {_linear_names(model)}; "
            f"{ALL_LINEAR} on its own means all of them except the output layer.",
            field,
        )


def _check_sharing(model: nn.Module, chosen: Iterable[nn.Module], field: str = "lora.target_modules") -> None:
    """Raise ConfigError for a layer whose weights another one uses: merging would change that one too, unseen by it."""
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        if isinstance(getattr(module, "weight", None), nn.Parameter):
            names.setdefault(id(module.weight), []).append(name)
    for module in chosen:
        users = names.get(id(getattr(module, "weight", None)), [])
        if len(users) > 1:
            own = next(name for name in users if model.get_submodule(name) is module)
            other = next(name for name in users if name != own)
            raise ConfigError(
                f"The layer {own} shares its weights with {other} in this model, so what it learns alone cannot be merged: "
                f"leave it out of {field.partition('.')[2]}.",
                field,
            )


def _found(model: nn.Module, target: str) -> list[nn.Module]:
    """The modules that `target` means to peft: their path is `target`, or ends with a dot and `target`."""
    return [m for name, m in model.named_modules() if name == target or name.endswith(f".{target}")]


def _linear_names(model: nn.Module) -> str:
    linear = (name for name, m in model.named_modules() if isinstance(m, nn.Linear) or _is_transposed(m))
    return ", ".join(sorted({name.split(".")[-1] for name in linear}))


def _is_transposed(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"  # GPT-2's linear layer


def _is_block(module: nn.Module) -> bool:
    return any(True for _ in module.children()) and not hasattr(module, "base_layer")  # a layer with an adapter has one
