"""One small random model, its data, and how each trainer is started on them. Measures nothing but its own forwards.

Every trainer gets the same rows in batches of the same size, AdamW, weight decay on, gradients clipped at 1, no
evaluation, no saving, no loader processes.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments
from transformers.utils import logging

from geko_engine.config.selection import GEKOConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.batches import IGNORE_INDEX, Collator
from geko_engine.reporting.events import Event
from geko_engine.training.trainer import GEKOTrainer

torch.set_num_threads(1)
logging.set_verbosity_error()
logging.disable_progress_bar()
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft asks for it
FIRST_TOKEN = 2  # 0 pads, 1 ends
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Size:
    """A Llama-style model with tied embeddings, and its batches of `batch` samples of `tokens` tokens.

    Attributes:
        heads, key_values: of the attention; fewer key_values than heads share them. inner: width of the MLP / hidden.
    """

    hidden: int = 128
    layers: int = 4
    vocabulary: int = 32_000
    tokens: int = 256
    batch: int = 8
    steps: int = 5
    heads: int = 4
    key_values: int = 4
    inner: float = 3

    @property
    def head_share(self) -> float:
        """Share of the multiplications of a forward pass (attention scores left out) that the head takes."""
        squares = 2 + 2 * self.key_values / self.heads + 3 * self.inner
        head, layer = self.vocabulary * self.hidden, squares * self.hidden**2
        return head / (head + self.layers * layer)


@dataclass
class Forwarded:
    """What a model was given: the proof that two trainers did the same work.

    Attributes:
        starts: time of the beginning of each forward pass. tokens: real tokens. positions: padding included.
    """

    starts: list[float]
    tokens: int = 0
    positions: int = 0

    @property
    def step_seconds(self) -> list[float]:
        """From one forward pass to the next, the first left out (it allocates)."""
        return np.diff(self.starts)[1:].tolist()


def watch(model: nn.Module, clock: Callable[[], float] = time.perf_counter) -> Forwarded:
    """Count and time the forward passes of `model` from outside, the same way for every trainer."""
    seen = Forwarded([])

    def before(_module: nn.Module, _args: Any, inputs: dict[str, Any]) -> None:
        if not seen.starts and not torch.is_grad_enabled():
            return  # GEKO asks at first, of a few tokens, whose loss to train with
        seen.starts.append(clock())
        seen.tokens += int(inputs["attention_mask"].sum())
        seen.positions += inputs["input_ids"].numel()

    model.register_forward_pre_hook(before, with_kwargs=True)
    return seen


def make_model(size: Size) -> Any:
    """The same random weights every time."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=round(size.inner * size.hidden),
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_values,
        max_position_embeddings=max(512, size.tokens),
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return LlamaForCausalLM(config).train()


def make_rows(size: Size, lengths: list[int] | None = None, *, target_share: float = 1.0) -> Rows:
    """Random tokens; the last `target_share` of each row are targets. Without lengths: enough for `size.steps`."""
    rng = np.random.default_rng(0)
    rows = []
    for length in lengths or [size.tokens] * (size.steps * size.batch):
        ids = torch.from_numpy(rng.integers(FIRST_TOKEN, size.vocabulary, length))
        labels = ids.clone()
        labels[: length - round(length * target_share)] = IGNORE_INDEX
        rows.append({"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)})
    return rows


def natural_lengths(count: int) -> list[int]:
    """Log-normal token lengths of instruction data: mean 116, 95th percentile 325, at most 512."""
    sigma = 0.85
    drawn = np.random.default_rng(1).lognormal(np.log(116) - sigma**2 / 2, sigma, count)
    return np.clip(drawn, 8, 512).astype(int).tolist()


def run_geko(
    model: Any,
    rows: Any,
    batch: int,
    *,
    on_event: Callable[[Event], None] | None = None,
    lora: Any = None,
    config: GEKOConfig | None = None,
    **changes: Any,
) -> GEKOTrainer:
    """One epoch of GEKOTrainer with every sample recorded; `changes` are training arguments."""
    with tempfile.TemporaryDirectory() as folder:
        values: dict[str, Any] = {
            "output_dir": folder,
            "num_epochs": 1,
            "batch_size": batch,
            "save_steps": 0,
            "eval_steps": 0,
            "save_at_end": False,
            "dataloader_num_workers": 0,
        }
        args = GEKOTrainingArgs(**(values | changes))
        trainer = GEKOTrainer(model, rows, config=config, args=args, lora_config=lora, on_event=on_event)
        trainer.train()
        return trainer


def run_transformers(
    model: Any, rows: Rows, batch: int, strategy: str = "random", *, lora: Any = None, **changes: Any
) -> None:
    """One epoch of transformers.Trainer with its defaults; `strategy` is its train_sampling_strategy.

    Args:
        lora: a peft.LoraConfig to apply first. changes: more of its arguments.
    """
    model = _adapted(model, lora)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            weight_decay=0.01,
            train_sampling_strategy=strategy,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            **changes,
        )
        trainer = Trainer(model, args, data_collator=Collator(0), train_dataset=rows)
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def run_sft(model: Any, rows: Rows, batch: int, *, lora: Any = None) -> None:
    """One epoch of TRL's SFTTrainer in float32, without gradient checkpointing: what the others do."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    names = ("input_ids", "labels")
    dataset = Dataset.from_list([{name: row[name].tolist() for name in names} for row in rows])
    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            learning_rate=5e-5,
            weight_decay=0.01,
            max_length=None,
            bf16=False,
            activation_checkpointing=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        trainer = SFTTrainer(_adapted(model, lora), args, train_dataset=dataset, processing_class=_tokenizer())
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def _adapted(model: Any, lora: Any) -> Any:
    if lora is None:
        return model
    from peft import get_peft_model

    return get_peft_model(model, lora)


def _tokenizer() -> Any:
    """TRL wants one, though it has nothing to do."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
