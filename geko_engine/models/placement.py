"""Where the weights of a model lie, and what cannot be trained or saved from there. Knows torch and no data."""

from __future__ import annotations

import itertools
from typing import Any

from torch import nn

from geko_engine.exceptions import ModelError

WRAPPERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "DeepSpeedEngine")
WITHOUT = "load it without device_map; what does not fit one GPU is trained in several processes with fsdp: full_shard"


def require_trainable_placement(model: Any) -> None:
    """Raise ModelError for a model that is wrapped already, spread over devices, or not in memory."""
    if type(model).__name__ in WRAPPERS:
        raise ModelError(
            f"The model is wrapped in {type(model).__name__} already: give the model inside (model.module)."
        )
    parts = {str(device) for module in model.modules() for device in getattr(module, "hf_device_map", {}).values()}
    if len(parts) > 1:
        places = ", ".join(sorted(parts))
        raise ModelError(
            f"The device_map of the model spreads it over {places}, from where it is not trained: {WITHOUT}."
        )
    missing = next((name for name, parameter in model.named_parameters() if parameter.is_meta), "")
    if missing:
        raise ModelError(f"The weight {missing} is not in memory but on the meta device: {WITHOUT}.")
    if any(_is_shared_out(parameter) for parameter in model.parameters()):
        raise ModelError(
            "The weights of the model are shared out to several processes already (tensor parallel, or fully_shard): load "
            "it without tp_plan, and set fsdp to full_shard."
        )


def require_saveable(model: nn.Module) -> None:
    """Raise ModelError when two weights overlap in memory: no checkpoint could hold both, and its first one would fail."""
    tensors = [(name, p) for name, p in model.named_parameters() if p.requires_grad and p.is_contiguous() and p.nbytes]
    tensors.sort(key=lambda named: (str(named[1].device), named[1].data_ptr()))
    for (before, first), (after, second) in itertools.pairwise(tensors):
        if first.device == second.device and first.data_ptr() + first.nbytes > second.data_ptr():
            raise ModelError(
                f"The weights {before} and {after} overlap in memory, so no checkpoint can hold both: make them one "
                "parameter, or copy one of them."
            )


def _is_shared_out(parameter: nn.Parameter) -> bool:
    return hasattr(parameter, "full_tensor")
