"""Runs that start from the adapter of another run: with LoRA it is trained on, without LoRA it is merged first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from geko_engine.config.sections import ModelConfig
from geko_engine.exceptions import ModelError
from geko_engine.export import merge
from geko_engine.inference.run_models import ModelChoice, RunModels
from geko_engine.models.adapters import adapter_at
from geko_engine.models.loading import load_model_and_tokenizer
from geko_engine.runs.folder import RunFolder
from tests.engine.export.conftest import trained, write_base
from tests.engine.export.test_merging import logits

# What is there at the end was there at the start, but for the last digits.
HARDLY = {"num_epochs": 3, "learning_rate": 1e-6, "save_at_end": True}


@pytest.fixture
def continued(finished: RunFolder, tmp_path: Path) -> RunFolder:
    rows = Path(finished.config().data.train)
    return trained(tmp_path, finished.model_path, rows, lora={"r": 2, "alpha": 2}, training=HARDLY)


def messages(run: RunFolder) -> list[str]:
    return [event["text"] for _, event in run.events() if event["type"] == "Message"]


def adapter_of(run: RunFolder) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    values = json.loads((run.model_path / "adapter_config.json").read_text(encoding="utf-8"))
    return load_file(run.model_path / "adapter_model.safetensors"), values


def test_with_lora_the_adapter_is_trained_on(finished: RunFolder, continued: RunFolder) -> None:
    (before, settings), (after, now) = adapter_of(finished), adapter_of(continued)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(after[name], tensor) for name, tensor in before.items()), "it is trained"
    assert set(settings["target_modules"]) == set(now["target_modules"])  # a set, saved in any order
    same = ("r", "lora_alpha", "base_model_name_or_path")
    assert [settings[name] for name in same] == [now[name] for name in same]
    (said,) = [text for text in messages(continued) if "goes on with the adapter" in text]
    assert str(finished.model_path) in said and "have no effect" in said
    assert "rank 4, alpha 16, layers down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj." in said


def test_it_is_asked_and_merged_like_any_other(finished: RunFolder, continued: RunFolder, tmp_path: Path) -> None:
    first = logits(AutoPeftModelForCausalLM.from_pretrained(finished.model_path))
    models, asked = RunModels(), ModelChoice.of(continued)
    checkpoint = continued.latest_checkpoint()
    assert checkpoint is not None
    for side, choice in (
        (models.base, asked),  # what the run started from
        (models.tuned, asked),
        (models.tuned, ModelChoice.of(continued, checkpoint.name)),
    ):
        with side(choice) as model:
            torch.testing.assert_close(logits(model), first, rtol=1e-3, atol=1e-3)
    made = merge(continued, tmp_path / "merged", prompts=1)
    assert made.equal == 1
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(made.place)), first, rtol=1e-3, atol=1e-3)


def test_without_lora_it_is_merged_and_all_weights_are_trained(finished: RunFolder, tmp_path: Path) -> None:
    rows = Path(finished.config().data.train)
    run = trained(tmp_path, finished.model_path, rows, lora={"enabled": False}, training=HARDLY)
    whole = AutoModelForCausalLM.from_pretrained(run.model_path)
    first = logits(AutoPeftModelForCausalLM.from_pretrained(finished.model_path))
    torch.testing.assert_close(logits(whole), first, rtol=1e-3, atol=1e-3)
    assert any("is merged into its base model" in text and "because LoRA is off" in text for text in messages(run))


def test_an_adapter_without_a_base_model_that_can_be_found_is_refused(finished: RunFolder, tmp_path: Path) -> None:
    def named(name: str, **changes: Any) -> ModelConfig:
        values = json.loads((finished.model_path / "adapter_config.json").read_text(encoding="utf-8")) | changes
        (tmp_path / "adapter_config.json").write_text(json.dumps(values), encoding="utf-8")
        return ModelConfig(name)

    with pytest.raises(
        ModelError, match=r"'ada/x' names a folder of another machine as its base model .* merged model"
    ):
        adapter_at(tmp_path, named("ada/x"))
    with pytest.raises(ModelError, match=r"is no LoRA adapter with a base model \(IA3\): give the base model"):
        adapter_at(tmp_path, named(str(tmp_path), peft_type="IA3"))
    with pytest.raises(ModelError, match=r"is of another adapter \(.*\): merge that one first"):
        adapter_at(tmp_path, named(str(tmp_path), base_model_name_or_path=str(finished.model_path)))
    assert adapter_at(tmp_path / "nothing", ModelConfig("ada/x")) is None
    other = trained(tmp_path, write_base(tmp_path / "other", hidden_size=64), Path(finished.config().data.train))
    named("", base_model_name_or_path=str(tmp_path / "other"))
    shutil.copy(tmp_path / "adapter_config.json", other.model_path)
    shutil.copy(finished.model_path / "adapter_model.safetensors", other.model_path)
    with pytest.raises(ModelError, match=r"does not fit its base model .*: give the complete model"):
        load_model_and_tokenizer(ModelConfig(str(other.model_path)))
