"""The optimizers that a run can choose. Knows parameters and no data."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.config.training_choices import MUON, PAGED
from geko_engine.exceptions import ConfigError
from geko_engine.scoring.output_head import output_embedding

Groups = list[dict[str, Any]]


def _adamw(groups: Groups, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=args.learning_rate, fused=True)


def _adafactor(groups: Groups, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
    from transformers.optimization import Adafactor

    found: torch.optim.Optimizer = Adafactor(groups, lr=args.learning_rate, scale_parameter=False, relative_step=False)
    return found


def _sgd(groups: Groups, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=args.learning_rate)


def _muon(groups: Groups, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
    return MuonWithAdamW(groups, args.learning_rate)


def _of_bitsandbytes(name: str, **options: Any) -> Callable[[Groups, GEKOTrainingArgs], torch.optim.Optimizer]:
    def build(groups: Groups, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
        import bitsandbytes.optim as optimizers

        found: torch.optim.Optimizer = getattr(optimizers, name)(groups, lr=args.learning_rate, **options)
        return found

    return build


# By transformers' names, and muon, which it has none for; the settings offer these (config.training_choices.OPTIMIZERS).
# Betas and epsilon are those of transformers.
BUILDERS: dict[str, Callable[[Groups, GEKOTrainingArgs], torch.optim.Optimizer]] = {
    "adamw_torch_fused": _adamw,
    "adamw_8bit": _of_bitsandbytes("AdamW", optim_bits=8),
    "paged_adamw_8bit": _of_bitsandbytes("AdamW", optim_bits=8, is_paged=True),
    "paged_adamw_32bit": _of_bitsandbytes("AdamW", optim_bits=32, is_paged=True),
    "adafactor": _adafactor,
    "lion_32bit": _of_bitsandbytes("Lion", optim_bits=32, betas=(0.9, 0.999)),
    "lion_8bit": _of_bitsandbytes("Lion", optim_bits=8, betas=(0.9, 0.999)),
    MUON: _muon,
    "sgd": _sgd,
}
OF_BITSANDBYTES = ("adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "lion_32bit", "lion_8bit")
# Bytes of state for each byte of a trained weight in float32.
STATE_SHARE = {
    "adamw_torch_fused": 2.0,
    "adamw_8bit": 0.525,  # the scale of each block included
    "paged_adamw_8bit": 0.525,
    "paged_adamw_32bit": 2.0,
    "adafactor": 0.02,  # a row and a column of each matrix
    "lion_32bit": 1.0,
    "lion_8bit": 0.265,
    MUON: 1.0,  # of the matrices; what AdamW takes of the rest is counted by state_bytes
    "sgd": 0.0,
}


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the groups that say `muon`, AdamW for the others; to whoever drives it, one optimizer.

    Both take one learning rate: Muon's updates are scaled to the size of AdamW's (Liu and others, 2025, "Muon is Scalable for
    LLM Training").

    Args:
        groups: with `params`, `weight_decay`, and `muon`, whether these are matrices for Muon.
        lr: learning rate of both.
    """

    def __init__(self, groups: Groups, lr: float) -> None:
        matrices, others = ([group for group in groups if group["muon"] is wanted] for wanted in (True, False))
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(torch.optim.Muon(matrices, lr=lr, adjust_lr_fn="match_rms_adamw"))
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=lr, fused=True))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        """Groups and state are the same objects in the parts: whoever changes or loads them here does so there."""
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both."""
        for part in self._parts:
            part.step()


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trained matrices of the layers: all but embeddings and the output layer, which Muon is not made for."""
    outside = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    head = output_embedding(model)
    left_out = {id(p) for module in (*outside, *([head] if head is not None else [])) for p in module.parameters()}
    return [p for p in model.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in left_out]


def require_optimizer(args: GEKOTrainingArgs) -> None:
    """Raise ConfigError at training.optim where bitsandbytes, a GPU or a newer PyTorch is needed and missing."""
    name, problem = args.optimizer, ""
    if name in OF_BITSANDBYTES and importlib.util.find_spec("bitsandbytes") is None:
        problem = (
            f"The optimizer {name} needs bitsandbytes: install it with "
            '`pip install "geko-finetune[bnb]"`, or choose adamw_torch_fused.'
        )
    elif name in PAGED and not torch.cuda.is_available():
        problem = (
            f"The optimizer {name} pages its state between GPU and main memory, and there is no GPU here: "
            f"choose {PAGED[name]}."
        )
    elif name == MUON and not hasattr(torch.optim, "Muon"):
        problem = (
            f"The optimizer muon needs PyTorch 2.9, and {torch.__version__} is installed: update it, or choose "
            "adamw_torch_fused."
        )
    if problem:
        raise ConfigError(problem, "training.optim")


def build_optimizer(model: nn.Module, args: GEKOTrainingArgs) -> torch.optim.Optimizer:
    """The optimizer of `args` over the trainable parameters; weight decay on matrices only (not on biases and norms).

    Raises:
        ConfigError: as `require_optimizer`.
    """
    require_optimizer(args)
    trainable = [p for p in model.parameters() if p.requires_grad]
    hidden = {id(p) for p in hidden_matrices(model)} if args.optimizer == MUON else set()
    groups: Groups = [
        {"params": [p for p in trainable if p.ndim > 1 and id(p) not in hidden], "weight_decay": args.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if args.optimizer == MUON:
        matrices = {"params": [p for p in trainable if id(p) in hidden], "weight_decay": args.weight_decay}
        groups = [matrices | {"muon": True}, *(group | {"muon": False} for group in groups)]
    return BUILDERS[args.optimizer]([group for group in groups if group["params"]], args)


def state_bytes(model: nn.Module, name: str) -> int:
    """Bytes of the state that the optimizer `name` keeps for the trained parameters of `model`."""
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    if name != MUON:
        return round(trained * STATE_SHARE[name])
    return round(2.0 * trained - sum(p.nbytes for p in hidden_matrices(model)))
