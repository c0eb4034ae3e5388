"""Which attention kernels a model runs on, by transformers' names. Knows no model."""

from __future__ import annotations

import importlib.util

import torch
from torch import nn

from geko_engine.config.sections import ModelConfig
from geko_engine.exceptions import ConfigError

FIELD = "model.attn_implementation"
PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}  # modules


def attention_options(config: ModelConfig, *, half: bool) -> dict[str, str]:
    """The argument of from_pretrained that chooses the attention; none where transformers shall choose.

    Checked here, because transformers would fetch a missing kernel from the Hub.

    Args:
        half: whether the model computes in bfloat16 or float16.

    Raises:
        ConfigError: at model.attn_implementation, for one that cannot run here.
    """
    name = config.attn_implementation
    if name == "auto":
        return {}
    if name in PACKAGES:
        if not torch.cuda.is_available():
            raise ConfigError(f"{name} needs a GPU, and this machine has none: set attn_implementation to sdpa.", FIELD)
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise ConfigError(
                f"{name} needs the package {PACKAGES[name]}, which is not installed: install it, or set attn_implementation to "
                "sdpa.",
                FIELD,
            )
        if not half:
            raise ConfigError(
                f"{name} computes in half precision only: switch on training.bf16 or training.fp16, or set "
                "attn_implementation to sdpa.",
                FIELD,
            )
    return {"attn_implementation": name}


def refused_attention(error: Exception, config: ModelConfig) -> ConfigError | None:
    """transformers' refusal of the attention that was asked for, as one sentence; None for any other error."""
    text = str(error)
    if config.attn_implementation == "auto" or "ttention" not in text or "support" not in text:
        return None
    return ConfigError(
        f"The model {config.name!r} does not support {config.attn_implementation} ({text.split('.')[0]}): set "
        "attn_implementation to auto.",
        FIELD,
    )


def takes_bounds(name: str) -> bool:
    """Whether the attention of this name has kernels for samples of different lengths in one row."""
    return "flash" in name  # those of a kernel from the Hub are called like kernels-community/flash-attn2


def attention_of(model: nn.Module) -> str:
    """The name of the attention that a model runs on; "" where it has none by name."""
    return str(getattr(getattr(model, "config", None), "_attn_implementation", None) or "")
