"""Which layers get adapters, and what is refused before anything starts."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from torch import nn

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig, LoraSettings, ModelConfig
from geko_engine.exceptions import ConfigError
from geko_engine.models.lora import apply_lora, lora_config_for
from geko_engine.reporting.events import Event, PhaseChanged
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import small_gpt2, small_llama


def chosen(model: nn.Module, *targets: str) -> set[str]:
    """The layers with adapters, from the block on, when `targets` are asked for."""
    config = lora_config_for(LoraSettings(enabled=True, r=2, target_modules=list(targets)), model)
    apply_lora(model, config, lambda text: None)
    return {
        path.split(".lora_")[0].split(".0.")[-1]
        for path, _ in model.named_parameters()
        if "0." in path and ".lora_" in path
    }


def test_all_linear_is_every_linear_layer_but_the_output() -> None:
    assert chosen(small_gpt2(), "all-linear") == {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
    attention = {f"self_attn.{name}_proj" for name in "qkvo"}
    assert chosen(small_llama(), "all-linear") == attention | {f"mlp.{name}_proj" for name in ("gate", "up", "down")}


def test_a_family_that_is_not_in_the_table_gets_them_on_every_linear_layer() -> None:
    model = small_llama()
    model.config.model_type = "newer-than-this"
    assert len(chosen(model)) == 7


def test_a_name_stands_for_every_layer_that_ends_with_it_and_a_path_narrows_it() -> None:
    assert chosen(small_gpt2(), "c_proj") == {"attn.c_proj", "mlp.c_proj"}
    assert chosen(small_gpt2(), "attn.c_proj") == {"attn.c_proj"}


WRONG_TARGETS = {
    "no such name": ("query", "no layers named query. Its linear layers: down_proj, gate_proj, k_proj, lm_head, "),
    "part of a name": ("proj", "no layers named proj"),
    "another family's": ("c_attn", "no layers named c_attn"),
    "a block": ("self_attn", "no layers named self_attn"),
    "a path that is none": ("mlp.q_proj", r"no layers named mlp\.q_proj"),
}


@pytest.mark.parametrize("case", WRONG_TARGETS)
def test_a_target_that_is_no_layer_is_refused_with_those_that_are(case: str) -> None:
    name, message = WRONG_TARGETS[case]
    with pytest.raises(ConfigError, match=message) as caught:
        lora_config_for(LoraSettings(enabled=True, target_modules=["q_proj", name]), small_llama())
    assert caught.value.field == "lora.target_modules" and "q_proj, up_proj, v_proj" in str(caught.value)
    with pytest.raises(ConfigError, match=message):
        apply_lora(small_llama(), LoraConfig(target_modules=["q_proj", name]))


@pytest.mark.parametrize("targets", ["nothing_like_this", ["input_layernorm"]])
def test_what_peft_refuses_is_told_at_the_same_field(targets: str | list[str]) -> None:
    with pytest.raises(ConfigError, match=r"LoRA cannot be applied \(.*Its|linear layers: down_proj") as caught:
        apply_lora(small_llama(), LoraConfig(target_modules=targets))
    assert caught.value.field == "lora.target_modules"


def test_a_run_with_a_wrong_target_ends_before_the_rows_are_read(
    tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    config = RunConfig(
        ModelConfig(str(model_folder)),
        DataConfig(str(data_file)),
        LoraSettings(enabled=True, target_modules=["query"]),
        output_dir=str(tmp_path / "runs"),
    )
    seen: list[Event] = []
    report = run(RunFolder.create(config), on_event=seen.append)
    assert report["end"] == "failed" and "no layers named query" in report["reason"]
    assert seen[-1].field == "lora.target_modules"  # type: ignore[attr-defined]
    assert "tokenising" not in [event.phase for event in seen if isinstance(event, PhaseChanged)]


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # as Python itself sees a package that is not there
    with pytest.raises(ConfigError, match=r'install it with `pip install "geko-finetune\[peft\]"`') as caught:
        lora_config_for(LoraSettings(enabled=True), small_llama())
    assert caught.value.field == "lora.enabled"


def test_what_nobody_can_act_on_is_not_logged() -> None:
    importlib.import_module("geko_engine.models")  # before bitsandbytes, which misses kernels that nothing here uses
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")

    def passes(text: str) -> bool:
        return bool(logger.filter(logger.makeRecord(logger.name, logging.WARNING, "", 0, text, (), None)))

    assert not passes("Failed to load CPU gemm_4bit_forward from kernels-community: %s") and passes("Something else")


def test_whole_layers_are_trained_in_float32_beside_the_adapters() -> None:
    model = small_llama(tie_word_embeddings=False).to(torch.bfloat16)
    settings = LoraSettings(enabled=True, r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    adapted = apply_lora(model, lora_config_for(settings, model), lambda text: None)
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert sum("lm_head" in name for name in trained) == 1


@pytest.mark.parametrize(("name", "message"), [("query", "no layers named query"), ("lm_head", "shares its weights")])
def test_a_whole_layer_that_cannot_be_trained_is_refused_at_its_field(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        lora_config_for(LoraSettings(enabled=True, modules_to_save=[name]), small_llama())
    assert caught.value.field == "lora.modules_to_save"
