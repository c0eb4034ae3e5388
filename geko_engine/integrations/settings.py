"""A trainer's arguments as GEKO's own settings: what a run folder says of the run. Trains nothing."""

from __future__ import annotations

from typing import Any

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import GIVEN, DataConfig, LoraSettings, ModelConfig
from geko_engine.config.selection import GEKOConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError
from geko_engine.integrations.samples import TrainingSamples
from geko_engine.integrations.support import trainer_name
from geko_engine.models.precision import held_in
from geko_engine.models.quantization import count_parameters
from geko_engine.training.reports import RunInfo


def training_args(args: Any, *, epochs: int, max_steps: int) -> tuple[GEKOTrainingArgs, list[str]]:
    """(transformers.TrainingArguments as GEKO has them, "name = value" of each that GEKO has no such value for)."""
    values = {
        "num_epochs": epochs,
        "batch_size": args.per_device_train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "learning_rate": args.learning_rate,
        "weight_decay": args.weight_decay,
        "warmup_steps": args.get_warmup_steps(max_steps),
        "max_grad_norm": args.max_grad_norm,
        "seed": args.seed,
        "bf16": bool(args.bf16),
        "fp16": bool(args.fp16),
        "gradient_checkpointing": _recomputes(args),
        "optim": str(getattr(args.optim, "value", args.optim)),
        "lr_scheduler_type": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
        "neftune_noise_alpha": args.neftune_noise_alpha or 0.0,
        "dataloader_num_workers": args.dataloader_num_workers,
        "dataloader_persistent_workers": args.dataloader_persistent_workers,
        "dataloader_prefetch_factor": args.dataloader_prefetch_factor or 2,
        "output_dir": str(args.output_dir),
    }
    unlisted = [name for name, value in values.items() if not _is_known(name, value)]
    known = {name: value for name, value in values.items() if name not in unlisted}
    return GEKOTrainingArgs(**known), [f"{name} = {values[name]}" for name in unlisted]


def _is_known(name: str, value: Any) -> bool:
    try:
        GEKOTrainingArgs(**{name: value})
    except ConfigError:
        return False
    return True


def _recomputes(args: Any) -> bool:
    """transformers calls it activation_checkpointing from version 5.20 or so on."""
    return bool(getattr(args, "activation_checkpointing", False) or args.gradient_checkpointing)


def run_config(trainer: Any, settings: GEKOTrainingArgs, config: GEKOConfig, runs_dir: str) -> RunConfig:
    """What config.yaml of the run folder says: for reading, not for running it again."""
    model = trainer.model
    name = getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__
    adapters = getattr(model, "peft_config", {})
    lora = LoraSettings()
    for adapter in list(adapters.values())[:1]:
        if hasattr(adapter, "r"):
            targets = adapter.target_modules or []
            names = [targets] if isinstance(targets, str) else sorted(targets)
            lora = LoraSettings(True, adapter.r, int(adapter.lora_alpha), adapter.lora_dropout, names)
    return RunConfig(ModelConfig(str(name)), DataConfig(GIVEN), lora, settings, config, runs_dir)


def run_info(
    trainer: Any, samples: TrainingSamples, settings: GEKOTrainingArgs, config: GEKOConfig, steps: int
) -> RunInfo:
    """What stays the same in the run. steps: of an epoch of plain training."""
    args, model, evaluation = trainer.args, trainer.model, trainer.eval_dataset
    total, trainable = count_parameters(model)
    return RunInfo(
        model=run_config(trainer, settings, config, "").model.name,
        samples=len(samples),
        eval_samples=len(evaluation) if hasattr(evaluation, "__len__") and not isinstance(evaluation, dict) else 0,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        batch_size=settings.batch_size,
        tokens_per_epoch=int(samples.view.lengths.sum()),
        target_tokens_per_epoch=int(samples.view.targets.sum()),
        parameters=total,
        trainable_parameters=trainable,
        device=str(args.device),
        precision="bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        processes=1,
        options={
            "trainer": trainer_name(trainer),
            "gradient_accumulation_steps": settings.gradient_accumulation_steps,
            "gradient_checkpointing": settings.gradient_checkpointing,
            "compile_model": False,
            "weights": held_in(model),
            "optim": str(getattr(args.optim, "value", args.optim)),
            "lr_scheduler_type": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
            "warmup_steps": settings.warmup_steps,
            "dataloader_workers": args.dataloader_num_workers,
            "use_curriculum": config.enabled and config.use_curriculum,
        },
    )
