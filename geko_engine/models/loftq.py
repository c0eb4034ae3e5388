"""LoftQ: the first adapters make up for what the rounding of their base model to 4 bits took away.

The base model is loaded already. For each of its rounded layers with an adapter, the weights before the rounding are read
from the safetensors files, and the best approximation of the difference by a matrix of the adapter's rank is the
adapter's beginning (Li and others, 2023, with one iteration, so that the rounded weights stay those that every program
loads). What is trained then belongs to the rounded weights alone, which `fits_4bit_only` remembers.

peft's replace_lora_weights_loftq does the same, but on CUDA alone, without the adapter's scale, and with wrong lengths for
DoRA. Knows peft and bitsandbytes; nothing of training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import nn

from geko_engine.exceptions import ConfigError
from geko_engine.models.names import SAFETENSORS

FIELD = "lora.init_lora_weights"
SAME = 0.01  # how far the same weights, rounded again, may be from those of the layer, as a share of them
ITERATIONS = 16  # of the approximate decomposition, which finds nearly what the exact one does, much faster
SEED = 0  # of its beginning: every process, and every start of the run, has the same adapters


class LoftqConfig(LoraConfig):  # type: ignore[misc]  # peft has no types
    """A LoraConfig whose adapters begin with LoftQ in `apply_lora`. Once saved, it is a plain one: the adapter is complete."""


@dataclass(frozen=True)
class OriginalWeights:
    """The weights of a base model as its safetensors files have them, read one by one.

    Attributes:
        model_name: of the base model, for messages.
        files: name of a tensor -> the file that holds it.
        prefix: what the model puts before the names of its inner model, such as "model".
    """

    model_name: str
    files: dict[str, Path]
    prefix: str

    @classmethod
    def of(cls, model: Any) -> OriginalWeights:
        """Those of a model that from_pretrained loaded, without adapters.

        Raises:
            ConfigError: at lora.init_lora_weights, if its files are not known here or not safetensors.
        """
        from safetensors import safe_open

        config = getattr(model, "config", None)
        name = str(getattr(config, "_name_or_path", ""))
        if not name:
            raise ConfigError(
                "loftq reads the weights before the rounding from the files of the base model, and this model does not say "
                "where they are: load it with from_pretrained, or choose default.",
                FIELD,
            )
        revision = getattr(model, "loaded_revision", None) or getattr(config, "_commit_hash", None)
        whole, index = (_cached(name, file, revision or "main") for file in SAFETENSORS)
        if whole is not None:
            with safe_open(whole, "pt") as file:
                files = dict.fromkeys(file.keys(), whole)
        elif index is not None:
            parts = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = {tensor: index.parent / part for tensor, part in parts.items()}
        else:
            raise ConfigError(
                f"loftq reads the weights before the rounding from safetensors files, and there are none of {name!r} on this "
                "machine: give a model with such files, or choose default.",
                FIELD,
            )
        return cls(name, files, str(getattr(model, "base_model_prefix", "")))

    def read(self, layer: str) -> torch.Tensor:
        """The weight of a layer, by the layer's path in the model, on the CPU.

        Raises:
            ConfigError: at lora.init_lora_weights, if the files do not have it under a name that can only be this one's.
        """
        from safetensors import safe_open

        inner = f"{layer}.weight".removeprefix(f"{self.prefix}.")
        names = [name for name in (f"{layer}.weight", f"{self.prefix}.{inner}", inner) if name in self.files]
        names = names[:1] or [name for name in self.files if name.endswith(f".{inner}")]
        if len(names) != 1:
            raise _other_weights(layer, self.model_name)
        with safe_open(self.files[names[0]], "pt") as file:
            found: torch.Tensor = file.get_tensor(names[0])
        return found


def require_loftq(model: Any) -> None:
    """Raise ConfigError for a base model whose adapters cannot begin with LoftQ: before rows are prepared.

    Args:
        model: without adapters.
    """
    from bitsandbytes.nn import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    if not layers or not all(_as_geko_rounds(layer) for layer in layers):
        raise ConfigError(
            "loftq makes up for what the rounding to 4 bits changed, and this base model is not in 4 bits (nf4 with "
            "quantized scales): set model.quantization to 4bit, or choose default.",
            FIELD,
        )
    OriginalWeights.of(model)


@torch.no_grad()
def begin_with_loftq(adapted: Any, log: Callable[[str], None]) -> None:
    """Give the new adapters of a model the beginning that brings it nearest to its weights before the rounding.

    Args:
        adapted: a peft.PeftModel on a base model in 4 bits, not trained yet. Adapters of other layers stay as they are.
        log: called with one line.

    Raises:
        ConfigError: at lora.init_lora_weights, if no adapter is on a layer in 4 bits, or a weight cannot be found.
    """
    weights = OriginalWeights.of(adapted.get_base_model())
    adapter, count, before, after = adapted.active_adapter, 0, 0.0, 0.0
    for name, layer in _adapted_layers(adapted):
        lost = _lost(layer.get_base_layer(), weights.read(name))
        if lost is None:
            raise _other_weights(name, weights.model_name)
        left = lost - _begin(layer, adapter, lost)
        count, before, after = count + 1, before + float(lost.square().sum()), after + float(left.square().sum())
    if not count:
        raise ConfigError(
            "loftq needs adapters on layers in 4 bits, and none of lora.target_modules is: choose other layers, or choose "
            "default.",
            FIELD,
        )
    adapted.fits_4bit_only = True
    log(
        f"  LoftQ            : the adapters of {count} layers make up for {100 * (1 - after / (before or 1)):.1f} % of what the "
        "rounding to 4 bits changed there (sum of squares)"
    )


def _lost(layer: Any, original: torch.Tensor) -> torch.Tensor | None:
    """What the rounding took from a layer as float32 [out, in]; None if it is not `original` that was rounded."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    state, rounded = layer.weight.quant_state, values_of(layer)
    original = original.T if is_turned(layer) else original
    if original.shape != rounded.shape or not original.is_floating_point():
        return None
    held = original.to(rounded.device, state.dtype).contiguous()
    kind = {"blocksize": state.blocksize, "compress_statistics": state.nested, "quant_type": state.quant_type}
    again = dequantize_4bit(*quantize_4bit(held, **kind)).float()
    if (again - rounded).norm() > SAME * rounded.norm():
        return None
    return original.to(rounded) - rounded


