"""Quantised weights under LoRA: their configuration, and what is refused. Knows bitsandbytes."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from geko_engine.config.sections import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError

WORTH_QUANTIZING = 0.5  # share of the weights below which a warning is due


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
            f'{what} need bitsandbytes: install it with `pip install "geko-finetune[bnb]"`, or {otherwise}.',
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
