"""Every family really trained: plain and with adapters, scored as it scores itself, saved, and loaded again."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from geko_engine import GEKOTrainer, GEKOTrainingArgs
from geko_engine.config.sections import LoraSettings, ModelConfig
from geko_engine.exceptions import ConfigError
from geko_engine.models.loading import load_model_and_tokenizer
from geko_engine.models.lora import lora_config_for
from geko_engine.reporting.events import Message
from tests.engine.conftest import character_tokenizer
from tests.engine.families import FAMILIES, save_family

PLAIN_LORA = LoraConfig(r=4, target_modules=["middle"])
LENGTHS = (24, 20, 17, 11, 7, 4)
pytestmark = pytest.mark.usefixtures("own_code_cache")
every_family = pytest.mark.parametrize("name", FAMILIES)


def samples(labels: bool = True) -> list[dict[str, Any]]:
    """Six samples of different lengths, the prompts of four of them no targets."""
    drawn = np.random.default_rng(0)
    items = [{"input_ids": drawn.integers(3, 73, length)} for length in LENGTHS]
    for item in items[:4] if labels else ():
        item["labels"] = np.where(np.arange(len(item["input_ids"])) < 3, -100, item["input_ids"])
    return items


def trained(model: nn.Module, tokenizer: Any, folder: Path, lora: Any = None, **options: Any) -> GEKOTrainer:
    """A trainer after three real steps."""
    args = GEKOTrainingArgs(
        output_dir=str(folder),
        num_epochs=1,
        batch_size=2,
        learning_rate=1e-2,
        warmup_steps=0,
        save_at_end=False,
        **options.pop("args", {}),
    )
    options.setdefault("on_event", lambda event: None)
    trainer = GEKOTrainer(model, samples(), tokenizer, args=args, lora_config=lora, **options)
    assert trainer.train()["steps"] == 3
    trainer.model.eval()
    return trainer


def logits(model: nn.Module) -> torch.Tensor:
    """Of the longest sample."""
    with torch.no_grad():
        result: torch.Tensor = model.eval()(input_ids=torch.from_numpy(samples()[0]["input_ids"])[None]).logits
    return result


def loaded(config: ModelConfig, path: Path | None = None) -> Any:
    """As a user loads it: through transformers alone."""
    return AutoModelForCausalLM.from_pretrained(
        path or config.name, dtype=torch.float32, trust_remote_code=config.trust_remote_code
    )


def assert_scores_are_its_own(trainer: GEKOTrainer, rtol: float = 1e-4) -> None:
    """GEKO's losses of a padded batch = the model's own loss, sample by sample, without padding."""
    data = trainer.samples
    with torch.no_grad():
        scores = trainer.engine.scored(trainer.engine.collate([data[i] for i in range(len(data))]))
        for i, loss in enumerate(scores.loss):
            alone = {name: torch.from_numpy(np.asarray(value, np.int64))[None] for name, value in data[i].items()}
            torch.testing.assert_close(loss, trainer.model(**alone).loss.mean(), rtol=rtol, atol=0)
    assert scores.exact and len(scores.loss.unique()) == len(LENGTHS)


def own_loss(model: nn.Module) -> float:
    """The model's own loss, summed over the samples."""
    model.eval()
    with torch.no_grad():
        rows = [torch.from_numpy(item["input_ids"])[None] for item in samples(labels=False)]
        return sum(model(input_ids=row, labels=row).loss.item() for row in rows)


@every_family
def test_it_trains_whole_scores_as_it_does_itself_and_comes_back(tmp_path: Path, name: str) -> None:
    config = save_family(name, tmp_path / "base")
    model, tokenizer = load_model_and_tokenizer(config)
    before = logits(model)
    trainer = trained(model, tokenizer, tmp_path)
    assert all(p.requires_grad for p in model.parameters())
    assert_scores_are_its_own(trainer)
    after = logits(model)
    assert (after - before).abs().max() > 1e-3
    trainer.save_model(tmp_path / "tuned")
    again = loaded(config, tmp_path / "tuned")
    assert torch.equal(logits(again), after)
    tied = again.get_input_embeddings().weight is again.get_output_embeddings().weight
    assert tied == FAMILIES[name].tied
    assert type(again).__name__ == type(model).__name__


