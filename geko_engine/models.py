"""Model and tokenizer: loading, switches, saving. Knows transformers, and no data."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from geko_engine.adapters import quantization_config, require_bitsandbytes, settle_quantized
from geko_engine.assets import demo_path
from geko_engine.config import DEMO, GEKOTrainingArgs, ModelConfig
from geko_engine.downloads import OnProgress, Progress, ShouldStop, interruptible, offline
from geko_engine.exceptions import ConfigError, GekoError, ModelError
from geko_engine.hub import fetch_model
from geko_engine.model_checks import check_kind, check_vocabulary, check_weights, loading_error, quantized_with
from geko_engine.settings import check, raise_problems
from geko_engine.sources import is_local, model_problem

NO_LIMIT = 1_000_000_000
SMALL_MODEL = 10_000_000  # parameters
Loaded = TypeVar("Loaded")


def load_model_and_tokenizer(
    config: ModelConfig,
    args: GEKOTrainingArgs | None = None,
    *,
    should_stop: ShouldStop | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Any, Any]:
    """A causal language model in float32 (in its own dtype on a GPU that will cast anyway) and its tokenizer.

    A tokenizer without a pad token pads with its end of sequence: no loss is ever taken there.

    Args:
        args: for the precision that quantised weights are multiplied in (default float32).
        on_progress: told bytes that have arrived from the Hub, and all that are awaited by now.

    Raises:
        ConfigError: at model.quantization, when bitsandbytes is missing.
        ModelError: at the field model.name (or model.revision, model.trust_remote_code), with the way out.
        Stopped: when should_stop says so while a model comes from the Hub.
    """
    bits = quantization_config(config.quantization, args or GEKOTrainingArgs())

    def load(source: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
        return _from_pretrained(source, config, options, bits)

    model, loading, tokenizer = _fetched(config, load, should_stop, on_progress)
    settle_quantized(model)
    check_weights(model, loading, config.name)
    check_vocabulary(model, tokenizer, config.name)
    return model, tokenizer


def open_model(config: ModelConfig, *, should_stop: ShouldStop | None = None) -> tuple[Any, Any]:
    """The config.json and the tokenizer of a model, without its weights. Raises as `load_model_and_tokenizer`."""

    def load(source: str, options: dict[str, Any]) -> tuple[Any, Any]:
        return _settings_and_tokenizer(source, config, options)

    return _fetched(config, load, should_stop, None, weights=False)


def longest_input(settings: Any) -> int:
    """Positions that a model with this config.json can take; without a stated limit there is none."""
    return int(getattr(settings.get_text_config(), "max_position_embeddings", 0) or NO_LIMIT)


def _fetched(
    config: ModelConfig,
    load: Callable[[str, dict[str, Any]], Loaded],
    should_stop: ShouldStop | None,
    on_progress: OnProgress | None,
    *,
    weights: bool = True,
) -> Loaded:
    """`load`(source, options) of the demo, of a local folder, or of what was fetched from the Hub."""
    raise_problems(list(check(config, "model.")))
    problem = model_problem(config.name)
    if problem:
        raise ModelError(problem, "model.name")
    if config.name == DEMO or is_local(config.name):
        source = demo_path("model") if config.name == DEMO else Path(config.name).expanduser()
        return _explained(config, lambda: load(str(source), {}))
    progress = Progress()

    def work() -> Loaded:
        options = fetch_model(config.name, config.revision, progress, weights=weights)
        reached = "local_files_only" not in options
        with contextlib.nullcontext() if reached else offline():
            return _explained(config, lambda: load(config.name, options), reached=reached)

    return interruptible(work, should_stop, progress, on_progress)


def _explained(config: ModelConfig, work: Callable[[], Loaded], *, reached: bool = True) -> Loaded:
    try:
        return work()
    except GekoError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and the Hub's own families
        raise loading_error(error, config, reached=reached) from error


def _settings_and_tokenizer(source: str, config: ModelConfig, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoTokenizer

    options = {"trust_remote_code": config.trust_remote_code, **options}
    settings = AutoConfig.from_pretrained(source, **options)
    check_kind(settings, config.name)
    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return settings, tokenizer


def _from_pretrained(
    source: str, config: ModelConfig, options: dict[str, Any], bits: Any | None
) -> tuple[Any, dict[str, Any], Any]:
    """(model, what transformers says about its weights, tokenizer), or whatever transformers raises."""
    from transformers import AutoModelForCausalLM

    settings, tokenizer = _settings_and_tokenizer(source, config, options)
    options = {"trust_remote_code": config.trust_remote_code, **options}
    if quantized_with(settings):  # and the files decide
        require_bitsandbytes(f"The quantised weights of {config.name!r}", "give the original model")
    elif bits is not None:
        options["quantization_config"] = bits
    model, loading = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, output_loading_info=True, **options
    )
    return model, loading, tokenizer


def enable_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass. Raises ConfigError for a module that does not know how."""
    for name in (
        "activation_checkpointing_enable",
        "gradient_checkpointing_enable",
    ):  # the second before transformers 5
        if hasattr(model, name):
            getattr(model, name)({"use_reentrant": False})
            if hasattr(model, "enable_input_require_grads") and hasattr(model, "peft_config"):
                model.enable_input_require_grads()  # frozen embeddings would cut the graph
            return
    raise ConfigError(
        f"{type(model).__name__} cannot recompute activations: switch gradient_checkpointing off.",
        "training.gradient_checkpointing",
    )


