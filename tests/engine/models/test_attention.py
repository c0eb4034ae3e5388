"""The attention that was asked for is the one that runs, or a sentence says why not; and a compiler is tried before it is used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from geko_engine.config.sections import ModelConfig
from geko_engine.exceptions import ConfigError
from geko_engine.models.attention import attention_of, attention_options, refused_attention
from geko_engine.models.loading import load_model_and_tokenizer
from geko_engine.models.precision import missing_for_compilation
from tests.engine.conftest import character_tokenizer, small_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    small_llama().save_pretrained(path)
    character_tokenizer().save_pretrained(path)
    return path


@pytest.mark.parametrize(("asked", "runs"), [("auto", "sdpa"), ("sdpa", "sdpa"), ("eager", "eager")])
def test_the_model_runs_on_the_attention_that_was_asked_for(asked: str, runs: str, folder: Path) -> None:
    model, _ = load_model_and_tokenizer(ModelConfig(str(folder), attn_implementation=asked))
    assert attention_of(model) == runs


@pytest.mark.parametrize("name", ["flash_attention_2", "flash_attention_3"])
def test_flash_attention_without_a_gpu_is_refused(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=rf"{name} needs a GPU.*set attn_implementation to sdpa") as refused:
        load_model_and_tokenizer(ModelConfig(str(folder), attn_implementation=name))
    assert refused.value.problems[0][0] == "model.attn_implementation"


def test_flash_attention_needs_its_package_and_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(attn_implementation="flash_attention_2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="needs the package flash_attn, which is not installed"):
        attention_options(config, half=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(ConfigError, match=r"computes in half precision only: switch on training\.bf16"):
        attention_options(config, half=False)
    assert attention_options(config, half=True) == {"attn_implementation": "flash_attention_2"}


def test_a_model_that_does_not_support_it_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "_supports_sdpa", False)
    with pytest.raises(ConfigError, match=r"does not support sdpa .LlamaForCausalLM does not support an attention"):
        load_model_and_tokenizer(ModelConfig(str(folder), attn_implementation="sdpa"))
    assert refused_attention(ValueError("something else"), ModelConfig(attn_implementation="sdpa")) is None


@pytest.mark.skipif(sys.platform == "win32", reason="cl is not tried")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "echo 'fatal error: Python.h: No such file' >&2; exit 1",
            "that works (%s: fatal error: Python.h: No such file)",
        ),
        ("exit 1", "that works (%s: it fails)"),
        ("exit 0", ""),
    ],
)
def test_a_compiler_is_tried(content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\n{content}\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CXX", str(compiler))
    found = missing_for_compilation()
    assert found == (f"a C++ compiler {said % compiler}" if said else "")


def test_on_a_gpu_it_is_a_c_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    assert missing_for_compilation() == f"a C compiler ({tmp_path / 'none'}), which is missing here"


def test_the_log_names_the_attention(folder: Path) -> None:
    from geko_engine.reporting.console import option

    assert option("attn_implementation", "sdpa") == ("Attention", "sdpa")
    bare: Any = torch.nn.Linear(1, 1)
    assert attention_of(bare) == ""
