"""A model's weights shared out to several processes (FSDP2), and put together again. Knows torch and no training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geko_engine.exceptions import ConfigError, ModelError


def shard(root: nn.Module, model: nn.Module, device: torch.device, processes: int, dtype: torch.dtype | None) -> None:
    """Share out the weights of `model` to all processes, in place; each layer is whole only while it computes.

    Args:
        root: the module that is called, with `model` inside.
        model: its layers are those that transformers never splits (`_no_split_modules`).
        device: on which this process computes. processes: their number.
        dtype: in which weights are sent and multiplied; None for the one that they are held in.

    Raises:
        ConfigError: at training.fsdp, when this torch is too old.
        ModelError: when its layers are not known, or trained weights have different precisions.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise ConfigError(f"fsdp needs torch 2.13, and this is {torch.__version__}: install it.", "training.fsdp")
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad}
    if len(kinds) > 1:
        raise ModelError(
            f"fsdp needs trained weights of one precision, and these have {' and '.join(sorted(kinds))}: load them in one."
        )
    mesh = init_device_mesh(device.type, (processes,))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in [*layers(model), root]:
        sharded: Any = fully_shard(module, mesh=mesh, mp_policy=policy)
        sharded.set_reduce_scatter_unused_params(True)  # or processes that use different ones would wait for each other
        if device.type == "cpu":
            sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no averages


def layers(model: Any) -> list[nn.Module]:
    """The layers of a model that are shared out one by one. Raises ModelError when the model does not name them."""
    within = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = set(getattr(within, "_no_split_modules", None) or ())
    found = [module for module in within.modules() if type(module).__name__ in names]
    if not found:
        raise ModelError(
            f"fsdp shares out layer by layer, and {type(within).__name__} does not say which modules are layers "
            "(_no_split_modules): set fsdp to none."
        )
    inner = {id(module) for layer in found for module in list(layer.modules())[1:]}
    return [layer for layer in found if id(layer) not in inner]


def reshard(root: Any) -> None:
    """Let the weights of the outermost module be shards, which after an evaluation are still whole."""
    if hasattr(root, "reshard"):
        root.reshard()


def whole(tensor: Any, *, keep: bool = True) -> Any:
    """A tensor put together in main memory from the parts of all processes; one that is whole as it is.

    Args:
        tensor: all processes must call this with theirs.
        keep: False in a process that only hands on its part, and gets None: the whole model may not fit its memory.
    """
    if not hasattr(tensor, "full_tensor"):
        return tensor
    full = tensor.full_tensor()
    return full.cpu() if keep else None


def own_part(tensor: Any) -> Any:
    """The part of a tensor that this process holds; all of one that is not shared out."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def shared_like(tensor: Any, like: Any) -> Any:
    """`tensor`, which every process has whole, shared out like `like` where that is."""
    if not isinstance(tensor, Tensor) or not hasattr(like, "full_tensor") or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
