"""Adapters merged into their base model: the saved model alone gives what base and adapter gave."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from geko_engine.exceptions import ExportError, Stopped
from geko_engine.export import merge
from geko_engine.export.merging import whole_model
from geko_engine.export.proof import equality_sentence
from geko_engine.runs.folder import RunFolder
from tests.engine.export.conftest import trained, write_base, write_rows

IDS = torch.arange(3, 19)[None]
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what is it: (settings of the adapter, of the base model)
    "DoRA": ({"use_dora": True}, {}),
    "rsLoRA": ({"use_rslora": True}, {}),
    "a whole layer beside": ({"modules_to_save": ["lm_head"]}, {"tie_word_embeddings": False}),
    "transposed layers": ({}, {"gpt2": True}),
}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def copied(run: RunFolder, path: Path, *without: str) -> RunFolder:
    """A copy of a run that may be changed, without its exports."""
    return RunFolder(shutil.copytree(run.path, path, ignore=shutil.ignore_patterns("exports", *without)))


def test_the_merged_model_is_complete_and_answers_as_before(finished: RunFolder, tmp_path: Path) -> None:
    said: list[str] = []
    made = merge(finished, tmp_path / "merged", say=said.append)
    assert made.place == str(tmp_path / "merged")
    assert made.compared == made.equal == 4  # the run has four rows
    assert any("4 of 4 are the same" in sentence for sentence in made.sentences)
    adapted, merged = (
        kind.from_pretrained(path)
        for kind, path in ((AutoPeftModelForCausalLM, finished.model_path), (AutoModelForCausalLM, made.place))
    )
    with adapted.disable_adapter():
        base = logits(adapted)
    assert (logits(merged) - base).abs().max() > 0.1, "the adapter changes what the model says"
    torch.testing.assert_close(logits(merged), logits(adapted), rtol=1e-4, atol=1e-4)
    assert not list(Path(made.place).glob("adapter*"))
    assert any(text.startswith("Loading the base model") for text in said)


def test_tokenizer_template_and_end_are_saved_with_it(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2 base")  # learns an end that it did not have
    run = trained(tmp_path, base, write_rows(tmp_path / "rows.jsonl"), training={"num_epochs": 1})
    made = merge(run, prompts=0)
    assert made.place == str(run.exports_path / "merged") and made.compared == 0
    tokenizer = AutoTokenizer.from_pretrained(made.place)
    assert tokenizer.eos_token == "<|im_end|>" and "im_start" in tokenizer.chat_template
    assert tokenizer.eos_token_id in GenerationConfig.from_pretrained(made.place).eos_token_id
    with safe_open(Path(made.place) / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys(), "tied weights are saved once"  # noqa: SIM118


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_is_merged(kind: str, tmp_path: Path) -> None:
    lora, model = KINDS[kind]
    base = write_base(tmp_path / "base", **model)
    run = trained(tmp_path, base, write_rows(tmp_path / "rows.jsonl"), lora=lora)
    made = merge(run, prompts=1)
    assert (made.compared, made.equal) == (1, 1)
    adapted = AutoPeftModelForCausalLM.from_pretrained(run.model_path)
    merged = AutoModelForCausalLM.from_pretrained(made.place)
    torch.testing.assert_close(logits(merged), logits(adapted), rtol=1e-4, atol=1e-4)


def test_a_quantized_base_is_merged_unquantized_in_bfloat16(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = write_base(tmp_path / "base", hidden_size=64, intermediate_size=128)
    run = trained(tmp_path, base, write_rows(tmp_path / "rows.jsonl"), model={"quantization": "4bit"})
    made = merge(run, prompts=1)
    merged = AutoModelForCausalLM.from_pretrained(made.place)
    assert merged.dtype == torch.bfloat16 and not hasattr(merged.config, "quantization_config")
    assert any("held the base model in 4bit; it was merged unquantized" in sentence for sentence in made.sentences)
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    changed = {name for name, tensor in merged.state_dict().items() if not torch.equal(tensor, before[name].bfloat16())}
    assert changed and all("proj" in name for name in changed)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_precision_of_the_weights_can_be_chosen(dtype: str, finished: RunFolder, tmp_path: Path) -> None:
    made = merge(finished, tmp_path / "merged", dtype=dtype, prompts=0)
    tensors = load_file(Path(made.place) / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}
    assert AutoModelForCausalLM.from_pretrained(made.place).config.dtype == getattr(torch, dtype)


def test_answers_that_differ_are_counted_and_explained() -> None:
    sentence = equality_sentence(["a", "b", "c"], ["a", "x", "c"], "bfloat16")
    assert "2 of 3 are the same" in sentence and "rounded to bfloat16" in sentence


def test_a_merged_model_is_made_anew_only_when_the_adapter_is_newer(finished: RunFolder, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    first, made = whole_model(run, lambda text: None, lambda: False)
    assert made is not None and whole_model(run, lambda text: None, lambda: False) == (first, None)
    adapter = run.model_path / "adapter_model.safetensors"
    save_file(load_file(adapter), adapter)
    assert whole_model(run, lambda text: None, lambda: False)[1] is not None


def test_what_cannot_be_merged_is_refused(finished: RunFolder, finished_whole: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"trained all weights, so there is no adapter to merge: its model in .* complete"
    ):
        merge(finished_whole)
    with pytest.raises(ExportError, match=r"'float64' is not a precision of weights: give one of auto, bfloat16"):
        merge(finished, tmp_path / "new", dtype="float64")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(ExportError, match="is not an empty folder, and nothing in it is replaced"):
        merge(finished, tmp_path / "full")
    unsaved = copied(finished, tmp_path / "unsaved", "model")
    with pytest.raises(ExportError, match="has not saved a model yet: let it finish, or stop it"):
        merge(unsaved)
    with pytest.raises(Stopped):
        merge(finished, tmp_path / "stopped", should_stop=lambda: True)
    assert not (tmp_path / "stopped").exists()


def test_a_broken_adapter_is_refused_and_nothing_is_written(finished: RunFolder, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    adapter = run.model_path / "adapter_model.safetensors"
    tensors = load_file(adapter)
    save_file({name: torch.full_like(tensor, float("nan")) for name, tensor in tensors.items()}, adapter)
    with pytest.raises(ExportError, match=r"cannot be merged into its base model \(NaNs detected"):
        merge(run, prompts=0)
    assert not (run.exports_path / "merged").exists()
