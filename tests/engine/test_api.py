"""The names, arguments and defaults that GEKO was first described with, and its code examples, from geko_engine.

Deliberately different: GEKOConfig() is GEKO_RECOMMENDED, with equal bucket weights and no curriculum, because that
measured best; GEKOConfig.seed() gives the first description's (3, 1, 0) and curriculum. Settings that came later follow
the old ones or are keyword-only, so that positional arguments mean what they meant.
"""

from __future__ import annotations

import dataclasses
import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset

import geko_engine
from geko_engine import (
    GEKO_AGGRESSIVE,
    GEKO_BALANCED,
    GEKO_CONSERVATIVE,
    GEKO_RECOMMENDED,
    Bucket,
    BucketCounts,
    GEKOConfig,
    GEKOTrainer,
    GEKOTrainingArgs,
    MountainCurriculum,
    apply_lora,
    is_peft_available,
)
from geko_engine.data.formats import PromptCompletion
from geko_engine.data.tokenization import tokenise
from tests.engine.conftest import character_tokenizer, small_gpt2, small_llama, sum_rows

REQUIRED = inspect.Parameter.empty
SIGNATURES: dict[Any, dict[str, Any]] = {
    GEKOTrainer: {
        "model": REQUIRED,
        "train_dataset": REQUIRED,
        "tokenizer": None,
        "eval_dataset": None,
        "config": None,
        "args": None,
        "lora_config": None,
        "compute_confidence": None,
        "compute_correctness": None,
    },
    GEKOTrainer.train: {"self": REQUIRED},
    GEKOTrainer.get_pruned_count: {"self": REQUIRED},
    GEKOTrainer.get_hard_samples: {"self": REQUIRED},
    GEKOTrainer.get_frozen_samples: {"self": REQUIRED},
    GEKOTrainer.save_checkpoint: {"self": REQUIRED, "path": REQUIRED},
    GEKOTrainer.load_checkpoint: {"self": REQUIRED, "path": REQUIRED},
    apply_lora: {"model": REQUIRED, "lora_config": REQUIRED},
    is_peft_available: {},
}
DEFAULTS: dict[type, dict[str, Any]] = {
    GEKOTrainingArgs: {
        "output_dir": "./geko_output",
        "num_epochs": 3,
        "batch_size": 32,
        "learning_rate": 5e-5,
        "weight_decay": 0.01,
        "warmup_steps": 100,
        "logging_steps": 100,
        "save_steps": 1000,
        "eval_steps": 500,
        "max_grad_norm": 1.0,
        "gradient_accumulation_steps": 1,
        "seed": 42,
        "save_at_end": True,
        "bf16": False,
        "fp16": False,
        "gradient_checkpointing": False,
        "compile_model": False,
        "use_8bit_optimizer": False,
        "dataloader_num_workers": -1,
        "dataloader_persistent_workers": True,
        "dataloader_prefetch_factor": 2,
    },
    GEKOConfig: {
        "freeze_confidence": 0.85,
        "freeze_quality": 0.80,
        "focus_confidence": 0.60,
        "bucket_weights": (3, 1, 0),
        "use_curriculum": True,
        "q_value_lr": 0.1,
        "min_q_for_freeze": 0.8,
        "q_value_loss_scale": 10.0,
        "repartition_every": 1,
        "log_bucket_stats": True,
        "max_times_seen": 50,
        "prune_frozen_after": 0,
    },
}
MEASURED_BETTER = {"bucket_weights": (1, 1, 1), "use_curriculum": False}
MOUNTAIN = [  # name, from, to, (HARD, FOCUS, LIGHT)
    ("warmup", 0.0, 0.15, (1, 2, 3)),
    ("ascent", 0.15, 0.35, (2, 3, 1)),
    ("peak", 0.35, 0.65, (5, 2, 0)),
    ("descent", 0.65, 0.85, (2, 3, 1)),
    ("consolidate", 0.85, 1.0, (1, 2, 3)),
]


