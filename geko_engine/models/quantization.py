"""Quantized weights under LoRA: their configuration, and what is refused. Knows bitsandbytes."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError

WORTH_QUANTIZING = 0.5  # warn if less than this share of the weights is quantized


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(all, trainable) parameters. Two 4-bit parameters in one byte count as two."""
    sizes = [(_size(p), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trainable in sizes if trainable)


def _size(parameter: nn.Parameter) -> int:
    packed = getattr(parameter, "quant_state", None)  # of a 4-bit weight
    return parameter.numel() if packed is None else math.prod(packed.shape)


def require_bitsandbytes(what: str, otherwise: str) -> None:
    """Raise ConfigError if bitsandbytes is missing.

    Args:
        what: needs it; the subject of the sentence.
        otherwise: what else the user can do.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f'{what} need bitsandbytes: install it with `pip install "geko-finetune[bnb]"`, or {otherwise}.',
            "model.quantization",
        )


def quantization_config(quantization: str, args: GEKOTrainingArgs) -> Any | None:
    """The transformers.BitsAndBytesConfig for "4bit" or "8bit", or None for "none".

    4-bit weights are NF4 with quantized scales and are multiplied in the precision of the run (QLoRA, Dettmers and
    others, 2023). 8-bit weights are LLM.int8().

    Args:
        quantization: "none", "4bit" or "8bit".
        args: for the precision of the run.

    Raises:
        ConfigError: if bitsandbytes is missing.
    """
    if quantization == "none":
        return None
    require_bitsandbytes(f"Weights in {quantization}", "set quantization to none")
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    precision = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision,
    )


def is_quantized(model: Any) -> bool:
    """Whether transformers loaded the model in 4 or 8 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


def prepare_quantized_for_training(model: Any, warn: Callable[[str], None] = lambda text: None) -> None:
    """Keep the weights of a quantized model as they are; does nothing to other models.

    On a CPU with bfloat16 instructions, bitsandbytes repacks 4-bit weights in the first evaluation. They become less
    precise, and gradients no longer flow through them. This switches repacking off.

    Args:
        model: any model.
        warn: called with one sentence if most of the weights could not be quantized.

    Raises:
        ConfigError: if no weights could be quantized, or if they were already repacked.
    """
    if not is_quantized(model):
        return
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    layers = [m for m in model.modules() if isinstance(m, Linear4bit | Linear8bitLt)]
    if not layers:
        raise ConfigError(
            f"bitsandbytes cannot quantize any linear layer of {model.config.model_type}: set quantization to none.",
            "model.quantization",
        )
    for layer in layers:
        if getattr(getattr(layer.weight, "quant_state", None), "packing_format_for_cpu", False):
            raise ConfigError(
                "The 4-bit weights were already used on the CPU, and bitsandbytes repacked them, so they have no gradient: "
                "load the model again and train it before other use.",
                "model.quantization",
            )
        layer.support_avx512bf16_for_cpu = False
    share = sum(_size(layer.weight) for layer in layers) / count_parameters(model)[0]
    if share < WORTH_QUANTIZING:
        warn(
            f"Only {100 * share:.0f} % of the weights could be quantized, so little memory is saved: bitsandbytes does not "
            "quantize embeddings and fused experts."
        )
