"""What of another trainer GEKO cannot work with, in one sentence each. Trains nothing."""

from __future__ import annotations

import importlib
from typing import Any

import torch
import transformers

from geko_engine.exceptions import ConfigError, GekoError
from geko_engine.models.checks import check_kind
from geko_engine.models.lora import require_adapters

ONE_ROW = (
    "The data collator puts several samples into one row (packing or padding_free), and GEKO keeps a record of each sample: "
    "switch packing and padding_free off."
)


def require_supported(trainer: Any) -> None:
    """Raise ConfigError or ModelError for the first thing that GEKO cannot work with.

    Args:
        trainer: a transformers.Trainer, constructed.
    """
    if not hasattr(transformers.Trainer, "loss_is_scaled_for_ga"):
        raise ConfigError(
            f"GekoMixin needs transformers 5.19 or newer, and {transformers.__version__} is installed: upgrade "
            "transformers, or use GEKOTrainer."
        )
    settings = getattr(trainer.model, "config", None)
    if settings is not None:
        check_kind(settings, getattr(settings, "name_or_path", "") or type(trainer.model).__name__)
    require_adapters(trainer.model)
    problem = (
        _processes_problem(trainer.args)
        or _rows_problem(trainer)
        or _loss_problem(trainer)
        or _order_problem(trainer.args)
    )
    if problem:
        raise ConfigError(problem)


def _processes_problem(args: Any) -> str:
    if args.world_size > 1:
        return "GekoMixin trains in one process: start without a launcher, or use GEKOTrainer."
    if args.n_gpu > 1:
        return "Several GPUs are visible to GekoMixin: make one visible (CUDA_VISIBLE_DEVICES=0), or use GEKOTrainer."
    if args.deepspeed or args.fsdp:
        return "GekoMixin does not work with DeepSpeed or FSDP: leave them out."
    if args.torch_compile:
        return "GekoMixin does not work with torch_compile: leave it out, or use GEKOTrainer."
    return ""


def _rows_problem(trainer: Any) -> str:
    args, dataset = trainer.args, trainer.train_dataset
    if dataset is None:
        return "No train_dataset is given: GEKO plans over its samples."
    if not hasattr(dataset, "__len__") or isinstance(dataset, torch.utils.data.IterableDataset):
        return "A streamed dataset has no numbered samples to keep a record of: load it as a Dataset."
    if any(getattr(where, name, False) for where in (args, trainer) for name in ("packing", "padding_free")):
        return ONE_ROW
    return ""


def _loss_problem(trainer: Any) -> str:
    args = trainer.args
    if args.label_smoothing_factor:
        return f"GEKO trains with the likelihood of the targets: leave label_smoothing_factor = {args.label_smoothing_factor} out."
    if trainer.compute_loss_func is not None:
        return "GEKO trains with the likelihood of the targets: leave compute_loss_func out."
    if getattr(args, "loss_type", "nll") != "nll":
        return f"GEKO trains with the likelihood of the targets: leave loss_type = {args.loss_type!r} out."
    if getattr(trainer.data_collator, "mlm", False):
        return "The data collator masks words to be filled in: give it mlm=False."
    if trainer.model_init is not None:
        return "A model_init makes a new model for each training: give the model itself."
    return ""


def _order_problem(args: Any) -> str:
    order = args.train_sampling_strategy
    if order != "random":
        return f"GEKO chooses the order of the samples: leave train_sampling_strategy = {order!r} out."
    if args.dataloader_drop_last:
        return "GEKO trains on every sample that it plans: leave dataloader_drop_last out."
    if args.auto_find_batch_size:
        return "GekoMixin keeps the batch size: leave auto_find_batch_size out."
    return ""


def require_separate_rows(dataset: Any, collate: Any) -> None:
    """Raise ConfigError when the collator does not make one row with labels of each sample."""
    if not len(dataset):
        raise ConfigError("The training dataset is empty: give at least one sample.")
    batch = collate([dataset[0], dataset[0]])
    if "input_ids" not in batch or "labels" not in batch:
        raise ConfigError(
            f"The data collator gives {', '.join(map(str, batch)) or 'nothing'}, and GEKO needs input_ids and labels: use "
            "DataCollatorForLanguageModeling(tokenizer, mlm=False), or give the samples labels."
        )
    if len(batch["input_ids"]) != 2:
        raise ConfigError(ONE_ROW)


def require_lambda(scheduler: Any) -> None:
    """Raise ConfigError for a schedule that is not a function of the steps done."""
    if not isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
        raise ConfigError(
            f"GEKO moves the schedule with the data that is done, and {type(scheduler).__name__} is not a function of it: "
            "choose lr_scheduler_type linear, cosine, constant or another of that kind."
        )


def trainer_name(trainer: Any) -> str:
    """The class of another library that `trainer` is or comes from, as people write it."""
    for kind in type(trainer).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in ("transformers", "trl"):
            version = importlib.import_module(package).__version__
            return f"{package}.{kind.__name__} {version}"
    raise GekoError("GekoMixin stands before a transformers.Trainer: class Trainer(GekoMixin, transformers.Trainer).")