def sorts(values: dict[str, Any]) -> list[tuple[str, type]]:
    """Names with the types of their values: 1 == True, so equal values are not yet equal settings."""
    return [(name, type(value)) for name, value in values.items()]


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_arguments_come_in_the_described_order_with_the_described_defaults(function: Any) -> None:
    found = inspect.signature(function).parameters
    positional = {n: p.default for n, p in found.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD}
    described = SIGNATURES[function]
    assert list(positional)[: len(described)] == list(described)
    assert {name: positional[name] for name in described} == described
    later = [p for name, p in found.items() if name not in described]
    assert all(p.default is not REQUIRED for p in later)  # what came later never has to be given


def test_the_report_can_be_asked_for_without_arguments() -> None:
    inspect.signature(GEKOTrainer.get_efficiency_report).bind(None)


@pytest.mark.parametrize("settings", DEFAULTS)
def test_settings_have_the_described_names_order_and_defaults(settings: type) -> None:
    described = DEFAULTS[settings]
    present = {field.name: field.default for field in dataclasses.fields(settings)}
    found = {name: default for name, default in present.items() if name in described}
    expected = {name: MEASURED_BETTER.get(name, value) for name, value in described.items()}
    assert list(found) == list(described) and found == expected and sorts(found) == sorts(expected)
    parameters = inspect.signature(settings).parameters.values()
    positional = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional[: len(described)] == list(described)


def test_the_described_rule_is_one_call_away_and_recommended_is_the_default() -> None:
    seed = dataclasses.asdict(GEKOConfig.seed())
    assert {name: seed[name] for name in DEFAULTS[GEKOConfig]} == DEFAULTS[GEKOConfig]
    assert GEKOConfig() == GEKO_RECOMMENDED
    assert {name: getattr(GEKO_RECOMMENDED, name) for name in MEASURED_BETTER} == MEASURED_BETTER


@pytest.mark.parametrize(
    ("preset", "freeze_confidence", "weights"),
    [
        (GEKO_AGGRESSIVE, 0.90, (5, 2, 0)),
        (GEKO_BALANCED, 0.85, (3, 2, 1)),
        (GEKO_CONSERVATIVE, 0.80, (2, 2, 1)),
    ],
)
def test_presets_differ_from_the_default_in_the_two_described_numbers_only(
    preset: GEKOConfig, freeze_confidence: float, weights: tuple[int, int, int]
) -> None:
    changed = dataclasses.replace(GEKOConfig(), freeze_confidence=freeze_confidence, bucket_weights=weights)
    assert preset == changed


def test_the_buckets_are_the_four_described_ones_and_unseen() -> None:
    numbers = {"FREEZE": 0, "LIGHT": 1, "FOCUS": 2, "HARD": 3, "UNSEEN": 4}  # on disk, so they must never change
    assert {bucket.name: int(bucket) for bucket in Bucket} == numbers
    fields = [field.name for field in dataclasses.fields(BucketCounts)]
    assert fields == [bucket.name.lower() for bucket in Bucket]
    assert BucketCounts(freeze=1, light=2, focus=3, hard=4, unseen=5).total == 15


def test_the_mountain_has_the_five_described_phases() -> None:
    curriculum = MountainCurriculum()
    assert [(p.name, p.end, p.weights) for p in curriculum.phases] == [(n, to, w) for n, _, to, w in MOUNTAIN]
    for name, start, end, weights in MOUNTAIN:
        for progress in (start, (start + end) / 2, end - 1e-9):
            phase = curriculum.phase_at(progress)
            assert (phase.name, phase.weights) == (name, weights)


def test_every_described_name_is_exported_at_the_door() -> None:
    described = {
        *("GEKOTrainer", "GEKOTrainingArgs", "GEKOConfig", "Bucket", "BucketCounts", "MountainCurriculum"),
        *("GEKO_AGGRESSIVE", "GEKO_BALANCED", "GEKO_CONSERVATIVE", "apply_lora", "is_peft_available"),
    }
    assert described <= set(geko_engine.__all__)


