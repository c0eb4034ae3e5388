"""Model and tokenizer: loading, LoRA, saving. Knows transformers and peft, and no data."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geko_engine.assets import demo_path
from geko_engine.config import DEMO, GEKOTrainingArgs, LoraSettings, ModelConfig
from geko_engine.downloads import OnProgress, Progress, ShouldStop, interruptible, offline
from geko_engine.exceptions import ConfigError, GekoError, ModelError
from geko_engine.hub import fetch_model, hub_error
from geko_engine.sources import is_local, model_problem

LORA_TARGETS: dict[str, list[str]] = {
    "gpt2": ["c_attn", "c_proj"],
    "gpt_neo": ["c_attn", "c_proj", "q_proj", "v_proj", "out_proj"],
    "llama": ["q_proj", "v_proj"],
    "mistral": ["q_proj", "v_proj"],
    "mixtral": ["q_proj", "v_proj"],
    "qwen": ["c_attn"],
    "qwen2": ["q_proj", "v_proj"],
    "qwen3": ["q_proj", "v_proj"],
    "gemma": ["q_proj", "v_proj"],
    "gemma2": ["q_proj", "v_proj"],
    "phi": ["q_proj", "dense"],
    "phi3": ["qkv_proj", "o_proj"],
    "falcon": ["query_key_value"],
}


def load_model_and_tokenizer(
    config: ModelConfig, *, should_stop: ShouldStop | None = None, on_progress: OnProgress | None = None
) -> tuple[Any, Any]:
    """A causal language model in float32 (in its own dtype on a GPU that will cast anyway) and its tokenizer.

    Args:
        on_progress: told bytes that have arrived from the Hub, and all that are awaited by now.

    Raises:
        ModelError: at the field model.name (or model.revision), with the way out.
        DownloadStopped: when should_stop says so while a model comes from the Hub.
    """
    problem = model_problem(config.name)
    if problem:
        raise ModelError(problem, "model.name")
    if config.name == DEMO:
        loaded = _from_pretrained(str(demo_path("model")), config, {})
    elif is_local(config.name):
        loaded = _from_pretrained(str(Path(config.name).expanduser()), config, {})
    else:
        progress = Progress()
        loaded = interruptible(lambda: _from_hub(config, progress), should_stop, progress, on_progress)
    model, tokenizer = loaded
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return model, tokenizer


def _from_hub(config: ModelConfig, progress: Progress) -> tuple[Any, Any]:
    options = fetch_model(config.name, config.revision, progress)
    with offline() if "local_files_only" in options else contextlib.nullcontext():
        return _from_pretrained(config.name, config, options)


def _from_pretrained(source: str, config: ModelConfig, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"trust_remote_code": config.trust_remote_code, **options}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        return AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options), tokenizer
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and the Hub's own families
        raise _loading_error(error, config, reached="local_files_only" not in options) from error


def _loading_error(error: Exception, config: ModelConfig, *, reached: bool) -> GekoError:
    if "trust_remote_code" in str(error):
        return ModelError(
            f"The model {config.name!r} brings its own Python code: switch on trust_remote_code if you trust its author.",
            "model.trust_remote_code",
        )
    return hub_error(error, config.name, "model", config.revision, reached=reached)


def is_peft_available() -> bool:
    """Whether peft is installed."""
    return importlib.util.find_spec("peft") is not None


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(all, trainable) parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trainable in sizes if trainable)


def apply_lora(model: nn.Module, lora_config: Any, log: Callable[[str], None] = print) -> nn.Module:
    """`model` with low-rank adapters; logs trainable, total and frozen parameters.

    Args:
        lora_config: a peft.LoraConfig.

    Raises:
        ConfigError: when peft is missing or a target module does not exist (the message names some that do).
    """
    if not is_peft_available():
        raise ConfigError("LoRA needs peft: install the extra 'peft', or switch LoRA off.", "lora.enabled")
    from peft import get_peft_model

    linear = sorted({name.split(".")[-1] for name, module in model.named_modules() if _is_linear(module)})
    targets = lora_config.target_modules
    wanted = [] if targets is None or isinstance(targets, str) else list(targets)
    names = {name.split(".")[-1] for name, _ in model.named_modules()}
    missing = [name for name in wanted if name.split(".")[-1] not in names]
    if missing:
        raise ConfigError(
            f"The model has no layers named {', '.join(missing)}. Its linear layers: {', '.join(linear)}.",
            "lora.target_modules",
        )
    adapted = get_peft_model(model, lora_config)
    total, trainable = count_parameters(adapted)
    log("[GEKO] LoRA applied")
    log(f"  Trainable params : {trainable:,} ({100 * trainable / total:.2f}%)")
    log(f"  Total params     : {total:,}")
    log(f"  Frozen params    : {total - trainable:,}")
    return adapted


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"  # GPT-2's transposed linear layer


def lora_config_for(settings: LoraSettings, model: Any) -> Any | None:
    """The peft.LoraConfig that the settings describe, or None when LoRA is off.

    Raises:
        ConfigError: when peft is missing.
    """
    if not settings.enabled:
        return None
    if not is_peft_available():
        raise ConfigError("LoRA needs peft: install the extra 'peft', or switch LoRA off.", "lora.enabled")
    from peft import LoraConfig, TaskType

    family = getattr(getattr(model, "config", None), "model_type", "")
    names = {name.split(".")[-1] for name, _ in model.named_modules()}
    targets: Any = settings.target_modules or [t for t in LORA_TARGETS.get(family, []) if t in names] or "all-linear"
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
    )


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
    buffers = {name: b for name, b in model.named_buffers() if name in model.state_dict()}
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