def compile_model(model: nn.Module, warn: Callable[[str], None]) -> bool:
    """torch.compile in place; False, with one sentence to `warn`, where this machine cannot."""
    if torch.cuda.is_available():
        missing = "" if importlib.util.find_spec("triton") else "Triton"
    else:
        compiler = os.environ.get("CXX") or ("cl" if sys.platform == "win32" else "g++")
        missing = "" if shutil.which(compiler) or shutil.which("clang++") else f"a C++ compiler ({compiler})"
    if missing:
        warn(f"compile_model is on, but torch.compile needs {missing} and this machine has none: training without it.")
        return False
    model.compile(dynamic=True)
    return True


def check_precision(args: GEKOTrainingArgs, device: torch.device) -> str:
    """accelerate's name of the precision. Raises ConfigError where the machine cannot do it."""
    if args.fp16 and device.type == "cpu":
        raise ConfigError("fp16 needs a GPU and this machine has none: use bf16 or fp32.", "training.fp16")
    if args.bf16 and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError("This GPU cannot do bf16 (it needs Ampere or newer): use fp16 or fp32.", "training.bf16")
    return "bf16" if args.bf16 else "fp16" if args.fp16 else "no"


def use_threads_for(parameters: int) -> None:
    """One CPU thread for a small model of so many `parameters`, unless OMP_NUM_THREADS says otherwise.

    Its kernels are so short that threads mostly wait for one another: alone two are 15 % quicker than one, but beside
    another busy process they are more than ten times slower.
    """
    if parameters < SMALL_MODEL and not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def save_model(model: Any, tokenizer: Any, path: Path) -> None:
    """Write model (or adapter) and tokenizer so that from_pretrained reads them; a plain module as safetensors."""
    path.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(path)
    else:
        from safetensors.torch import save_model as save_tensors

        save_tensors(model, str(path / "model.safetensors"))
    if tokenizer is not None and hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(path)


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The trainable parameters and all buffers by name, each shared tensor once: all that training changes."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    saved = model.state_dict().keys()
    buffers = {name: b for name, b in model.named_buffers() if name in saved}
    return {name: tensor.detach().contiguous() for name, tensor in {**named, **buffers}.items()}


def load_trainable_state(model: nn.Module, tensors: dict[str, torch.Tensor]) -> list[str]:
    """Copy `tensors` into the model in place; returns the names that do not fit (none when all is well)."""
    here = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    expected = trainable_state(model)
    wrong = sorted(set(expected) ^ set(tensors)) or [n for n in tensors if here[n].shape != tensors[n].shape]
    if not wrong:
        with torch.no_grad():
            for name, tensor in tensors.items():
                here[name].copy_(tensor)
    return wrong
