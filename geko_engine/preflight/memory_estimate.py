"""Estimates memory and time of a run before it starts, from a forward pass on fake tensors.

Fake tensors have shapes but no content. The model is run once with the longest batch, and the tensors that autograd
would store are added up. This works for any architecture, and takes seconds and hardly any memory for any model size.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import silu
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from geko_engine.config.run_config import RunConfig
from geko_engine.models.lora import apply_lora, lora_config_for
from geko_engine.models.precision import weights_dtype
from geko_engine.models.quantization import count_parameters
from geko_engine.scoring.chunked_loss import bytes_of_loss, loss_of_hidden
from geko_engine.scoring.output_head import fuses, output_embedding, settings, tail_of
from geko_engine.training.optimizer import state_bytes

FLOAT = 4  # bytes of a float32
QUANTIZED_BYTES = {"4bit": 0.55, "8bit": 1.05}  # per parameter of a linear layer, scales included
RECOMPUTED = 1.5  # factor on one layer's activations with gradient checkpointing: recomputed activations and their gradients coexist; benchmarks/memory_estimate.py
WORKSPACE = 0.10  # share of everything else: temporary memory of operations; benchmarks/memory_estimate.py
SPARE = 0.90  # share of the memory that a run may fill before "fits" becomes "tight"
MATMUL_SHARE = (
    0.9  # of the speed of a matrix product of the model's width, that a step's reach; benchmarks/memory_estimate.py
)
WRITING = (
    2.2  # time of a byte that other operations write, in units of one that silu writes; benchmarks/memory_estimate.py
)
UPDATES = 4  # numbers written for each trained parameter in a step: weight, moments, gradient
WIDE = 1 << 22  # numbers that silu is timed on; a larger tensor gets fresh memory each time on a CPU
UNCOUNTED = {*flop_registry, torch.ops.aten._unsafe_view}  # the shape that a product gets is a view without the name
OVERHEAD = 3.0  # time of an operation of a step, beside its arithmetic, in units of the smallest one's


@dataclass(frozen=True)
class Footprint:
    """What one training step needs, counted on fake tensors; bytes, operations and floating-point operations.

    weights, gradients, optimizer: of the model. average: of the weights, where the run keeps it. activations: kept for the backward pass at the longest batch.
    recomputed: of them, those of the one layer that is recomputed, and their gradients; 0 without gradient checkpointing.
    logits: what the loss takes: logits of a chunk of the batch's target rows and the gradients that are computed with
    them, or of all rows where head and loss are not computed together. flops: of the matrix products of its forward pass on
    `tokens` tokens; written: bytes that its other operations write; operations: their number, all in all. layers: of the model.
    """

    parameters: int
    trainable: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    flops: int
    written: int
    operations: int
    tokens: int
    accumulates: bool
    recomputed: int
    layers: int = 1
    average: int = 0

    @property
    def peak(self) -> int:
        """Bytes at the worst moment of a step: gradients grow while activations are let go of."""
        passing = self.activations + self.logits
        moving = self.gradients + passing if self.accumulates else max(self.gradients + self.recomputed, passing)
        return round((1 + WORKSPACE) * (self.weights + self.optimizer + self.average + moving))

    def shared_out(self, processes: int) -> Footprint:
        """What each of `processes` needs with FSDP: its part, and of weights and gradients one layer whole and the next."""

        def part(size: int) -> int:
            return min(size, size // processes + 2 * size // self.layers)

        return replace(
            self,
            weights=part(self.weights),
            gradients=part(self.gradients),
            optimizer=self.optimizer // processes,
        )

    def parts(self) -> dict[str, int]:
        """Bytes by part, in the order in which they come to be."""
        names = ("weights", "gradients", "optimizer", "average", "activations", "logits")
        return {name: getattr(self, name) for name in names if name != "average" or self.average}

    def seconds(self, tokens: int, steps: int, speed: Speed) -> float:
        """Time that `steps` training steps on `tokens` real tokens take at `speed`, evaluation and loading left out."""
        again = bool(self.recomputed)
        # The products of the backward pass cost two forward ones; where nothing but adapters is trained, about one.
        products = 2.0 + min(1.0, 2 * self.trainable / max(1, self.parameters)) + again
        share, passes = tokens / max(1, self.tokens), 3.0 + again
        arithmetic = products * share * self.flops / (MATMUL_SHARE * speed.flops_per_second)
        written = passes * share * self.written + steps * UPDATES * self.gradients
        waiting = passes * steps * self.operations * OVERHEAD * speed.operation_seconds
        return arithmetic + WRITING * written / speed.written_per_second + waiting


def footprint(config: RunConfig, model_config: Any, batch_size: int, length: int, targets: int) -> Footprint:
    """The footprint of a step with `batch_size` samples of `length` tokens, `targets` of them targets in all.

    Raises:
        RuntimeError and others: if the architecture does not run on fake tensors.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.device("meta"):
        model = _empty_model(config, model_config, weights_dtype(config))
    total, trainable = count_parameters(model)
    with FakeTensorMode(), device:
        _give_fake_tensors(model)
        with _Counter() as counter, FlopCounterMode(display=False) as flops:
            saved, rows = _forward(model, config, batch_size, length, targets)
    layers = max(1, getattr(model_config.get_text_config(), "num_hidden_layers", 1))
    recomputed = round(RECOMPUTED * saved / layers) if config.training.gradient_checkpointing else 0
    if recomputed:
        hidden = batch_size * length * model_config.get_text_config().hidden_size * weights_dtype(config).itemsize
        saved = recomputed + layers * hidden  # one layer at a time, and the input of each
    learned = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return Footprint(
        parameters=total,
        trainable=trainable,
        weights=_weight_bytes(model, config.model.quantization),
        gradients=learned,
        optimizer=state_bytes(model, config.training.optimizer),
        activations=saved,
        logits=rows,
        flops=flops.get_total_flops(),
        written=counter.written,
        operations=counter.count,
        tokens=batch_size * length,
        accumulates=config.training.gradient_accumulation_steps > 1 or config.training.max_tokens_per_batch > 0,
        recomputed=recomputed,
        layers=layers,
        average=4 * trainable if config.training.averages else 0,
    )


