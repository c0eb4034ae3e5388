"""LoRA, and quantised weights under it: which layers get adapters, and what is refused.

Knows peft and bitsandbytes, and no file and no data.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from geko_engine.config import ALL_LINEAR, QUANTIZED_NEEDS_LORA, GEKOTrainingArgs, LoraSettings
from geko_engine.exceptions import ConfigError

# By the model_type of config.json. A name stands for every layer whose path ends with it, as in peft.
LORA_TARGETS: dict[str, list[str]] = {
    "gpt2": ["c_attn", "c_proj"],
    "gpt_neo": ["c_attn", "c_proj", "q_proj", "v_proj", "out_proj"],  # its layers are named either way
    "llama": ["q_proj", "v_proj"],  # SmolLM too
    "mistral": ["q_proj", "v_proj"],
    "mixtral": ["q_proj", "v_proj"],
    "qwen": ["c_attn"],  # the first Qwen, which brings its own code
    "qwen2": ["q_proj", "v_proj"],
    "qwen3": ["q_proj", "v_proj"],
    "gemma": ["q_proj", "v_proj"],
    "gemma2": ["q_proj", "v_proj"],
    "phi": ["q_proj", "dense"],
    "phi3": ["qkv_proj", "o_proj"],  # Phi's pair, as Phi-3 fuses and names it
    "falcon": ["query_key_value"],
}


WORTH_QUANTIZING = 0.5  # share of the weights below which a warning is due


def is_peft_available() -> bool:
    """Whether peft is installed."""
    return importlib.util.find_spec("peft") is not None


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(all, trainable) parameters; two that share a byte count as two."""
    sizes = [(_size(p), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trainable in sizes if trainable)


def _size(parameter: nn.Parameter) -> int:
    packed = getattr(parameter, "quant_state", None)  # of a 4-bit weight
    return parameter.numel() if packed is None else math.prod(packed.shape)


def require_bitsandbytes(what: str, otherwise: str) -> None:
    """Raise ConfigError when bitsandbytes, which `what` needs, is missing; `otherwise` is the other way out."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"{what} need bitsandbytes: install the extra 'bnb', or {otherwise}.",
            "model.quantization",
        )


def quantization_config(quantization: str, args: GEKOTrainingArgs) -> Any | None:
    """The transformers.BitsAndBytesConfig for "4bit" or "8bit", or None for "none".

    4-bit weights are NF4 with quantised scales, and are multiplied in the precision of the run; 8-bit ones are
    LLM.int8().

    Raises:
        ConfigError: when bitsandbytes is missing.
    """
    if quantization == "none":
        return None
    require_bitsandbytes(f"Weights in {quantization}", "set quantization to none")
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        quiet_bitsandbytes()
        return BitsAndBytesConfig(load_in_8bit=True)
    precision = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision,
    )


def quiet_bitsandbytes() -> None:
    """Drop what bitsandbytes logs for nobody: that it casts inputs, at every multiplication, and that it misses kernels
    for 4-bit weights, when it is imported for something else (by peft, for any model)."""
    for module in ("autograd._functions", "backends.cpu.ops"):
        logging.getLogger(f"bitsandbytes.{module}").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not any(words in str(record.msg) for words in ("inputs will be cast", "Failed to load CPU gemm_4bit"))


def is_quantized(model: Any) -> bool:
    """Whether transformers loaded the model in 4 or 8 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


def require_adapters(model: Any) -> None:
    """Raise ConfigError for quantised weights without adapters: no gradient moves an integer."""
    if is_quantized(model) and not hasattr(model, "peft_config"):
        raise ConfigError(QUANTIZED_NEEDS_LORA, "model.quantization")


def settle_quantized(model: Any, warn: Callable[[str], None] = lambda text: None) -> None:
    """Make sure that the weights of a quantised model stay as they are; does nothing to others.

    On a CPU with bfloat16 instructions, bitsandbytes repacks 4-bit weights in the first evaluation: they become
    coarser, and it knows no gradient through them from then on (torch warns). So that is switched off.

    Args:
        warn: called with one sentence when most of the weights could not be quantised.

    Raises:
        ConfigError: when none could be, or they were repacked already.
    """
    if not is_quantized(model):
        return
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    layers = [m for m in model.modules() if isinstance(m, Linear4bit | Linear8bitLt)]
    if not layers:
        raise ConfigError(
            f"None of the linear layers of {model.config.model_type} can be quantised by bitsandbytes: set quantization "
            "to none.",
            "model.quantization",
        )
    for layer in layers:
        if getattr(getattr(layer.weight, "quant_state", None), "packing_format_for_cpu", False):
            raise ConfigError(
                "The 4-bit weights were used on the CPU before, and bitsandbytes repacked them so that no gradient passes: "
                "load the model anew and train it first.",
                "model.quantization",
            )
        layer.support_avx512bf16_for_cpu = False
    share = sum(_size(layer.weight) for layer in layers) / count_parameters(model)[0]
    if share < WORTH_QUANTIZING:
        warn(
            f"Only {100 * share:.0f} % of the weights could be quantised: bitsandbytes leaves embeddings and the fused "
            "experts of a mixture as they are, so little memory is saved."
        )


def lora_config_for(settings: LoraSettings, model: Any) -> Any | None:
    """The peft.LoraConfig that the settings describe for this model, or None when LoRA is off.

    Raises:
        ConfigError: when peft is missing, a layer is named that the model does not have, or LoRA is off though the
            weights are quantised.
    """
    if not settings.enabled:
        require_adapters(model)
        return None
    _require_peft()
    from peft import LoraConfig, TaskType

    family = getattr(getattr(model, "config", None), "model_type", "")
    targets: Any = settings.target_modules or [t for t in LORA_TARGETS.get(family, []) if _found(model, t)]
    if not targets or targets == [ALL_LINEAR]:
        targets = ALL_LINEAR
    else:
        _check_targets(model, targets)
    chosen = model.modules() if targets == ALL_LINEAR else [module for t in targets for module in _found(model, t)]
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        fan_in_fan_out=any(_is_transposed(module) for module in chosen),
    )


