"""The section training of a run: what follows from its settings, and which of them do not fit. Knows no model and no file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from geko_engine.config.declaration import Problem, check, raise_problems
from geko_engine.config.training_choices import (
    ADAMW,
    ADAMW_8BIT,
    ALL_GPUS,
    AUTO,
    CONSTANT_WITH_WARMUP,
    ON,
    SHARDED_OPTIMIZERS,
    TRACKERS,
)
from geko_engine.config.training_settings import TrainingSettings
from geko_engine.reporting.webhook import webhook_problem


@dataclass
class GEKOTrainingArgs(TrainingSettings):
    """How to train. Names as in transformers.TrainingArguments, where it has them.

    Attributes:
        output_dir: folder for checkpoints, for scripts that use GEKOTrainer directly. A RunConfig has its own output_dir.

    Raises:
        ConfigError: if a value is invalid.
    """

    def __post_init__(self) -> None:
        raise_problems(list(self.problems()))

    @property
    def optimizer(self) -> str:
        """The name of the optimizer, by either of the two settings."""
        return ADAMW_8BIT if self.use_8bit_optimizer else self.optim

    @property
    def finds_length(self) -> bool:
        """Whether the run ends by itself when more training would not help."""
        return self.num_epochs == AUTO

    @property
    def averages(self) -> bool:
        """Whether the average of the weights is what the run evaluates and delivers."""
        return self.average_weights or self.finds_length

    @property
    def schedule(self) -> str:
        """The learning rate schedule that is used: an average wants a rate that stays."""
        return CONSTANT_WITH_WARMUP if self.averages else self.lr_scheduler_type

    @property
    def epochs(self) -> int:
        """Epochs of the run, at most."""
        return self.max_epochs if isinstance(self.num_epochs, str) else self.num_epochs

    @property
    def time_limit(self) -> float:
        """Seconds after which the training ends; 0 without a limit."""
        by_cost = 3600 * self.max_cost / self.cost_per_hour if self.max_cost and self.cost_per_hour else 0.0
        limits = [seconds for seconds in (60 * self.max_minutes, by_cost) if seconds]
        return min(limits, default=0.0)

    @property
    def needs_evaluation(self) -> str:
        """The setting that needs evaluation data, "" if none does."""
        if self.finds_length:
            return "num_epochs = auto"
        if self.load_best_model_at_end:
            return "load_best_model_at_end"
        return "early_stopping_patience" if self.early_stopping_patience else ""

    @property
    def open_end(self) -> dict[str, Any]:
        """What may end the run before its last epoch, by the names of the settings."""
        found = {
            "num_epochs": AUTO if self.finds_length else "",
            "max_minutes": round(self.time_limit / 60, 2),
            "early_stopping_patience": 0 if self.finds_length else self.early_stopping_patience,
        }
        return {name: value for name, value in found.items() if value}

    @property
    def step_limit(self) -> int:
        """Optimizer steps that max_steps asks for; 0 where num_epochs decides."""
        return max(0, self.max_steps or 0)

    def planned_epochs(self, steps_per_epoch: int) -> int:
        """Epochs of the run: num_epochs, or as many as the steps of max_steps take without selection."""
        return -(-self.step_limit // steps_per_epoch) if self.step_limit else self.epochs

    def planned_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the run without selection."""
        return self.step_limit or self.epochs * steps_per_epoch

    @property
    def gpus(self) -> list[str]:
        """The numbers in `gpu_ids`; none where it is empty or says all."""
        numbers = [] if self.gpu_ids == ALL_GPUS else self.gpu_ids.split(",")
        return [number.strip() for number in numbers if number.strip()]

    def process_count(self, count_gpus: Callable[[], int]) -> int:
        """Processes that these settings ask for; `count_gpus` says how many GPUs there are, and is asked where that matters."""
        return max(1, count_gpus()) if self.gpu_ids == ALL_GPUS else len(self.gpus) or self.num_processes

    def problems(self, prefix: str = "") -> list[Problem]:
        """(dotted field, message) of every invalid value; `prefix` is put before the field names."""
        found = list(check(self, prefix))
        if self.bf16 and self.fp16:
            found.append((prefix + "fp16", "bf16 and fp16 are both on: switch one of them off."))
        if self.padding_free == ON and self.compile_model:
            sentence = "padding_free is on, and torch.compile wants batches of few lengths: switch one of them off."
            found.append((prefix + "padding_free", sentence))
        if self.max_cost and not self.cost_per_hour:
            found.append((prefix + "cost_per_hour", "max_cost needs to know what an hour costs: give cost_per_hour."))
        unknown = [name for name in self.report_to if name not in TRACKERS]
        if unknown:
            found.append((prefix + "report_to", f"{unknown[0]!r} is not one of {', '.join(TRACKERS)}."))
        if self.webhook_url and webhook_problem(self.webhook_url):
            found.append((prefix + "webhook_url", webhook_problem(self.webhook_url)))
        if self.use_8bit_optimizer and self.optim not in (ADAMW, ADAMW_8BIT):
            sentence = f"use_8bit_optimizer is on, and optim is {self.optim!r}: switch use_8bit_optimizer off."
            found.append((prefix + "optim", sentence))
        return found + [(prefix + name, text) for name, text in self._process_problems()]

    def _process_problems(self) -> Iterator[Problem]:
        """(field, message) of each setting of processes, GPUs and shards that does not fit the others."""
        gpus = self.gpus
        if self.gpu_ids not in ("", ALL_GPUS) and not re.fullmatch(r"\s*\d{1,3}(\s*,\s*\d{1,3})*\s*", self.gpu_ids):
            yield "gpu_ids", f"{self.gpu_ids!r} is no list of GPUs: give their numbers, such as 0,1, or all."
        elif len(set(gpus)) < len(gpus):
            yield "gpu_ids", f"{self.gpu_ids!r} names a GPU twice: name each once."
        elif gpus and self.num_processes not in (1, len(gpus)):
            yield (
                "num_processes",
                f"gpu_ids names {len(gpus)}, and this is {self.num_processes}: one process is for one GPU.",
            )
        if self.fsdp == "none":
            return
        if self.fp16:
            yield "fp16", "fsdp has no loss scaling: use bf16 or fp32, or set fsdp to none."
        if self.compile_model:
            yield "compile_model", "fsdp and torch.compile are not tested together: switch one of them off."
        if self.finds_length:
            yield (
                "num_epochs",
                "auto averages whole weights, which fsdp shares out: give a number, or set fsdp to none.",
            )
        if self.average_weights:
            yield "average_weights", "the average is of whole weights, which fsdp shares out: switch one of them off."
        if self.load_best_model_at_end:
            yield "load_best_model_at_end", "fsdp shares out the weights, so no copy is kept: switch one of them off."
        if self.optimizer not in SHARDED_OPTIMIZERS:
            yield (
                "optim",
                f"{self.optimizer} cannot be shared out: choose {' or '.join(SHARDED_OPTIMIZERS)}, or set fsdp to none.",
            )
