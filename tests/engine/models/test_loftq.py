"""LoftQ begins with what the rounding to 4 bits took away: nearer to the base model, and at home in its 4 bits alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GPT2Config, GPT2LMHeadModel

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig, LoraSettings, ModelConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError, GekoError
from geko_engine.export import merge
from geko_engine.export.model_card import model_card
from geko_engine.inference.run_models import ModelChoice, RunModels
from geko_engine.models.loading import load_model_and_tokenizer
from geko_engine.models.loftq import LoftqConfig, OriginalWeights, take_rounding
from geko_engine.models.lora import apply_lora, lora_config_for
from geko_engine.preflight.checks import preflight
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import character_tokenizer, small_llama
from tests.engine.training.test_trainer import assert_same_weights

IDS = torch.arange(3, 23)[None]
BITS = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
FIELD = "lora.init_lora_weights"
CASES: dict[str, dict[str, Any]] = {
    "two layers": {},
    "all layers": {"target_modules": ["all-linear"]},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "a high scale": {"alpha": 64},
    "a rank above the layer's": {"r": 128},
}


@pytest.fixture
def base(tmp_path: Path) -> ModelConfig:
    """Wide enough (64) for the 4-bit kernels of every CPU."""
    return saved(tmp_path / "base")


def saved(folder: Path, model: Any = None, **options: Any) -> ModelConfig:
    (model or small_llama(hidden_size=64)).save_pretrained(folder, **options)
    character_tokenizer().save_pretrained(folder)
    return ModelConfig(str(folder), quantization="4bit")


def lora(init: str = "loftq", **changes: Any) -> LoraSettings:
    return LoraSettings(enabled=True, init_lora_weights=init, **({"r": 4, "dropout": 0.0} | changes))


def adapted(config: ModelConfig, settings: LoraSettings, lines: list[str] | None = None) -> Any:
    model, _ = load_model_and_tokenizer(config)
    return apply_lora(model, lora_config_for(settings, model), [].append if lines is None else lines.append)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


def errors(model: Any, folder: str) -> dict[str, float]:
    """|| W x - (Q + s B A) x || of each layer with an adapter, W from the file, on the same x."""
    files, found = load_file(Path(folder) / "model.safetensors"), {}
    for name, layer in model.get_base_model().named_modules():
        if hasattr(layer, "lora_A"):
            x = torch.randn(32, layer.in_features, generator=torch.Generator().manual_seed(0))
            weight = files[f"{name}.weight"]
            if name.startswith("transformer.h."):
                weight = weight.T  # GPT-2's are [in, out] in its files, and some are square
            with torch.no_grad():
                found[name] = float((layer.eval()(x) - torch.nn.functional.linear(x, weight, layer.bias)).norm())
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_model_is_nearer_to_the_unrounded_one(base: ModelConfig, case: str) -> None:
    usual = errors(adapted(base, lora("default", **CASES[case])), base.name)
    lines: list[str] = []
    model = adapted(base, lora(**CASES[case]), lines)
    nearer = errors(model, base.name)
    assert usual.keys() == nearer.keys() and len(nearer) == (14 if case == "all layers" else 4)
    for name, error in nearer.items():
        assert error < 0.97 * usual[name], name
        assert case != "a rank above the layer's" or error < 1e-3 * usual[name], "nothing is left"
    assert any(f"the adapters of {len(nearer)} layers make up for" in line for line in lines)
    assert all(p.dtype == torch.float32 for name, p in model.named_parameters() if "lora_" in name)


def test_every_start_has_the_same_adapters_and_takes_no_random_numbers(base: ModelConfig) -> None:
    torch.manual_seed(1)
    first, drawn = adapted(base, lora()), torch.rand(1)
    torch.manual_seed(1)
    adapted(base, lora("default"))
    assert torch.equal(torch.rand(1), drawn)
    second = adapted(base, lora())
    for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert "lora_" not in name or torch.equal(a, b), name


def test_transposed_layers(tmp_path: Path) -> None:
    wide = GPT2Config(vocab_size=80, n_embd=64, n_layer=2, n_head=2, n_positions=128, bos_token_id=1, eos_token_id=1)
    config = saved(tmp_path / "gpt2", GPT2LMHeadModel(wide))
    nearer, usual = (errors(adapted(config, lora(init)), config.name) for init in ("loftq", "default"))
    assert len(nearer) == 6 and all(error < 0.97 * usual[name] for name, error in nearer.items())
    rounded, _ = load_model_and_tokenizer(config)
    plain, _ = load_model_and_tokenizer(ModelConfig(config.name))
    assert not torch.allclose(logits(plain), logits(rounded), atol=1e-3)
    take_rounding(plain, rounded)
    torch.testing.assert_close(logits(plain), logits(rounded), atol=1e-5, rtol=0)


def test_layers_that_are_not_rounded_begin_as_usual(tmp_path: Path) -> None:
    base = saved(tmp_path / "untied", small_llama(hidden_size=64, tie_word_embeddings=False))
    model = adapted(base, lora(target_modules=["q_proj", "embed_tokens"]))
    embedding = next(m for name, m in model.named_modules() if name.endswith("embed_tokens"))
    assert not embedding.lora_embedding_A["default"].any()
    with pytest.raises(ConfigError, match=r"none of lora.target_modules is: choose other layers") as caught:
        adapted(base, lora(target_modules=["embed_tokens"]))
    assert caught.value.field == FIELD


def test_sharded_files_and_other_prefixes(tmp_path: Path, base: ModelConfig) -> None:
    parts = saved(tmp_path / "parts", max_shard_size="40KB")
    assert len(list(Path(parts.name).glob("model-*.safetensors"))) > 2
    whole, sharded = adapted(base, lora()), adapted(parts, lora())
    for (name, a), (_, b) in zip(whole.named_parameters(), sharded.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    weights = OriginalWeights.of(load_model_and_tokenizer(base)[0])
    layer = "model.layers.1.mlp.up_proj"
    expected, tensors = weights.read(layer), load_file(Path(base.name) / "model.safetensors")
    for rename in (lambda name: name.removeprefix("model."), lambda name: f"language_model.{name}"):
        file = tmp_path / "renamed.safetensors"
        save_file({rename(name): tensor for name, tensor in tensors.items()}, file)
        renamed = OriginalWeights("", dict.fromkeys(map(rename, tensors), file), "model")
        assert torch.equal(renamed.read(layer), expected)


def config_of(folder: Path, base: ModelConfig | str, data: Path, init: str = "loftq", **changes: Any) -> RunConfig:
    model = base if isinstance(base, ModelConfig) else ModelConfig(base, quantization="4bit")
    args = {"num_epochs": 1, "batch_size": 8, "learning_rate": 1e-2, "warmup_steps": 0, "save_total_limit": 1}
    return RunConfig(
        model,
        DataConfig(str(data), sample_count=48),
        lora(init, target_modules=["all-linear"]),
        GEKOTrainingArgs(**(args | changes)),
        output_dir=str(folder),
    )


@pytest.fixture
def finished(tmp_path: Path, base: ModelConfig, data_file: Path) -> RunFolder:
    folder = RunFolder.create(config_of(tmp_path / "runs", base, data_file))
    assert run(folder)["end"] == "complete"
    return folder


def test_a_stopped_run_ends_as_if_unbroken(
    finished: RunFolder, tmp_path: Path, base: ModelConfig, data_file: Path
) -> None:
    folder = RunFolder.create(config_of(tmp_path / "stopped", base, data_file))
    asked = iter(range(10**9))
    assert run(folder, should_stop=lambda: bool(folder.latest_checkpoint()) or next(asked) > 60)["end"] == "stopped"
    assert folder.latest_checkpoint() is not None
    report = run(folder, resume=True)
    assert report["end"] == "complete" and report["steps"] > 0
    one, other = (load_file(f.model_path / "adapter_model.safetensors") for f in (finished, folder))
    assert_same_weights(one, other)


def test_its_adapter_is_asked_and_merged_in_4_bits(finished: RunFolder, tmp_path: Path, base: ModelConfig) -> None:
    settings = json.loads((finished.model_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["init_lora_weights"] is True and settings["r"] == 4
    assert "LoftQ" in (finished.model_path / "fits_4bit_only.json").read_text("utf-8")
    checkpoint = finished.latest_checkpoint()
    assert checkpoint is not None
    models, found = RunModels(), {}
    for which in ("final", checkpoint.name):
        with models.tuned(ModelChoice.of(finished, which)) as model:
            found[which] = logits(model)
    trained = found["final"]
    torch.testing.assert_close(found[checkpoint.name], trained, atol=1e-5, rtol=0)
    plain = AutoPeftModelForCausalLM.from_pretrained(finished.model_path, quantization_config=BITS)
    torch.testing.assert_close(
        logits(plain), trained, atol=1e-2, rtol=0
    )  # some CPUs repack the weights, less precisely
    card = model_card("ada/a", finished.config(), {}, adapter=True, prompt=None, in_4bit=True)
    assert 'from_pretrained("ada/a", quantization_config=bits)' in card
    made = merge(finished, tmp_path / "merged", dtype="float32", prompts=2)
    assert made.compared == made.equal == 2
    assert any("merged into the values that the base model's weights have in 4 bits" in text for text in made.sentences)
    merged = AutoModelForCausalLM.from_pretrained(made.place)
    torch.testing.assert_close(logits(merged), trained, atol=1e-4, rtol=1e-4)
    wrong = AutoPeftModelForCausalLM.from_pretrained(finished.model_path)
    assert (logits(wrong) - trained).abs().max() > 100 * (logits(merged) - trained).abs().max()


def test_a_run_goes_on_from_its_adapter_in_4_bits_alone(
    finished: RunFolder, tmp_path: Path, base: ModelConfig, data_file: Path
) -> None:
    again = config_of(tmp_path / "again", str(finished.model_path), data_file, "default", learning_rate=1e-6)
    folder = RunFolder.create(again)
    assert run(folder)["end"] == "complete"
    assert (folder.model_path / "fits_4bit_only.json").is_file()
    for bits, enabled in (("none", True), ("8bit", True), ("none", False)):
        other = ModelConfig(str(finished.model_path), quantization=bits)
        refused = RunConfig(
            other, again.data, LoraSettings(enabled=enabled), again.training, output_dir=again.output_dir
        )
        (problem,) = preflight(refused)
        assert problem[0] == "model.quantization" and "set model.quantization to 4bit, with LoRA" in problem[1]
        with pytest.raises(GekoError, match="fits its base model in 4 bits alone") as caught:
            load_model_and_tokenizer(other, train_adapter=enabled)
        assert caught.value.field == "model.quantization"
    assert preflight(again) == []


def test_a_checkpoint_is_not_mixed_with_another_beginning(
    finished: RunFolder, tmp_path: Path, base: ModelConfig, data_file: Path
) -> None:
    checkpoint = finished.latest_checkpoint()
    given = {"resume_from_checkpoint": str(checkpoint)}
    folder = RunFolder.create(config_of(tmp_path / "other", base, data_file, "default", **given))
    report = run(folder)
    assert report["end"] == "failed" and "fits_4bit_only is False here and True there" in report["reason"]


def test_what_is_not_in_4_bits_is_refused() -> None:
    for bits in ("none", "8bit"):
        values = {"model": {"quantization": bits}, "lora": {"enabled": True, "init_lora_weights": "loftq"}}
        with pytest.raises(ConfigError, match=r"set model.quantization to 4bit, or choose default") as caught:
            RunConfig.from_dict(values)
        assert caught.value.field == FIELD
    unused = RunConfig.from_dict({"lora": {"init_lora_weights": "loftq"}})
    assert any(FIELD in sentence for sentence in unused.without_effect())
    with pytest.raises(ConfigError, match=r"is not in 4 bits \(nf4 with quantized scales\)") as caught:
        lora_config_for(lora(), small_llama())
    assert caught.value.field == FIELD


def test_weights_that_cannot_be_read_are_refused_before_anything_is_trained(
    tmp_path: Path, base: ModelConfig, data_file: Path
) -> None:
    model, tokenizer = load_model_and_tokenizer(base)
    pickled = tmp_path / "pickled"
    small_llama(hidden_size=64).config.save_pretrained(pickled)
    torch.save(small_llama(hidden_size=64).state_dict(), pickled / "pytorch_model.bin")
    tokenizer.save_pretrained(pickled)
    (problem,) = preflight(config_of(tmp_path, str(pickled), data_file))
    assert problem[0] == FIELD and "has none: give a model with such files, or choose default" in problem[1]
    assert preflight(config_of(tmp_path, str(pickled), data_file, "default")) == []
    old, _ = load_model_and_tokenizer(ModelConfig(str(pickled), quantization="4bit"))
    small = tmp_path / "small"
    model.save_pretrained(small), tokenizer.save_pretrained(small)
    rounded, _ = load_model_and_tokenizer(ModelConfig(str(small)))
    nameless, _ = load_model_and_tokenizer(base)
    nameless.config._name_or_path = ""
    fp4 = AutoModelForCausalLM.from_pretrained(base.name, quantization_config=BitsAndBytesConfig(load_in_4bit=True))
    for given, said in (
        (old, "from safetensors files, and there are none of"),
        (nameless, "does not say where they are: load it with from_pretrained"),
        (fp4, "is not in 4 bits"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            lora_config_for(lora(), given)
        assert caught.value.field == FIELD
    others, _ = load_model_and_tokenizer(base)
    others.config._name_or_path = str(tmp_path / "others")
    other = small_llama(hidden_size=64)
    with torch.no_grad():  # another revision, say, that was trained a little more
        other.model.layers[1].self_attn.v_proj.weight.mul_(1 + 0.02 * torch.randn(64, 64))
    other.save_pretrained(tmp_path / "others")
    for given in (rounded, others):
        with pytest.raises(ConfigError, match=r"before the rounding, and the files of .* do not have them") as caught:
            apply_lora(given, lora_config_for(lora(), given), lambda text: None)
        assert caught.value.field == FIELD


def test_plain_configurations_stay_plain(base: ModelConfig) -> None:
    model, _ = load_model_and_tokenizer(base)
    assert type(lora_config_for(lora("default"), model)) is LoraConfig
    assert type(lora_config_for(lora(), model)) is LoftqConfig
