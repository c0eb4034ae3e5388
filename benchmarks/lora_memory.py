"""Peak memory of LoRA in bfloat16 on a model of 135 M parameters, against peft and transformers.Trainer.

python -m benchmarks.lora_memory [--repetitions N]

Random weights in the shape of SmolLM2-135M, held in bfloat16 by both; adapters of rank 16 on q_proj and v_proj. Each run is
a fresh process. With --small, a model of 9 M parameters.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.common import Ratio, arguments, in_child, interleave, memory_growth, print_table, write_results
from benchmarks.memory import lora_config
from benchmarks.workload import Size, make_model, make_rows, run_geko
from geko_engine.data.batches import Collator

FULL = Size(hidden=576, layers=30, vocabulary=49_152, tokens=256, batch=4, steps=3)
SMALL = Size(hidden=256, layers=6, vocabulary=8192, tokens=256, batch=4, steps=3)
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}
PEER = "peft + transformers.Trainer"


def with_geko(size: Size) -> int:
    """Peak bytes of a run of GEKOTrainer, above what was there before the model."""
    rows = make_rows(size)
    return memory_growth(lambda: run_geko(_base(size), rows, size.batch, lora=lora_config(LORA), bf16=True))


def with_transformers(size: Size) -> int:
    """The same of transformers.Trainer, its own batches and loss."""
    from peft import get_peft_model
    from transformers import PrinterCallback, Trainer, TrainingArguments

    rows = make_rows(size)

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=size.batch,
                bf16=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(),
            )
            model = get_peft_model(_base(size), lora_config(LORA))
            trainer = Trainer(model, args, data_collator=Collator(0), train_dataset=rows)
            trainer.remove_callback(PrinterCallback)
            trainer.train()

    return memory_growth(work)


def _base(size: Size) -> Any:
    return make_model(size).to(torch.bfloat16)


def main() -> None:
    """Entry of the command line."""
    options = arguments(__doc__ or "", 1, few=1)
    size = SMALL if options.small else FULL
    runs: dict[str, Callable[[], int]] = {
        PEER: lambda: in_child(with_transformers, size),
        "GEKO": lambda: in_child(with_geko, size),
    }
    peaks = interleave(runs, options.repetitions)
    ratio = Ratio.of([float(value) for value in peaks["GEKO"]], [float(value) for value in peaks[PEER]])
    megabytes = {name: f"{max(values) / 1e6:.0f} MB" for name, values in peaks.items()}
    rows = [
        [size.hidden, size.layers, size.vocabulary, f"{size.head_share:.0%}", megabytes[PEER], megabytes["GEKO"], ratio]
    ]
    header = ["hidden", "layers", "vocabulary", "head share", PEER, "GEKO", "ratio"]
    print_table("Peak memory of LoRA in bfloat16, batch 4 x 256 tokens", header, rows)
    settings = {"repetitions": options.repetitions, "size": dataclasses.asdict(size), "lora": LORA}
    write_results("lora_memory", settings, {"bytes": peaks, "ratio": ratio.to_dict()}, options)


if __name__ == "__main__":
    main()
