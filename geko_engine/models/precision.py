"""Precision, CPU threads, compilation and gradient checkpointing of a model. Knows no files and no data."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
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
    missing = missing_for_compilation()
    if missing:
        warn(f"compile_model is on, but torch.compile needs {missing}: training without it.")
        return False
    model.compile(dynamic=True)
    return True


def missing_for_compilation() -> str:
    """What torch.compile needs and does not find here, in words; "" if it has all.

    The compiler is tried: one that is there may lack its own headers, or Python's. Triton needs it on a GPU, too.
    """
    gpu = torch.cuda.is_available()
    if gpu and not importlib.util.find_spec("triton"):
        return "Triton, which is missing here"
    language, variable = ("C", "CC") if gpu else ("C++", "CXX")
    names = ["cl"] if sys.platform == "win32" else ["gcc", "clang"] if gpu else ["g++", "clang++"]
    given = shlex.split(os.environ.get(variable, ""))
    compiler = next((found for name in given[:1] or names if (found := shutil.which(name))), None)
    if compiler is None:
        return f"a {language} compiler ({(given or names)[0]}), which is missing here"
    if sys.platform == "win32":
        return ""
    kind = "c" if gpu else "c++"
    command = [compiler, *given[1:], "-x", kind, "-fsyntax-only", f"-I{sysconfig.get_paths()['include']}", "-"]
    try:
        tried = subprocess.run(
            command, input="#include <Python.h>\n", text=True, capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a {language} compiler that works ({compiler}: {error})"
    said = tried.stderr.strip().splitlines()
    return (
        ""
        if tried.returncode == 0
        else f"a {language} compiler that works ({compiler}: {said[0] if said else 'it fails'})"
    )


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
