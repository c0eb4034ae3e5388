"""What a backward pass costs: counted in the first step, against what the structure of the model says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig

from geko_engine.training.flops import backward_cost
from tests.engine.conftest import small_llama
from tests.engine.training.test_trainer import OFF, sum_data, trainer_for

LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
# Wide enough that the products of the layers outweigh attention and adapters. A weight that is trained costs two products
# in the backward pass; one that is frozen costs one, and none where nothing trained lies below it.
WIDE = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4}
# What is recomputed leaves out the last product of each layer, whose result nobody needs.
HEAD = {"vocab_size": 4000, "hidden_size": 32, "num_hidden_layers": 1}
CASES: dict[str, tuple[dict[str, Any] | None, dict[str, Any], float, float]] = {
    # name: (LoRA, training arguments, least and greatest cost)
    "all weights": (None, {}, 1.95, 2.1),
    "all weights, recomputed": (None, {"gradient_checkpointing": True}, 2.6, 3.1),
    "LoRA": (LORA, {}, 0.9, 1.1),
    "LoRA in bf16": (LORA, {"bf16": True}, 0.9, 1.1),
    "LoRA, recomputed": (LORA, {"gradient_checkpointing": True}, 1.6, 2.1),
    "mostly head": (None, {}, 1.85, 2.1),  # the proof of the head, once, counts as forward
    "LoRA, mostly head": (LORA, {}, 0.85, 1.1),
    "LoRA in the last layer": (LORA | {"layers_to_transform": [3]}, {}, 0.1, 0.5),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cost_of_a_backward_pass_is_counted(tmp_path: Path, case: str) -> None:
    lora, args, least, greatest = CASES[case]
    config = LoraConfig(**lora) if lora else None
    trainer = trainer_for(
        tmp_path,
        small_llama(**(HEAD if "head" in case else WIDE)),
        OFF,
        data=sum_data(16),
        lora_config=config,
        args={"num_epochs": 1} | args,
    )
    report = trainer.train()
    assert least <= report["backward_cost"] <= greatest


def test_scans_weigh_more_where_the_backward_pass_is_cheap() -> None:
    from geko_engine.training.compute import compute_saved_ratio

    assert compute_saved_ratio(150, 100, 100, 1.0) == pytest.approx(-0.25)
    assert compute_saved_ratio(150, 100, 100, 2.0) == pytest.approx(-1 / 6)


@pytest.mark.parametrize(
    ("trained", "recomputes", "cost"), [(1.0, False, 2.0), (0.01, False, 1.0), (1.0, True, 3.0), (0.01, True, 2.0)]
)
def test_where_kernels_are_unknown_it_goes_by_what_is_trained(trained: float, recomputes: bool, cost: float) -> None:
    assert backward_cost(0, 0, trained, recomputes=recomputes) == cost


def test_a_cost_near_nothing_is_still_a_cost_that_was_counted() -> None:
    assert backward_cost(10_000_000, 1, 0.01, recomputes=False) == 0.01
