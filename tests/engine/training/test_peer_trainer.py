"""With selection off, GEKOTrainer ends where transformers.Trainer ends on the same rows in the same order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from geko_engine.data.batches import Collator
from geko_engine.reporting.events import StepCompleted
from tests.engine.conftest import small_llama
from tests.engine.training.test_exactness import plain_order
from tests.engine.training.test_trainer import OFF, sum_data, trainer_for, weights

ROWS, STEPS = 400, 50
# Greatest difference of a loss and of a weight. bfloat16 keeps eight binary digits; Lion goes by the sign of a number that
# may be nearly 0, and then by two steps of the learning rate the other way.
EXACT, BF16, LION = 2e-6, 3e-3, 1e-4
SMALL = {"learning_rate": 5e-5}
RECOMPUTE = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if hasattr(TrainingArguments, name)
)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], bool | dict[str, Any], torch.dtype, float]] = {
    # name: (our arguments, theirs, LoRA, dtype of the base, tolerance)
    "full": ({}, {}, False, torch.float32, EXACT),
    "LoRA": ({}, {}, True, torch.float32, EXACT),
    "accumulation": (
        {"batch_size": 2, "gradient_accumulation_steps": 4},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
        False,
        torch.float32,
        EXACT,
    ),
    "gradient checkpointing": (
        {"gradient_checkpointing": True},
        {RECOMPUTE: True},
        False,
        torch.float32,
        EXACT,
    ),
    "cosine": ({"lr_scheduler_type": "cosine"}, {"lr_scheduler_type": "cosine"}, False, torch.float32, EXACT),
    "constant": ({"lr_scheduler_type": "constant"}, {"lr_scheduler_type": "constant"}, False, torch.float32, EXACT),
    "adafactor": ({"optim": "adafactor"}, {"optim": "adafactor"}, False, torch.float32, EXACT),
    "lion": (SMALL | {"optim": "lion_32bit"}, SMALL | {"optim": "lion_32bit"}, False, torch.float32, LION),
    "8-bit Lion": (SMALL | {"optim": "lion_8bit"}, SMALL | {"optim": "lion_8bit"}, False, torch.float32, LION),
    "8-bit AdamW": ({"optim": "adamw_8bit"}, {"optim": "adamw_8bit"}, False, torch.float32, EXACT),
    "SGD": ({"optim": "sgd"}, {"optim": "sgd"}, False, torch.float32, EXACT),
    "DoRA": ({}, {}, {"use_dora": True}, torch.float32, EXACT),
    "rsLoRA": ({}, {}, {"use_rslora": True}, torch.float32, EXACT),
    "bf16": ({"bf16": True}, {"bf16": True}, False, torch.float32, BF16),
    "LoRA on a bf16 base": ({"bf16": True}, {"bf16": True}, True, torch.bfloat16, BF16),
}


def adapters(kind: bool | dict[str, Any]) -> LoraConfig:
    """A new one each time: peft changes what it is given."""
    values: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    return LoraConfig(**(values | (kind if isinstance(kind, dict) else {})))


class InOrder(Trainer):
    """transformers.Trainer that takes the rows as they come and remembers the loss of each step."""

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            self.losses = [*getattr(self, "losses", []), logs["loss"]]
        super().log(logs, *args, **kwargs)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_weights_after_fifty_steps_are_those_of_transformers(tmp_path: Path, case: str) -> None:
    ours, theirs, lora, dtype, tolerance = CASES[case]
    data = sum_data(ROWS)
    losses: list[float] = []
    trainer = trainer_for(
        tmp_path,
        small_llama().to(dtype),
        OFF,
        data=data,
        lora_config=adapters(lora) if lora else None,
        args={"num_epochs": 1, "warmup_steps": 0, "weight_decay": 0.0, "learning_rate": 5e-4} | ours,
        on_event=lambda e: losses.append(e.loss) if isinstance(e, StepCompleted) else None,
    )
    model: Any = small_llama().to(dtype)
    peer = get_peft_model(model, adapters(lora)) if lora else model
    peer.load_state_dict(trainer.model.state_dict())  # the adapters begin at random
    trainer.train()
    peer_losses = transformers_losses(tmp_path, peer, [data[i] for ids in order(data) for i in ids], theirs)

    assert len(losses) == len(peer_losses) == STEPS
    assert losses == pytest.approx(peer_losses, abs=max(tolerance, 1e-4))  # theirs are rounded to four digits
    for name, parameter in peer.named_parameters():
        torch.testing.assert_close(weights(trainer)[name], parameter, atol=tolerance, rtol=0)


def order(data: Any) -> list[list[int]]:
    return plain_order(ROWS, 1, data.lengths)


def transformers_losses(tmp_path: Path, model: Any, rows: list[Any], changes: dict[str, Any]) -> list[float]:
    values: dict[str, Any] = {"per_device_train_batch_size": 8, "learning_rate": 5e-4, "weight_decay": 0.0}
    args = TrainingArguments(
        output_dir=str(tmp_path / "theirs"),
        num_train_epochs=1,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **(values | changes),
    )
    trainer = InOrder(model, args, train_dataset=rows, data_collator=Collator(0))
    trainer.train()
    return trainer.losses
