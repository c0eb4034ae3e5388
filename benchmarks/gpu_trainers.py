"""Models of real shapes with random weights, and the three trainers that are compared on them. Writes nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.memory import lora_config
from benchmarks.workload import FIRST_TOKEN, Rows, Size, make_rows, run_geko, run_transformers
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import ModelConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.batches import Collator
from geko_engine.preflight.memory_estimate import footprint

LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
QLORA = "QLoRA"  # of GEKO alone: its memory against the estimate
SETTLED = 2  # forward passes before the clock starts: memory is allocated in them, and GEKO compares losses
Trainer = Callable[[Any, Rows, "Shape", str], object]


@dataclass(frozen=True)
class Shape:
    """A Llama-style model, and batches of `batch` samples of `tokens` tokens for `steps` steps."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    batch: int
    tokens: int = 512
    steps: int = 12

    @property
    def parameters(self) -> int:
        """All weights, norms left out."""
        width = self.hidden * self.kv_heads // self.heads
        layer = 2 * self.hidden**2 + 2 * self.hidden * width + 3 * self.hidden * self.intermediate
        return (1 if self.tied else 2) * self.vocabulary * self.hidden + self.layers * layer


def full_bytes(shape: Shape) -> int:
    """Bytes of float32 weights, gradients and AdamW's two averages."""
    return 16 * shape.parameters


def random_model(shape: Shape, dtype: torch.dtype, device: str) -> Any:
    """The shape with random weights, made on the device."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        tie_word_embeddings=shape.tied,
        use_cache=False,
    )
    with torch.device(device):
        return LlamaForCausalLM._from_config(config, dtype=dtype).train()


def make_rows_of(shape: Shape) -> Rows:
    """Random rows for all steps."""
    return make_rows(Size(vocabulary=shape.vocabulary, tokens=shape.tokens, batch=shape.batch, steps=shape.steps))


def geko(model: Any, rows: Rows, shape: Shape, way: str) -> None:
    """GEKOTrainer, its record kept of every sample."""
    lora = None if way == "full" else lora_config(LORA)
    run_geko(model, rows, shape.batch, lora=lora, bf16=True, on_event=lambda event: None)


def transformers_trainer(model: Any, rows: Rows, shape: Shape, way: str) -> None:
    """transformers.Trainer with its defaults."""
    run_transformers(_adapted(model, way), rows, shape.batch, bf16=True)


def trl(model: Any, rows: Rows, shape: Shape, way: str) -> None:
    """TRL's SFTTrainer with its defaults, but for gradient checkpointing, which it alone switches on."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    recompute = (
        "activation_checkpointing" if hasattr(SFTConfig, "activation_checkpointing") else "gradient_checkpointing"
    )
    data = Dataset.from_list([{name: row[name].tolist() for name in ("input_ids", "labels")} for row in rows])
    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=shape.batch,
            weight_decay=0.01,
            bf16=True,
            **{recompute: False},
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        trainer = SFTTrainer(
            _adapted(model, way), args, data_collator=Collator(0), train_dataset=data, processing_class=_tokenizer()
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


TRAINERS: dict[str, Trainer] = {"transformers": transformers_trainer, "TRL": trl, "GEKO": geko}


def _adapted(model: Any, way: str) -> Any:
    if way == "full":
        return model
    from peft import get_peft_model

    return get_peft_model(model, lora_config(LORA))


def _tokenizer() -> Any:
    """A tokenizer that SFTTrainer asks for and that nothing is tokenized with."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<eos>": 1, **{f"<{i}>": i for i in range(FIRST_TOKEN, FIRST_TOKEN + 2)}}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")), pad_token="<pad>", eos_token="<eos>"
    )


@dataclass
class _Clock:
    """When the first counted forward pass and the last one began, and the tokens of all of them."""

    first: float = 0.0
    last: float = 0.0
    passes: int = 0
    tokens: int = 0


def timed(trainer: Trainer, model: Any, rows: Rows, shape: Shape, way: str) -> float:
    """Seconds of a step of `trainer`, from the beginning of the third to that of the last.

    The device is waited for at these two moments only, so that a trainer that does not wait for it gains by that.
    """
    clock = _Clock()
    model = _quantized(model) if way == QLORA else model

    def before(_module: nn.Module, _args: Any, inputs: dict[str, Any]) -> None:
        if not torch.is_grad_enabled():
            return  # GEKO's question whose loss is trained with
        clock.passes += 1
        clock.tokens += inputs["input_ids"].numel()
        if clock.passes in (SETTLED + 1, shape.steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            clock.first, clock.last = clock.first or time.perf_counter(), time.perf_counter()

    model.register_forward_pre_hook(before, with_kwargs=True)
    trainer(model, rows, shape, way)
    if (clock.passes, clock.tokens) != (shape.steps, shape.steps * shape.batch * shape.tokens):
        raise RuntimeError(f"Unequal work: {clock.passes} passes with {clock.tokens} tokens.")
    return (clock.last - clock.first) / (shape.steps - SETTLED - 1)


def _quantized(model: Any) -> Any:
    """The same weights in 4 bits, as a run loads them."""
    from transformers import AutoModelForCausalLM

    from geko_engine.models.quantization import quantization_config

    bits = quantization_config("4bit", GEKOTrainingArgs(bf16=True))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        model.to("meta")
        loaded = AutoModelForCausalLM.from_pretrained(Path(folder), dtype=torch.bfloat16, quantization_config=bits)
    return loaded.train()


def estimated_bytes(shape: Shape, way: str, model_config: Any) -> int:
    """What the page would show before the start."""
    lora = {
        "enabled": way != "full",
        "r": LORA["r"],
        "alpha": LORA["lora_alpha"],
        "target_modules": ["q_proj", "v_proj"],
    }
    config = RunConfig.from_dict({"training": {"bf16": True}, "lora": lora if way != "full" else {}})
    config.model = ModelConfig(quantization="4bit" if way == QLORA else "none")
    return footprint(config, model_config, shape.batch, shape.tokens, shape.batch * (shape.tokens - 1)).peak
