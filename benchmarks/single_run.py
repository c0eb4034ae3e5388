"""Model, data and settings of one run of `savings` or `guard`: the same for every arm of a mix and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.datasets import MIXES
from geko_engine import GEKOTrainingArgs
from geko_engine.config.sections import LoraSettings, ModelConfig
from geko_engine.data.batches import TokenizedData
from geko_engine.data.formats import PromptCompletion
from geko_engine.data.tokenization import tokenise
from geko_engine.models.loading import load_model_and_tokenizer
from geko_engine.models.lora import apply_lora, lora_config_for
from scripts.demo_tasks import Row

COLUMNS = PromptCompletion("prompt", "completion")
SMALL_SAMPLES, SMALL_SEEDS = 1000, 2


@dataclass(frozen=True)
class Trial:
    """What a run starts from. rows: training rows, data: the same as tokens; evaluation, held_out: those of the evaluation."""

    model: Any
    tokenizer: Any
    rows: Sequence[Row]
    data: TokenizedData
    evaluation: Sequence[Row]
    held_out: TokenizedData
    args: GEKOTrainingArgs


def set_up(mix: str, seed: int, samples: int, epochs: int, folder: str | Path) -> Trial:
    """A fresh model and the data of `mix`; rows, order and replay differ from seed to seed, the evaluation does not."""
    data_of = MIXES[mix]
    model, tokenizer = load_model_and_tokenizer(ModelConfig(data_of.base()))
    if data_of.lora:
        torch.manual_seed(seed)  # its adapters begin at random
        model = apply_lora(model, lora_config_for(LoraSettings(enabled=True), model), lambda text: None)
    evaluation = data_of.evaluation()
    rows = data_of.train(samples, 1000 + seed, {row["prompt"] for row in evaluation})
    args = GEKOTrainingArgs(
        output_dir=str(folder),
        num_epochs=epochs,
        batch_size=data_of.batch_size,
        learning_rate=data_of.learning_rate,
        warmup_steps=30,
        save_steps=0,
        eval_steps=0,
        save_at_end=False,
        seed=seed,
        bf16=data_of.lora,
    )
    tokens = [tokenise(part, COLUMNS, tokenizer, data_of.longest) for part in (rows, evaluation)]
    return Trial(model, tokenizer, rows, tokens[0], evaluation, tokens[1], args)
