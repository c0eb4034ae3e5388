"""Precision, CPU threads, compilation and gradient checkpointing of a model. Knows no files and no data."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from geko_engine.config.run_config import RunConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError

SMALL_MODEL = 10_000_000  # parameters


def enable_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass. Raises ConfigError for a module that does not support it."""
    for name in (
        "activation_checkpointing_enable",
        "gradient_checkpointing_enable",
    ):  # the second before transformers 5
        if hasattr(model, name):
            getattr(model, name)({"use_reentrant": False})
            if hasattr(model, "enable_input_require_grads") and hasattr(model, "peft_config"):
                model.enable_input_require_grads()  # frozen embeddings would cut off the gradient
            return
    raise ConfigError(
        f"{type(model).__name__} does not support gradient checkpointing: switch gradient_checkpointing off.",
        "training.gradient_checkpointing",
    )


def compile_model(model: nn.Module, warn: Callable[[str], None]) -> bool:
    """Compile the model in place. Returns False and calls `warn` if this machine cannot."""
    if torch.cuda.is_available():
        missing = "" if importlib.util.find_spec("triton") else "Triton"
    else:
        compiler = os.environ.get("CXX") or ("cl" if sys.platform == "win32" else "g++")
        missing = "" if shutil.which(compiler) or shutil.which("clang++") else f"a C++ compiler ({compiler})"
    if missing:
        warn(f"compile_model is on, but torch.compile needs {missing}, which is missing here: training without it.")
        return False
    model.compile(dynamic=True)
    return True


def check_precision(args: GEKOTrainingArgs) -> str:
    """accelerate's name of the precision: "no", "bf16" or "fp16". Raises ConfigError if this machine cannot use it."""
    has_gpu = torch.cuda.is_available()
    if args.fp16 and not has_gpu:
        raise ConfigError("fp16 needs a GPU, and this machine has none: use bf16 or fp32.", "training.fp16")
    if args.bf16 and has_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(
            "This GPU does not support bf16 (it needs Ampere or newer): use fp16 or fp32.", "training.bf16"
        )
    return "bf16" if args.bf16 else "fp16" if args.fp16 else "no"


def weights_dtype(config: RunConfig) -> torch.dtype:
    """The precision in which a run holds the weights of its model.

    With model.dtype = auto, weights that stay frozen beside adapters are held in the precision that they are multiplied
    in anyway; weights that are trained, and those that are quantized, are loaded in float32. Adapters are float32 always.
    """
    if config.model.dtype != "auto":
        chosen: torch.dtype = getattr(torch, config.model.dtype)
        return chosen
    if not config.lora.enabled or config.model.quantization != "none":
        return torch.float32
    return torch.bfloat16 if config.training.bf16 else torch.float16 if config.training.fp16 else torch.float32


def held_in(model: nn.Module) -> str:
    """The precision of the first of a model's weights, by the name that the settings have for it."""
    first = next(model.parameters(), None)
    return "" if first is None else str(first.dtype).removeprefix("torch.")


def set_thread_count(parameters: int) -> None:
    """Use one CPU thread for a small model, unless OMP_NUM_THREADS is set.

    The kernels of a small model are so short that threads mostly wait for each other. Two threads are 15 % faster than
    one on an idle machine, but more than ten times slower beside another busy process.

    Args:
        parameters: number of the model's parameters.
    """
    if parameters < SMALL_MODEL and not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
