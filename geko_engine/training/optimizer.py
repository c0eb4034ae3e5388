"""The optimizers that a run can choose. Knows parameters and no data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError
from geko_engine.models.quantization import silence_bitsandbytes

Groups = list[dict[str, Any]]


def _adamw(groups: Groups, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=args.learning_rate, fused=True)


def _adafactor(groups: Groups, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
    from transformers.optimization import Adafactor

    found: torch.optim.Optimizer = Adafactor(groups, lr=args.learning_rate, scale_parameter=False, relative_step=False)
    return found


def _sgd(groups: Groups, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=args.learning_rate)


def _of_bitsandbytes(name: str, **options: Any) -> Callable[[Groups, GEKOTrainingArgs], torch.optim.Optimizer]:
    def build(groups: Groups, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
        silence_bitsandbytes()
        try:
            import bitsandbytes.optim as optimizers
        except ImportError as error:
            raise ConfigError(
                f"The optimizer {args.optimizer} needs bitsandbytes: install it with "
                '`pip install "geko-finetune[bnb]"`, or choose adamw_torch_fused.',
                "training.optim",
            ) from error
        if options.get("is_paged") and not torch.cuda.is_available():
            raise ConfigError(
                f"The optimizer {args.optimizer} pages its state between GPU and main memory, and there is no GPU here: "
                f"choose {'adamw_8bit' if options['optim_bits'] == 8 else 'adamw_torch_fused'}.",
                "training.optim",
            )
        found: torch.optim.Optimizer = getattr(optimizers, name)(groups, lr=args.learning_rate, **options)
        return found

    return build


# By transformers' names; the settings offer these (config.training_args.OPTIMIZERS). Betas and epsilon are those of transformers.
BUILDERS: dict[str, Callable[[Groups, GEKOTrainingArgs], torch.optim.Optimizer]] = {
    "adamw_torch_fused": _adamw,
    "adamw_8bit": _of_bitsandbytes("AdamW", optim_bits=8),
    "paged_adamw_8bit": _of_bitsandbytes("AdamW", optim_bits=8, is_paged=True),
    "paged_adamw_32bit": _of_bitsandbytes("AdamW", optim_bits=32, is_paged=True),
    "adafactor": _adafactor,
    "lion_32bit": _of_bitsandbytes("Lion", optim_bits=32, betas=(0.9, 0.999)),
    "lion_8bit": _of_bitsandbytes("Lion", optim_bits=8, betas=(0.9, 0.999)),
    "sgd": _sgd,
}
# Bytes of state for each byte of a trained weight in float32.
STATE_SHARE = {
    "adamw_torch_fused": 2.0,
    "adamw_8bit": 0.525,  # the scale of each block included
    "paged_adamw_8bit": 0.525,
    "paged_adamw_32bit": 2.0,
    "adafactor": 0.02,  # a row and a column of each matrix
    "lion_32bit": 1.0,
    "lion_8bit": 0.265,
    "sgd": 0.0,
}


def build_optimizer(model: nn.Module, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
    """The optimizer of `args` over the trainable parameters; weight decay on matrices only (not on biases and norms).

    Raises:
        ConfigError: at training.optim, when bitsandbytes or a GPU is needed and missing.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": args.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return BUILDERS[args.optimizer]([group for group in groups if group["params"]], args)
