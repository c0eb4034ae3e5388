"""Rows of unequal length: GEKO with padding, GEKO without it, and transformers.Trainer. Writes nothing."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.gpu_trainers import LORA, SETTLED, Shape, random_model
from benchmarks.memory import lora_config
from benchmarks.workload import Rows, Size, make_rows, natural_lengths, run_geko, run_transformers

LENGTHS = "LoRA, lengths log-normal"
Run = Callable[[Any, Rows, int], object]


def with_geko(model: Any, rows: Rows, batch: int, *, padding_free: str) -> None:
    """GEKOTrainer, its record kept of every sample."""
    lora, silent = lora_config(LORA), lambda event: None
    run_geko(model, rows, batch, lora=lora, bf16=True, padding_free=padding_free, on_event=silent)


def with_transformers(model: Any, rows: Rows, batch: int) -> None:
    """transformers.Trainer with its own groups of similar length."""
    from peft import get_peft_model

    run_transformers(get_peft_model(model, lora_config(LORA)), rows, batch, strategy="group_by_length", bf16=True)


RUNS: dict[str, Run] = {
    "transformers": with_transformers,
    "GEKO, padded": functools.partial(with_geko, padding_free="off"),
    "GEKO, padding-free": functools.partial(with_geko, padding_free="on"),
}


def one_run(shape: Shape, _way: str, trainer: str, device: str) -> dict[str, Any]:
    """One short run on a fresh model with Flash Attention; on a CPU with sdpa, which proves the path."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    model = random_model(shape, torch.bfloat16, device)
    if device == "cuda":
        model.set_attn_implementation("flash_attention_2")
    rows = make_rows(Size(vocabulary=shape.vocabulary), natural_lengths(shape.batch * shape.steps))
    seconds, tokens = timed(RUNS[trainer], model, rows, shape)
    peak = torch.cuda.max_memory_allocated() - before if device == "cuda" else None
    return {
        "seconds": seconds / (shape.steps - SETTLED),
        "tokens_per_second": tokens / seconds,
        "bytes": peak,
    }


def timed(run: Run, model: Any, rows: Rows, shape: Shape) -> tuple[float, int]:
    """(seconds, real tokens) of a run from the beginning of its third step to its end."""
    passes, left, began = 0, sum(len(row["input_ids"]) for row in rows), 0.0

    def before(_module: nn.Module, _args: Any, inputs: dict[str, Any]) -> None:
        nonlocal passes, left, began
        if not torch.is_grad_enabled():
            return  # GEKO's questions to the model
        passes += 1
        if passes <= SETTLED:
            mask = inputs.get("attention_mask")
            left -= int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        elif passes == SETTLED + 1:
            _wait()
            began = time.perf_counter()

    model.register_forward_pre_hook(before, with_kwargs=True)
    run(model, rows, shape.batch)
    _wait()
    if passes != shape.steps:
        raise RuntimeError(f"Unequal work: {passes} passes instead of {shape.steps}.")
    return time.perf_counter() - began, left


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