def apply_lora(model: nn.Module, lora_config: Any, log: Callable[[str], None] = print) -> nn.Module:
    """`model` with low-rank adapters; logs trainable, total and frozen parameters.

    Args:
        lora_config: a peft.LoraConfig.

    Raises:
        ConfigError: when peft is missing or a target module does not exist (the message names those that do).
    """
    _require_peft()
    from peft import get_peft_model, prepare_model_for_kbit_training

    targets = lora_config.target_modules
    if targets is not None and not isinstance(targets, str):
        _check_targets(model, targets)
    if is_quantized(model):
        # Norms and embeddings in float32. Checkpointing is a setting of ours, so it is not switched on here.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    try:
        with warnings.catch_warnings():
            # peft asks transformers in a way that transformers is about to drop; nothing a user could change.
            warnings.simplefilter("ignore", FutureWarning)
            adapted = get_peft_model(model, lora_config)
    except ValueError as error:  # a pattern that matches nothing, or no targets for a family that peft does not know
        raise ConfigError(
            f"LoRA cannot be applied ({str(error).splitlines()[0]}). The model's linear layers: {_linear_names(model)}.",
            "lora.target_modules",
        ) from error
    total, trainable = count_parameters(adapted)
    log("[GEKO] LoRA applied")
    log(f"  Trainable params : {trainable:,} ({100 * trainable / total:.2f}%)")
    log(f"  Total params     : {total:,}")
    log(f"  Frozen params    : {total - trainable:,}")
    return adapted


def _require_peft() -> None:
    if not is_peft_available():
        raise ConfigError("LoRA needs peft: install the extra 'peft', or switch LoRA off.", "lora.enabled")
    quiet_bitsandbytes()  # which it imports; 4-bit weights have been loaded by now, and have told what they miss


def _check_targets(model: nn.Module, targets: Iterable[str]) -> None:
    """Raise ConfigError for names that no layer has, and for names of blocks of layers."""
    wrong = sorted(t for t in targets if not _found(model, t) or any(_is_block(m) for m in _found(model, t)))
    if wrong:
        raise ConfigError(
            f"The model has no layers named {', '.join(wrong)}. Its linear layers: {_linear_names(model)}; "
            f"{ALL_LINEAR}, alone, stands for all of them but the output.",
            "lora.target_modules",
        )


def _found(model: nn.Module, target: str) -> list[nn.Module]:
    """The modules that peft takes `target` to mean: those whose path is it, or ends with it after a dot."""
    return [m for name, m in model.named_modules() if name == target or name.endswith(f".{target}")]


def _linear_names(model: nn.Module) -> str:
    linear = (name for name, m in model.named_modules() if isinstance(m, nn.Linear) or _is_transposed(m))
    return ", ".join(sorted({name.split(".")[-1] for name in linear}))


def _is_transposed(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"  # GPT-2's linear layer


def _is_block(module: nn.Module) -> bool:
    return any(True for _ in module.children()) and not hasattr(module, "base_layer")  # which an adapted layer has
