"""In which precision weights are held, trained and saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import ConfigError
from geko_engine.models.loading import load_model_and_tokenizer
from geko_engine.models.lora import apply_lora, lora_config_for
from geko_engine.models.precision import weights_dtype
from geko_engine.preflight.memory_estimate import footprint
from geko_engine.reporting.events import Event, Message
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import character_tokenizer, small_llama

LORA = {"enabled": True, "r": 2, "target_modules": ["q_proj"]}
HELD: dict[str, tuple[dict[str, Any], torch.dtype]] = {
    "full": ({}, torch.float32),
    "full in bf16": ({"training": {"bf16": True}}, torch.float32),
    "pure bf16": ({"model": {"dtype": "bfloat16"}, "training": {"bf16": True}}, torch.bfloat16),
    "LoRA": ({"lora": LORA}, torch.float32),
    "LoRA in bf16": ({"lora": LORA, "training": {"bf16": True}}, torch.bfloat16),
    "LoRA in fp16": ({"lora": LORA, "training": {"fp16": True}}, torch.float16),
    "LoRA in bf16 over float32": (
        {"lora": LORA, "training": {"bf16": True}, "model": {"dtype": "float32"}},
        torch.float32,
    ),
    "QLoRA": ({"lora": LORA, "training": {"bf16": True}, "model": {"quantization": "4bit"}}, torch.float32),
}


@pytest.fixture
def half_folder(tmp_path: Path) -> Path:
    """A model whose files are bfloat16."""
    folder = tmp_path / "half"
    small_llama(use_cache=True).to(torch.bfloat16).save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return folder


def one_run(tmp_path: Path, base: Path | str, data: Path, **changes: Any) -> tuple[RunFolder, list[Event]]:
    values: dict[str, Any] = {
        "model": {"name": str(base)},
        "data": {"train": str(data)},
        "training": {"num_epochs": 1, "save_at_end": False},
        "output_dir": str(tmp_path / "runs"),
    }
    for section, given in changes.items():
        values[section] = values.get(section, {}) | given
    folder, seen = RunFolder.create(RunConfig.from_dict(values)), []
    assert run(folder, on_event=seen.append)["end"] == "complete", seen[-1]
    return folder, seen


@pytest.mark.parametrize("case", HELD)
def test_frozen_weights_are_held_in_the_precision_of_the_training(case: str) -> None:
    values, expected = HELD[case]
    assert weights_dtype(RunConfig.from_dict(values)) == expected


def test_adapters_are_float32_on_a_half_precision_base(half_folder: Path) -> None:
    config = RunConfig.from_dict({"model": {"name": str(half_folder)}, "lora": LORA, "training": {"bf16": True}})
    model, _ = load_model_and_tokenizer(config.model, config.training, dtype=weights_dtype(config))
    adapted = apply_lora(model, lora_config_for(config.lora, model), lambda text: None)
    held = {parameter.requires_grad: parameter.dtype for parameter in adapted.parameters()}
    assert held == {True: torch.float32, False: torch.bfloat16}


def test_float16_weights_are_not_trained_directly() -> None:
    with pytest.raises(ConfigError, match="float16 weights cannot be trained directly") as caught:
        RunConfig.from_dict({"model": {"dtype": "float16"}})
    assert caught.value.field == "model.dtype"


def test_a_full_model_is_saved_as_its_files_were_and_says_so(
    tmp_path: Path, half_folder: Path, data_file: Path
) -> None:
    folder, seen = one_run(tmp_path, half_folder, data_file)
    before, after = (load_file(path / "model.safetensors") for path in (half_folder, folder.model_path))
    assert after.keys() == before.keys()  # tied weights are written once
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert any(not torch.equal(before[name], after[name]) for name in before)
    settings = json.loads((folder.model_path / "config.json").read_text())
    assert (settings["dtype"], settings["use_cache"]) == ("bfloat16", True)
    assert "The weights are saved in bfloat16, like those of the base model." in [
        event.text for event in seen if isinstance(event, Message)
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_named_precision_is_the_one_that_is_saved(
    tmp_path: Path, half_folder: Path, data_file: Path, dtype: str
) -> None:
    folder, _ = one_run(tmp_path, half_folder, data_file, model={"dtype": dtype})
    tensors = load_file(folder.model_path / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}


def test_the_estimate_follows_the_precision(half_folder: Path) -> None:
    def parts(**values: Any) -> dict[str, int]:
        config = RunConfig.from_dict(values)
        settings = AutoModelForCausalLM.from_pretrained(half_folder).config
        return footprint(config, settings, 2, 32, 32).parts()

    base = sum(parameter.numel() for parameter in small_llama().parameters())
    full, pure = parts(), parts(model={"dtype": "bfloat16"})
    assert (full["weights"], full["gradients"], full["optimizer"]) == (4 * base, 4 * base, 8 * base)
    assert (pure["weights"], pure["gradients"], pure["optimizer"]) == (2 * base, 2 * base, 4 * base)
    adapters = 2 * 2 * (32 + 32)  # two layers, rank 2
    half = parts(lora=LORA, training={"bf16": True})
    assert (half["weights"], half["gradients"]) == (2 * base + 4 * adapters, 4 * adapters)


def test_an_adapter_finds_its_base_from_any_folder(
    tmp_path: Path, half_folder: Path, data_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(half_folder.parent)
    folder, _ = one_run(tmp_path, f"./{half_folder.name}", data_file, lora=LORA)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    model = AutoModelForCausalLM.from_pretrained(folder.model_path)
    assert sum("lora_" in name for name, _ in model.named_parameters()) == 4


@pytest.mark.parametrize(("target", "other"), [("lm_head", "embed_tokens"), ("embed_tokens", "lm_head")])
def test_an_adapter_on_shared_weights_is_refused(target: str, other: str) -> None:
    settings = RunConfig.from_dict({"lora": LORA | {"target_modules": ["q_proj", target]}}).lora
    with pytest.raises(ConfigError, match=f"{target} shares its weights with .*{other}.*leave it out") as caught:
        lora_config_for(settings, small_llama())
    assert caught.value.field == "lora.target_modules"
    assert lora_config_for(settings, small_llama(tie_word_embeddings=False)) is not None