def weight_bytes(config: RunConfig, model_config: Any, dtype: torch.dtype) -> int:
    """Bytes of the weights of a run's model, adapters included, computed without loading them.

    Args:
        dtype: in which they are held.

    Raises:
        RuntimeError and others: if the architecture cannot be built without weights.
    """
    with torch.device("meta"):
        return _weight_bytes(_empty_model(config, model_config, dtype), config.model.quantization)


def _give_fake_tensors(model: nn.Module) -> None:
    """Fake tensors of the present device in place of meta ones: those would take kernels that no device takes."""
    made: dict[int, Any] = {}  # tied weights stay tied
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                new = nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype), parameter.requires_grad)
                module._parameters[name] = made.setdefault(id(parameter), new)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = made.setdefault(id(buffer), torch.empty(buffer.shape, dtype=buffer.dtype))


def _empty_model(config: RunConfig, model_config: Any, dtype: torch.dtype) -> nn.Module:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_config(
        model_config, dtype=dtype, trust_remote_code=config.model.trust_remote_code
    )
    usual = replace(config.lora, init_lora_weights="default")  # there are no values here to begin with another way
    lora = lora_config_for(usual, model)
    if lora is not None:
        model = apply_lora(model, lora, lambda text: None)
    empty: nn.Module = model.train()
    return empty


def _weight_bytes(model: nn.Module, quantization: str) -> int:
    everything: int = sum(p.nbytes for p in model.parameters())
    if quantization not in QUANTIZED_BYTES:
        return everything
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    saved = sum(
        module.weight.nbytes - module.weight.numel() * QUANTIZED_BYTES[quantization]
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not head and not module.weight.requires_grad
    )
    return everything - round(saved)


