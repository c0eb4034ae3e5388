"""How several processes train one model: copies whose gradients are averaged (DDP), or shards (FSDP2). Knows no data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs
from torch import nn

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError
from geko_engine.launch import GROUP_TIMEOUT, is_launched, launcher_problem, process_count
from geko_engine.models.sharding import shard, shared_like, whole
from geko_engine.training.checkpoint_files import random_states, restore_random_states
from geko_engine.training.optimizer import build_optimizer


def make_accelerator(precision: str) -> Accelerator:
    """accelerate's view of the processes of this run.

    Raises:
        ConfigError: when it was launched with DeepSpeed or another engine that is not supported.
    """
    problem = launcher_problem()
    if problem:
        raise ConfigError(problem, "training.fsdp")
    # accelerate keeps the first precision of a process for all later trainers until it is reset.
    AcceleratorState._reset_state()
    made: Accelerator = Accelerator(
        # Without a GPU accelerate sees one process only, unless cpu is set.
        cpu=process_count() > 1 and not torch.cuda.is_available(),
        mixed_precision=precision,
        # Not by its number: accelerate's configuration would replace that, and divide the loss by it.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=GROUP_TIMEOUT)] if process_count() > 1 else None,
    )
    return made


def prepare(accelerator: Accelerator, scored: nn.Module, model: nn.Module, args: GEKOTrainingArgs) -> Any:
    """Bring `scored`, which has `model` inside, to the device, in place; the optimizer of its weights."""
    # evaluation_mode: precision and device alone. DDP comes with the first batch, and accelerate's FSDP is for GPUs only.
    if is_sharded(args, accelerator.num_processes):
        accelerator.prepare_model(scored, device_placement=False, evaluation_mode=True)
        dtype = torch.bfloat16 if args.bf16 else None
        shard(scored, model, accelerator.device, accelerator.num_processes, dtype)
    else:
        accelerator.prepare_model(scored, evaluation_mode=True)
    return accelerator.prepare(build_optimizer(model, args))


def synchronized(accelerator: Accelerator, scored: nn.Module, model: nn.Module, trial: Callable[[], None]) -> nn.Module:
    """`scored` in DDP, which averages the gradients of all processes.

    DDP waits for the gradient of every weight. To look for those that a batch leaves out costs a walk over the graph in
    each step, so it does so only where batches may use different weights, or where the first one leaves some out.

    Args:
        trial: computes the gradients of the first batch.
    """
    unused = may_leave_weights_out(model)
    if not unused:
        states = random_states()
        trial()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        missing = torch.tensor(sum(p.grad is None for p in trained), device=accelerator.device)
        unused = int(accelerator.reduce(missing, "sum")) > 0
        for parameter in trained:
            parameter.grad = None
        restore_random_states(states)
    gpu = [accelerator.device.index] if accelerator.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(scored, device_ids=gpu, find_unused_parameters=unused)


def may_leave_weights_out(model: Any) -> bool:
    """Whether batches may use different weights of a model: experts, layers dropped at random, or code that is not known."""
    whole_model = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not type(whole_model).__module__.startswith("transformers."):
        return True
    settings = whole_model.config.to_dict()
    return any("expert" in name or (name.endswith("layerdrop") and value) for name, value in settings.items())


def without_others(args: GEKOTrainingArgs, processes: int) -> list[str]:
    """A sentence for each setting that needs other processes than there are."""
    found, asked = [], args.process_count(torch.cuda.device_count)
    if asked > 1 and not is_launched():
        found.append(
            f"The settings ask for {asked} processes, and this is one: start the script with torchrun --nproc_per_node {asked}."
        )
    if args.fsdp != "none" and processes == 1:
        found.append("training.fsdp has no effect in one process.")
    return found


def is_sharded(args: GEKOTrainingArgs, processes: int) -> bool:
    """Whether each process holds a part of the weights only."""
    return args.fsdp != "none" and processes > 1


def whole_optimizer_state(optimizer: Any, *, keep: bool) -> dict[str, Any]:
    """The state of an optimizer with whole tensors, as one process has it; all processes must call this.

    Args:
        keep: as for `whole`.
    """
    found = optimizer.state_dict()
    state = {
        key: {name: whole(value, keep=keep) for name, value in values.items()} for key, values in found["state"].items()
    }
    return {**found, "state": state}


def shared_optimizer_state(state: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    """A state with whole tensors as the optimizer of this process takes it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shared = {
        key: {name: shared_like(value, parameters[key]) for name, value in values.items()}
        for key, values in state["state"].items()
        if key < len(parameters)
    }
    return {**state, "state": shared}