def _begin(layer: Any, adapter: str, lost: torch.Tensor) -> torch.Tensor:
    """Set an adapter so that it adds the best approximation of `lost` [out, in]; returns what it adds then.

    A rank beyond that of the matrix keeps its usual beginning, which adds nothing.
    """
    first, second = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight  # [r, in], [out, r]
    rank, scale = min(layer.r[adapter], *lost.shape), layer.scaling[adapter]
    kind = lost.device.type
    with torch.random.fork_rng([] if kind == "cpu" else [lost.device], device_type="cuda" if kind == "cpu" else kind):
        torch.manual_seed(SEED)
        left, sizes, right = torch.svd_lowrank(lost, q=min(2 * rank, *lost.shape), niter=ITERATIONS)
    root = (sizes[:rank] / scale).sqrt()
    first[:rank] = (right[:, :rank] * root).T.to(first)
    second[:, :rank] = (left[:, :rank] * root).to(second)
    if layer.use_dora.get(adapter):
        layer.lora_magnitude_vector[adapter].update_layer(
            base_layer=layer.get_base_layer(), lora_A=first, lora_B=second, scaling=scale
        )
    added: torch.Tensor = scale * second @ first
    return added.to(lost)


@torch.no_grad()
def take_rounding(model: nn.Module, rounded: nn.Module) -> None:
    """Give a model the values that its weights have in 4 bits, so that an adapter of those can be merged into it.

    Args:
        model: the base model, not quantized; is changed in place.
        rounded: the same base model in 4 bits.
    """
    from bitsandbytes.nn import Linear4bit

    for name, layer in rounded.named_modules():
        if isinstance(layer, Linear4bit):
            values = values_of(layer)
            weight: Any = model.get_submodule(name).weight
            weight.copy_(values.T if is_turned(layer) else values)


def values_of(layer: Any) -> torch.Tensor:
    """The values of a layer in 4 bits as float32, [out, in]."""
    from bitsandbytes.functional import dequantize_4bit

    values: torch.Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return values.float()


def is_turned(layer: Any) -> bool:
    """Whether a layer in 4 bits has taken the place of GPT-2's linear layer, whose weight is [in, out]."""
    return getattr(getattr(layer, "source_cls", None), "__name__", "") == "Conv1D"


def _adapted_layers(adapted: Any) -> Iterator[tuple[str, Any]]:
    """(path in the base model, layer) of each layer in 4 bits with an adapter."""
    from bitsandbytes.nn import Linear4bit
    from peft.tuners.lora import LoraLayer

    for name, layer in adapted.get_base_model().named_modules():
        if isinstance(layer, LoraLayer) and isinstance(layer.get_base_layer(), Linear4bit):
            yield name, layer


def _as_geko_rounds(layer: Any) -> bool:
    """Whether a layer is in the 4 bits of model.quantization, which its adapters will be loaded beside."""
    state = getattr(layer.weight, "quant_state", None)
    return state is not None and state.quant_type == "nf4" and bool(state.nested)


def _cached(name: str, file: str, revision: str) -> Path | None:
    """A file of a model in a local folder or in the Hub's cache; None if it is not there."""
    from transformers.utils import cached_file

    try:
        found = cached_file(name, file, revision=revision, local_files_only=True)
    except OSError:
        return None
    return None if found is None else Path(found)


def _other_weights(layer: str, model_name: str) -> ConfigError:
    return ConfigError(
        f"loftq needs the weights of the layer {layer} before the rounding, and the files of {model_name!r} do not have them: "
        "give the original model, or choose default.",
        FIELD,
    )
