"""Trained, saved and asked by plain transformers: the model gives the answer and stops by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from geko_engine.config.run_config import RunConfig
from geko_engine.reporting.events import Event, Message
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import small_llama
from tests.engine.data.template_families import tokenizer_of

ASKED = {
    "what is one plus one?": "two.",
    "two plus two": "is four",
    "the capital of France?": "Paris",
    "Good morning!": "How can I help?",
}
FAMILIES = ("llama2", "llama3", "gemma", "phi3", "qwen2", "qwen2 base", "qwen3", "r1", "masked", "no end", "gpt2")
ROOM = 40  # tokens: no answer needs them


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_model_answers_and_stops(tmp_path: Path, family: str) -> None:
    saved, _ = trained(tmp_path, family)
    tokenizer = AutoTokenizer.from_pretrained(saved)
    model = AutoModelForCausalLM.from_pretrained(saved).eval()
    for question, answer in ASKED.items():
        turns = [{"role": "user", "content": question}]
        given = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            (ids,) = model.generate(**given, max_new_tokens=ROOM, do_sample=False)
        written = ids[given["input_ids"].shape[1] :]
        assert len(written) < ROOM, tokenizer.decode(written)
        said = tokenizer.decode(written, skip_special_tokens=True)
        assert said.split("</think>")[-1].strip() == answer


def test_an_adapter_says_where_its_answers_end(tmp_path: Path) -> None:
    saved, seen = trained(tmp_path, "qwen2 base", lora={"enabled": True, "r": 2}, training={"num_epochs": 1})
    end = AutoTokenizer.from_pretrained(saved).eos_token_id
    assert end in GenerationConfig.from_pretrained(saved).eos_token_id
    (said,) = [event.text for event in seen if isinstance(event, Message) and "eos_token_id" in event.text]
    assert (
        f"<|im_end|>, where generation with the base model's own settings does not stop: pass eos_token_id={end}"
        in said
    )


def test_an_adapter_of_dora_says_what_loads_all_of_it(tmp_path: Path) -> None:
    settings = {"enabled": True, "r": 2, "use_dora": True}
    saved, seen = trained(tmp_path, "qwen2", lora=settings, training={"num_epochs": 1})
    assert any("AutoPeftModelForCausalLM" in event.text for event in seen if isinstance(event, Message))
    whole = AutoPeftModelForCausalLM.from_pretrained(saved).state_dict()
    lengths = {n: t for n, t in load_file(saved / "adapter_model.safetensors").items() if "magnitude" in n}
    assert lengths
    for name, tensor in lengths.items():
        assert torch.equal(whole[f"{name}.default.weight"], tensor)


def trained(tmp_path: Path, family: str, **changes: Any) -> tuple[Path, list[Event]]:
    """The folder of a model that has learned the four rows in sixty epochs, and the events of its run."""
    tokenizer = tokenizer_of(family)
    base, data = tmp_path / "base", tmp_path / "rows.jsonl"
    end = tokenizer.eos_token_id
    small_llama(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, eos_token_id=end).save_pretrained(
        base
    )
    tokenizer.save_pretrained(base)
    rows = [{"messages": [turn("user", question), turn("assistant", answer)]} for question, answer in ASKED.items()]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values: dict[str, Any] = {
        "model": {"name": str(base)},
        "data": {"train": str(data), "max_length": 128},
        "training": {"num_epochs": 60, "batch_size": 4, "learning_rate": 5e-3, "save_at_end": False},
        "geko": {"enabled": False},
        "output_dir": str(tmp_path / "runs"),
    }
    for section, given in changes.items():
        values[section] = values.get(section, {}) | given
    folder, seen = RunFolder.create(RunConfig.from_dict(values)), []
    report = run(folder, on_event=seen.append)
    assert report["end"] == "complete", report["reason"]
    return folder.model_path, seen


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
