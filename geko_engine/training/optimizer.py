"""The optimizer, and the learning rate as a pure function of progress. Knows parameters and no data."""

from __future__ import annotations

import torch
from torch import nn

from geko_engine.config.sections import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError
from geko_engine.models.quantization import silence_bitsandbytes

LONGEST_WARMUP = 0.1  # of the run, so that a short run with the default 100 warm-up steps still trains


def warmup_ratio(warmup_steps: int, total_steps: int) -> float:
    """Share of the run that is warm-up: `warmup_steps` of `total_steps`, at most LONGEST_WARMUP."""
    return min(warmup_steps / max(1, total_steps), LONGEST_WARMUP)


def learning_rate_at(progress: float, peak: float, warmup: float, factor: float = 1.0) -> float:
    """Linear warm-up over the share `warmup` of the run, then linear to zero; `factor` is the curriculum's.

    With progress = step / total this is transformers' "linear" schedule.
    """
    if progress < warmup:
        return peak * factor * progress / warmup
    return peak * factor * max(0.0, 1.0 - progress) / (1.0 - warmup)


def build_optimizer(model: nn.Module, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; weight decay on matrices only (not on biases and norms).

    Raises:
        ConfigError: when the 8-bit optimizer is asked for and bitsandbytes is not installed.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": args.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if not args.use_8bit_optimizer:
        return torch.optim.AdamW(groups, lr=args.learning_rate, fused=True)
    silence_bitsandbytes()
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ConfigError(
            'The 8-bit optimizer needs bitsandbytes: install it with `pip install "geko-finetune[bnb]"`, or switch use_8bit_optimizer off.',
            "training.use_8bit_optimizer",
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=args.learning_rate)
    return optimizer