def _forward(model: nn.Module, config: RunConfig, batch: int, length: int, targets: int) -> tuple[int, int]:
    """(bytes that autograd keeps, bytes of the loss) of one forward pass whose head sees `targets` rows."""
    held: list[Any] = [*model.parameters(), *model.buffers()]
    own = {tensor.untyped_storage()._cdata for tensor in held}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    head = output_embedding(model)
    rows = torch.zeros(min(targets, batch * length), dtype=torch.long)
    given = _before_head(head, rows)
    ids = torch.zeros(batch, length, dtype=torch.long)
    half = torch.bfloat16 if config.training.bf16 else torch.float16
    autocast = torch.autocast(ids.device.type, half, enabled=config.training.bf16 or config.training.fp16)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        if not given:
            return sum(saved.values()), logits.numel() * logits.element_size()
        with torch.no_grad():  # gradients are no part of the forward pass, though they are computed along with it
            loss_of_hidden(given[0], head, tail_of(settings(model)), rows, torch.ones(len(rows)))
    return sum(saved.values()), bytes_of_loss(head, len(rows), half if autocast._enabled else head.weight.dtype)


def _before_head(head: Any, rows: Tensor) -> list[Tensor]:
    """Lets only `rows` come to the head; or, where it is computed with the loss, none, and they are in the list then."""
    given: list[Tensor] = []

    def before(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept = args[0].reshape(-1, args[0].shape[-1]).index_select(0, rows)[None]
        if fuses(head):
            given.append(kept[0])
        return (kept[:, :0] if fuses(head) else kept, *args[1:])

    if head is not None:
        head.register_forward_pre_hook(before)
    return given


class _Counter(TorchDispatchMode):
    """Counts operations as they reach the device, and the bytes that all but matrix products and views write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch declares none
        self.count = self.written = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.count += 1
        if not func.is_view and func._overloadpacket not in UNCOUNTED:
            self.written += sum(t.numel() * t.element_size() for t in tree_leaves(made) if isinstance(t, Tensor))
        return made


@dataclass(frozen=True)
class Speed:
    """What this machine does, timed here and now: written_per_second are the bytes that silu writes."""

    flops_per_second: float
    written_per_second: float
    operation_seconds: float


def measure_speed(hidden_size: int, dtype: torch.dtype) -> Speed:
    """Times a matrix product of the model's width, an activation function and the smallest operation, for half a second."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, columns = 512, 4 * hidden_size
    left = torch.ones(rows, hidden_size, dtype=dtype, device=device)
    right = torch.ones(hidden_size, columns, dtype=dtype, device=device)
    wide, small = torch.ones(WIDE, device=device), torch.ones(8, device=device)
    return Speed(
        2 * rows * hidden_size * columns / _time(lambda: left @ right, device, 0.2),
        WIDE * FLOAT / _time(lambda: silu(wide), device, 0.2),
        _time(lambda: small + small, device, 0.1),
    )


def _time(work: Any, device: torch.device, seconds: float) -> float:
    """Seconds of one call, in the fastest ten of those that are made within `seconds`: others may be at work here too."""
    for _ in range(3):
        work()
    fastest, began = math.inf, time.perf_counter()
    while (start := time.perf_counter()) - began < seconds:
        for _ in range(10):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, (time.perf_counter() - start) / 10)
    return fastest


def verdict(found: Footprint, free: int) -> tuple[str, str]:
    """(fits, tight or too much; the sentence for the user with the ways out)."""
    needed = f"A training step needs about {in_gigabytes(found.peak)}, and {in_gigabytes(free)} are free"
    if found.peak <= SPARE * free:
        return "fits", f"{needed}: it fits."
    ways = _ways_out(found)
    if found.peak <= free:
        return "tight", f"{needed}: it is tight. If memory runs out, {ways}."
    return "too much", f"{needed}: it does not fit. You can {ways}."


def _ways_out(found: Footprint) -> str:
    """What to change, starting with the largest part."""
    passing = found.activations + found.logits
    smaller = "halve the batch size and double the accumulation steps"
    if found.recomputed:
        batches = f"{smaller}, or lower max_length"
    else:
        batches = f"{smaller}, switch on gradient checkpointing, or lower max_length"
    if found.trainable < found.parameters:
        weights = "quantize the base model, or use a smaller model"
    else:
        weights = "switch on LoRA or the 8-bit optimizer, or use a smaller model"
    return batches if passing > found.weights + found.gradients + found.optimizer else weights


def in_gigabytes(count: int) -> str:
    """A number of bytes in GB or MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def available_memory() -> tuple[int, int]:
    """(free bytes, total bytes) of the GPU, or of main memory if there is no GPU."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()
    memory = psutil.virtual_memory()
    return memory.available, memory.total
