"""Adapters on weights in 4 and 8 bits: stopped, resumed, evaluated, counted, and what is refused. On the CPU."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from peft import LoraConfig

from geko_engine import GEKOTrainer, GEKOTrainingArgs
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig, LoraSettings, ModelConfig
from geko_engine.exceptions import CheckpointError, ConfigError
from geko_engine.models.loading import load_model_and_tokenizer
from geko_engine.models.lora import apply_lora, lora_config_for
from geko_engine.models.quantization import count_parameters, prepare_quantized_for_training
from geko_engine.reporting.events import Event, Message, RunStarted
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import character_tokenizer, small_llama
from tests.engine.families import save_family
from tests.engine.models.test_families import logits, samples, trained
from tests.engine.training.test_trainer import assert_same_weights, weights

LORA = LoraSettings(enabled=True, r=4, dropout=0.1)


@pytest.fixture
def base(tmp_path: Path) -> ModelConfig:
    """Wide enough (64) for the 4-bit kernels of every CPU."""
    folder = tmp_path / "base"
    small_llama(hidden_size=64).save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return ModelConfig(str(folder), quantization="4bit")


def trainer_of(config: ModelConfig, folder: Path, args: dict[str, Any], **options: Any) -> GEKOTrainer:
    """Six steps over six samples, evaluated at first, in the middle and at the end."""
    values = {"num_epochs": 2, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 0, "eval_steps": 2} | args
    settings = GEKOTrainingArgs(output_dir=str(folder), save_steps=0, **values)
    model, tokenizer = load_model_and_tokenizer(config, settings)
    return GEKOTrainer(
        model,
        samples(),
        tokenizer,
        samples()[:2],
        args=settings,
        lora_config=lora_config_for(LORA, model),
        on_event=lambda event: None,
        **options,
    )


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "4 bits": ("4bit", {}),
    "8 bits": ("8bit", {}),
    "4 bits, bf16": ("4bit", {"bf16": True}),
    "8 bits, bf16": ("8bit", {"bf16": True}),
    "4 bits, gradient checkpointing": ("4bit", {"gradient_checkpointing": True}),
    "8 bits, gradient checkpointing": ("8bit", {"gradient_checkpointing": True}),
    "4 bits, 8-bit optimizer": ("4bit", {"use_8bit_optimizer": True}),
    "4 bits, accumulation": ("4bit", {"batch_size": 1, "gradient_accumulation_steps": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_stopped_and_resumed_it_ends_as_if_unbroken(tmp_path: Path, base: ModelConfig, case: str) -> None:
    bits, args = CASES[case]
    config = dataclasses.replace(base, quantization=bits)
    whole = trainer_of(config, tmp_path / "whole", args)
    first = weights(whole)
    assert whole.train()["steps"] == 6
    moved = [name for name, before in first.items() if not torch.equal(before, weights(whole)[name])]
    assert sorted(moved) == sorted(name for name in first if "lora_" in name)
    asked = iter(range(10**9))
    part = trainer_of(config, tmp_path / "part", args, should_stop=lambda: next(asked) >= 8)
    assert part.train()["end"] == "stopped" and 0 < part.progress.step < 6
    (checkpoint,) = (tmp_path / "part").glob("checkpoint-*")
    resumed = trainer_of(config, tmp_path / "part", args)
    resumed.load_checkpoint(checkpoint)
    assert resumed.train()["steps"] == 6
    assert_same_weights(weights(whole), weights(resumed))


def test_a_checkpoint_on_other_bits_is_refused(tmp_path: Path, base: ModelConfig) -> None:
    trainer_of(base, tmp_path, {}).save_checkpoint(tmp_path / "c")
    for bits in ("none", "8bit"):
        with pytest.raises(CheckpointError, match="frozen_weights is"):
            trainer_of(dataclasses.replace(base, quantization=bits), tmp_path, {}).load_checkpoint(tmp_path / "c")


def test_a_run_counts_true_parameters_and_saves_only_the_adapter(
    tmp_path: Path, base: ModelConfig, data_file: Path
) -> None:
    config = RunConfig(
        base,
        DataConfig(str(data_file), sample_count=8),
        LORA,
        GEKOTrainingArgs(num_epochs=1, batch_size=4),
        output_dir=str(tmp_path / "runs"),
    )
    seen: list[Event] = []
    folder = RunFolder.create(config)
    assert run(folder, on_event=seen.append)["end"] == "complete"
    (started,) = (event for event in seen if isinstance(event, RunStarted))
    adapters = 2 * 2 * 4 * (64 + 64)  # layers x places x rank x (in + out)
    assert started.trainable_parameters == adapters
    assert started.parameters == adapters + count_parameters(small_llama(hidden_size=64))[0]
    saved = {path.name for path in folder.model_path.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= saved
    assert "model.safetensors" not in saved


def test_files_that_are_in_4_bits_already_stay_so(tmp_path: Path, base: ModelConfig) -> None:
    model, tokenizer = load_model_and_tokenizer(base)
    model.save_pretrained(tmp_path / "small"), tokenizer.save_pretrained(tmp_path / "small")
    for bits in ("none", "8bit"):
        again, _ = load_model_and_tokenizer(ModelConfig(str(tmp_path / "small"), quantization=bits))
        assert again.is_loaded_in_4bit and torch.equal(logits(again), logits(model))
    with pytest.raises(ConfigError, match="switch on LoRA"):
        lora_config_for(LoraSettings(), again)
    trained(again, tokenizer, tmp_path, lora_config_for(LORA, again))


def test_quantized_weights_need_lora(base: ModelConfig) -> None:
    with pytest.raises(ConfigError, match="cannot be trained directly: switch on LoRA") as caught:
        RunConfig.from_dict({"model": {"quantization": "8bit"}})
    assert caught.value.field == "model.quantization"
    assert RunConfig.from_dict({"model": {"quantization": "8bit"}, "lora": {"enabled": True}}).lora.enabled
    model, tokenizer = load_model_and_tokenizer(base)
    with pytest.raises(ConfigError, match="cannot be trained directly") as caught:
        GEKOTrainer(model, samples(), tokenizer)
    assert caught.value.field == "model.quantization"


def test_other_bits_are_refused_with_those_that_are(base: ModelConfig) -> None:
    with pytest.raises(ConfigError, match="'5bit' is not one of none, 4bit, 8bit") as caught:
        load_model_and_tokenizer(dataclasses.replace(base, quantization="5bit"))
    assert caught.value.field == "model.quantization"


def test_without_bitsandbytes_it_says_what_to_install(base: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as Python itself sees a package that is not there
    with pytest.raises(
        ConfigError, match=r'4bit need bitsandbytes: install it with `pip install "geko-finetune\[bnb\]"`'
    ) as caught:
        load_model_and_tokenizer(base)
    assert caught.value.field == "model.quantization"


def test_files_in_4_bits_need_bitsandbytes_too(
    tmp_path: Path, base: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_model_and_tokenizer(base)
    model.save_pretrained(tmp_path / "small"), tokenizer.save_pretrained(tmp_path / "small")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        ConfigError, match=r'install it with `pip install "geko-finetune\[bnb\]"`, or give the original model'
    ):
        load_model_and_tokenizer(ModelConfig(str(tmp_path / "small")))


def test_a_mixture_says_that_its_experts_are_not_quantized(tmp_path: Path) -> None:
    model, tokenizer = load_model_and_tokenizer(
        dataclasses.replace(save_family("Mixtral", tmp_path / "base"), quantization="4bit")
    )
    said: list[Any] = []
    trained(model, tokenizer, tmp_path, lora_config_for(LORA, model), on_event=said.append)
    texts = [event.text for event in said if isinstance(event, Message) and event.level == "warning"]
    assert sum("Only 10 % of the weights could be quantized" in text for text in texts) == 1


@pytest.mark.skipif(not has_avx512bf16(), reason="only CPUs with bfloat16 instructions repack")
def test_weights_that_the_cpu_repacked_are_refused(base: ModelConfig) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model = AutoModelForCausalLM.from_pretrained(base.name, quantization_config=BitsAndBytesConfig(load_in_4bit=True))
    logits(model)  # an evaluation, by transformers alone
    with pytest.raises(ConfigError, match="load the model again and train it before"):
        prepare_quantized_for_training(model)


def test_adapters_of_ones_own_are_welcome(tmp_path: Path, base: ModelConfig) -> None:
    model, tokenizer = load_model_and_tokenizer(base)
    own = apply_lora(model, LoraConfig(r=2, target_modules=["o_proj"], task_type="CAUSAL_LM"), lambda text: None)
    trained(own, tokenizer, tmp_path)