class Rows(Dataset):
    """Dicts with tensors, as the description asks for."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.data = tokenise(sum_rows(count, seed), PromptCompletion("prompt", "completion"), character_tokenizer(), 64)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(value) for name, value in self.data[index].items()}


@pytest.fixture(autouse=True)
def here(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The examples write to ./geko_output."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def quick_start(compile_model: bool) -> GEKOTrainer:
    """The example of the quick start, up to the report."""
    model, tokenizer = small_llama(), character_tokenizer()
    train_dataset, eval_dataset = Rows(128), Rows(16, seed=9)

    def your_correctness_fn(outputs: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        assert outputs.logits.shape[:2] == batch["input_ids"].shape
        return batch["input_ids"][:, 0] == tokenizer.convert_tokens_to_ids("s")  # the rows that begin with "say"

    args = GEKOTrainingArgs(
        output_dir="./geko_output",
        num_epochs=3,
        batch_size=16,
        learning_rate=3e-5,
        gradient_accumulation_steps=4,
        bf16=True,
        gradient_checkpointing=True,
        compile_model=compile_model,
    )
    config = GEKOConfig(
        prune_frozen_after=2,
    )
    trainer = GEKOTrainer(
        model=model,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        tokenizer=tokenizer,
        config=config,
        args=args,
        compute_correctness=your_correctness_fn,
    )
    trainer.train()
    print(trainer.get_efficiency_report())
    return trainer


COMPILED = pytest.param(True, marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")])  # the compiler's own


@pytest.mark.parametrize("compile_model", [False, COMPILED])
def test_the_quick_start(compile_model: bool, here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = quick_start(compile_model)
    printed = capsys.readouterr()
    report = trainer.get_efficiency_report()
    assert printed.out.strip() == str(report)
    assert (report["end"], report["steps"], report["epochs_done"]) == ("complete", 6, 3)  # effective batch 64 of 128
    assert trainer.engine.precision == "bf16" and all(p.dtype == torch.float32 for p in trainer.model.parameters())
    met = trainer.states.seen > 0  # the others were left out, as samples like them are right
    assert (
        trainer.states.correct[met].tolist() == np.tile([1, 0], 64)[met].tolist()
    )  # the own function won: "say" is right
    assert report["eval_loss_before"] is not None and report["eval_loss_after"] < report["eval_loss_before"]
    assert trainer.get_pruned_count() == report["pruned"] == 0
    assert "torch.compile     : " + ("ON" if compile_model else "OFF") in printed.err
    assert "Grad checkpointing: ON" in printed.err and "Precision         : BF16" in printed.err
    assert [path.name for path in (here / "geko_output").iterdir()] == ["checkpoint-6"]


def test_the_lora_example_prints_the_counts_and_trains_the_adapters_only(capsys: pytest.CaptureFixture[str]) -> None:
    from peft import LoraConfig, TaskType

    assert is_peft_available()
    model, dataset, args = small_llama(), Rows(32), GEKOTrainingArgs(num_epochs=1, learning_rate=1e-2, warmup_steps=0)
    base, before = sum(p.numel() for p in model.parameters()), model.model.embed_tokens.weight.detach().clone()
    lora_config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=16,
        lora_alpha=32,
        target_modules=["q_proj", "v_proj"],
        lora_dropout=0.05,
    )
    trainer = GEKOTrainer(
        model=model,
        train_dataset=dataset,
        lora_config=lora_config,
        args=args,
    )
    adapters = 2 * 2 * 16 * (32 + 32)  # layers, targets, rank, inputs and outputs
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert lines[lines.index("[GEKO] LoRA applied") :][:4] == [
        "[GEKO] LoRA applied",
        f"Trainable params : {adapters:,} ({100 * adapters / (base + adapters):.2f}%)",
        f"Total params : {base + adapters:,}",
        f"Frozen params : {base:,}",
    ]
    trainer.train()
    assert torch.equal(model.model.embed_tokens.weight, before)
    moved = [n for n, p in trainer.model.named_parameters() if "lora_B" in n and p.abs().sum() > 0]
    assert len(moved) == 4  # B begins at zero


def test_lora_can_be_applied_without_a_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    from peft import LoraConfig

    model = small_gpt2()
    adapted = apply_lora(model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trainable == 2 * 2 * (32 + 96)  # layers, rank, inputs and outputs
    assert f"Trainable params : {trainable:,} (" in capsys.readouterr().out


def test_the_resume_example_picks_up_with_all_sample_states() -> None:
    dataset, args = Rows(48), GEKOTrainingArgs(num_epochs=2, batch_size=16, learning_rate=5e-3, save_steps=4)
    first = GEKOTrainer(model=small_llama(), train_dataset=dataset, args=args)
    first.train()
    model, passes = small_llama(), []
    model.register_forward_hook(lambda *_: passes.append(1))

    trainer = GEKOTrainer(model=model, train_dataset=dataset, args=args)
    trainer.load_checkpoint("./geko_output/checkpoint-4")
    assert trainer.progress.step == 4 and int(trainer.states.seen.sum()) == 4 * 16
    trainer.train()
    assert len(passes) == 2 + 2 and trainer.progress.step == 6  # two compare the model's own loss with GEKO's
    assert trainer.states.seen.tolist() == first.states.seen.tolist()
    for (name, resumed), unbroken in zip(model.named_parameters(), first.model.parameters(), strict=True):
        assert torch.equal(resumed, unbroken), name


def test_a_saved_checkpoint_holds_the_weights_and_the_record(here: Any) -> None:
    trainer = GEKOTrainer(small_llama(), Rows(16), args=GEKOTrainingArgs(num_epochs=1, save_at_end=False))
    trainer.train()
    trainer.save_checkpoint(str(here / "kept"))
    weights, record = load_file(here / "kept" / "weights.safetensors"), load_file(here / "kept" / "policy.safetensors")
    assert all(torch.equal(weights[name], p) for name, p in trainer.model.named_parameters())
    assert record["states.seen"].tolist() == [1] * 16 and not (here / "geko_output").exists()


def test_the_report_says_how_the_run_ended_whenever_it_is_asked_for() -> None:
    asked = iter(range(100))
    args = GEKOTrainingArgs(num_epochs=2, batch_size=8)
    trainer = GEKOTrainer(small_llama(), Rows(16), args=args, should_stop=lambda: next(asked) == 2)
    assert trainer.get_efficiency_report()["end"] == "running"
    assert trainer.train()["end"] == trainer.get_efficiency_report()["end"] == "stopped"
    assert trainer.train() == trainer.get_efficiency_report() and trainer.get_efficiency_report()["end"] == "complete"


class OnlyLoss(nn.Module):
    """A custom module whose output has nothing but one loss for the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(80))

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        kept = labels[labels != -100]
        return SimpleNamespace(loss=nn.functional.cross_entropy(self.scores.expand(len(kept), 80), kept))


def test_a_module_with_only_a_loss_trains_and_warns_once(capsys: pytest.CaptureFixture[str]) -> None:
    args = GEKOTrainingArgs(num_epochs=3, batch_size=8, learning_rate=0.1, warmup_steps=0, save_at_end=False)
    report = GEKOTrainer(OnlyLoss(), Rows(32), eval_dataset=Rows(16, seed=9), args=args).train()
    assert report["eval_loss_after"] < report["eval_loss_before"] - 0.5
    said = capsys.readouterr().err
    assert said.count("[GEKO] Warning: The model returns one loss for the whole batch") == 1