@every_family
def test_its_adapters_sit_where_they_should_and_come_back(tmp_path: Path, name: str) -> None:
    config = save_family(name, tmp_path / "base")
    model, tokenizer = load_model_and_tokenizer(config)
    lora = lora_config_for(LoraSettings(enabled=True, r=4, dropout=0.0), model)
    trainer = trained(model, tokenizer, tmp_path, lora)
    places = {path.split(".lora_")[0] for path, p in trainer.model.named_parameters() if p.requires_grad}
    assert {re.split(r"\.\d+\.", place)[1] for place in places} == set(FAMILIES[name].adapted)
    assert len(places) == 2 * len(FAMILIES[name].adapted)
    assert all(("lora_" in path) == p.requires_grad for path, p in trainer.model.named_parameters())
    assert_scores_are_its_own(trainer)
    after = logits(trainer.model)
    trainer.save_model(tmp_path / "tuned")
    base = loaded(config)
    assert (after - logits(base)).abs().max() > 1e-4
    assert torch.equal(logits(PeftModel.from_pretrained(base, tmp_path / "tuned")), after)
    assert (tmp_path / "tuned" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "tuned" / "model.safetensors").exists()
    assert len(AutoTokenizer.from_pretrained(tmp_path / "tuned")) == len(tokenizer)


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@every_family
def test_its_adapters_train_on_quantized_weights_and_come_back(tmp_path: Path, name: str, bits: str) -> None:
    config = dataclasses.replace(save_family(name, tmp_path / "base"), quantization=bits)
    if name == "Falcon":  # its linear layers are of a class of its own, which bitsandbytes leaves as they are
        with pytest.raises(ConfigError, match="cannot quantize any linear layer of falcon") as caught:
            load_model_and_tokenizer(config)
        assert caught.value.field == "model.quantization"
        return
    model, tokenizer = load_model_and_tokenizer(config)
    packed = {n: p.detach().clone() for n, p in model.named_parameters() if p.dtype in (torch.uint8, torch.int8)}
    assert len(packed) >= 8
    lora = lora_config_for(LoraSettings(enabled=True, r=4, dropout=0.0), model)
    before = own_loss(model)
    trainer = trained(model, tokenizer, tmp_path, lora)
    assert own_loss(trainer.model) < before
    assert all(("lora_" in path) == p.requires_grad for path, p in trainer.model.named_parameters())
    now = [p for _, p in trainer.model.named_parameters() if p.dtype in (torch.uint8, torch.int8)]
    assert all(torch.equal(a, b) for a, b in zip(packed.values(), now, strict=True))
    assert_scores_are_its_own(trainer)
    trainer.save_model(tmp_path / "tuned")
    base, _ = load_model_and_tokenizer(config)
    again = PeftModel.from_pretrained(base, tmp_path / "tuned")
    assert torch.equal(logits(again), logits(trainer.model))


class PlainModel(nn.Module):
    """No transformers model: tokens of a sample know nothing of each other, and `kind` says what comes out."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.embedding, self.middle, self.head = nn.Embedding(80, 16), nn.Linear(16, 16), nn.Linear(16, 80)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None) -> SimpleNamespace:
        out = self.head(torch.tanh(self.middle(self.embedding(input_ids))))
        if labels is None:
            return SimpleNamespace(logits=out if self.kind == "logits" else None)
        summed = cross_entropy(out[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none").sum(1)
        targets = (labels[:, 1:] != -100).sum(1)
        each, mean = summed / targets, summed.sum() / targets.sum()
        return SimpleNamespace(
            logits=out if self.kind == "logits" else None, loss=each if self.kind == "vector" else mean
        )


@pytest.mark.parametrize("lora", [None, PLAIN_LORA], ids=["whole", "LoRA"])
@pytest.mark.parametrize("kind", ["logits", "vector", "scalar"])
def test_a_plain_module_trains_and_comes_back(tmp_path: Path, kind: str, lora: Any) -> None:
    said: list[Any] = []
    trainer = trained(PlainModel(kind), character_tokenizer(), tmp_path, lora, on_event=said.append)
    warnings = [event.text for event in said if isinstance(event, Message) and event.level == "warning"]
    shared = [text for text in warnings if "one loss for the whole batch" in text]
    if kind == "scalar":
        assert len(shared) == 1 and len(np.unique(trainer.states.loss)) == 3  # batches of two
    else:
        assert not shared
        assert_scores_are_its_own(trainer)
    trainer.save_model(tmp_path / "tuned")
    again, batch = PlainModel(kind), trainer.engine.collate([trainer.samples[0]])
    if lora is None:
        again.load_state_dict(load_file(tmp_path / "tuned" / "model.safetensors"))
    else:
        again = PeftModel.from_pretrained(again, tmp_path / "tuned")
        assert {n.split(".")[2] for n, p in trainer.model.named_parameters() if p.requires_grad} == {"middle"}
    expected, fresh = (m.eval()(batch["input_ids"], labels=batch["labels"]).loss for m in (trainer.model, again))
    assert torch.equal(fresh, expected)
    assert not torch.equal(PlainModel(kind)(batch["input_ids"], batch["labels"]).loss, expected)
