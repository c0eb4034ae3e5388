"""A catalogue of broken models: each is refused with a sentence that names it and the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from geko_engine.config.sections import ModelConfig
from geko_engine.exceptions import ModelError
from geko_engine.models.loading import load_model_and_tokenizer
from tests.engine.conftest import character_tokenizer, small_llama
from tests.engine.families import save_family
from tests.engine.models.test_families import trained

pytestmark = pytest.mark.usefixtures("own_code_cache")
Breaker = Callable[[Path], Any]


def config(**changes: Any) -> Breaker:
    """Change config.json; None takes a key out."""

    def change(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text("utf-8")) | changes
        kept = {key: value for key, value in values.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")

    return change


def weights(change: Callable[[bytes], bytes]) -> Breaker:
    """Change the bytes of the weights file."""

    def rewrite(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return rewrite


def without(name: str) -> Breaker:
    return lambda folder: (folder / name).unlink()


def text(name: str, content: str) -> Breaker:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").replace(folder / "pytorch_model.bin")


def one_shard_of_two(folder: Path) -> None:
    (folder / "model.safetensors").replace(folder / "model-00001-of-00002.safetensors")
    names = {"model.norm.weight": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = {"metadata": {}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def bert(folder: Path) -> None:
    sizes = {"vocab_size": 80, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(**sizes, num_hidden_layers=1)).save_pretrained(folder)


def t5(folder: Path) -> None:
    settings = T5Config(vocab_size=80, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(settings).save_pretrained(folder)


def marian(folder: Path) -> None:
    sizes = {"vocab_size": 80, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 0}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    MarianMTModel(MarianConfig(**sizes, **heads, decoder_start_token_id=0)).save_pretrained(folder)


def body_without_head(folder: Path) -> None:
    small_llama(tie_word_embeddings=False).model.save_pretrained(folder)


def with_adapter(folder: Path) -> None:
    get_peft_model(small_llama(), LoraConfig(target_modules=["q_proj"])).save_pretrained(folder)


def larger_tokenizer(folder: Path) -> None:
    tokenizer = character_tokenizer()
    tokenizer.add_tokens([f"<extra {i}>" for i in range(12)])
    tokenizer.eos_token = "<extra 11>"
    tokenizer.save_pretrained(folder)


def needs_a_package(folder: Path) -> None:
    save_family("Qwen", folder)
    code = folder / "modeling_qwen.py"
    code.write_text("import a_package_that_is_not_there\n" + code.read_text("utf-8"), encoding="utf-8")


def for_another_transformers(folder: Path) -> None:
    save_family("Qwen", folder)
    code = folder / "modeling_qwen.py"
    code.write_text("from transformers import AnOldName\n" + code.read_text("utf-8"), encoding="utf-8")


WHOLE = "download the model again"
BROKEN: dict[str, tuple[Breaker, str]] = {
    "no weights": (without("model.safetensors"), "a config.json but no weights .*: give the complete model"),
    "weights cut in half": (weights(lambda b: b[: len(b) // 2]), f"damaged or cut off .*: {WHOLE}"),
    "weights cut in their header": (weights(lambda b: b[:50]), f"damaged or cut off .*: {WHOLE}"),
    "empty weights": (weights(lambda b: b""), f"damaged or cut off .*: {WHOLE}"),
    "a pointer instead of weights": (weights(lambda b: b"version https://git-lfs"), f"damaged or cut off .*: {WHOLE}"),
    "a pickle that is none": (as_pickle, f"damaged or cut off: {WHOLE}"),
    "a shard is missing": (one_shard_of_two, rf"missing \(.*model-00002-of-00002.*\): {WHOLE}"),
    "layers are missing": (config(num_hidden_layers=3), r"lack 9 of the model's 29 parameters \(model\.layers\.2"),
    "a body without its head": (body_without_head, r"lack 1 of .* \(lm_head\.weight\): give the complete model"),
    "sizes of another model": (config(hidden_size=64), "do not have the sizes in its config.json"),
    "a type that nobody knows": (config(model_type="zorg"), r"does not know \(zorg\): install a newer transformers"),
    "no type": (config(model_type=None), "names no model_type: give the folder"),
    "a config that is no JSON": (text("config.json", "{ not"), f"config.json of .* is damaged: {WHOLE}"),
    "an encoder": (bert, r"not a causal language model \(bert\): it fills in masked words"),
    "an encoder and decoder": (t5, r"encoder-decoder model \(t5\) or one half of one"),
    "a translator": (marian, r"encoder-decoder model \(marian\) or one half of one"),
    "GPTQ": (
        config(quantization_config={"quant_method": "gptq", "bits": 4}),
        r"already quantized \(gptq\).*original model",
    ),
    "FP8": (config(quantization_config={"quant_method": "fp8"}), r"already quantized \(fp8\).*give the original model"),
    "an adapter inside": (with_adapter, r"is a LoRA adapter: give its base model, or merge .*merge_and_unload"),
    "no tokenizer": (without("tokenizer.json"), "needs a tokenizer.json. .* install sentencepiece or tiktoken"),
    "a tokenizer that is no JSON": (text("tokenizer.json", "{ not"), rf"tokenizer of .* is damaged .*: {WHOLE}"),
    "a tokenizer larger than the model": (
        larger_tokenizer,
        r"has 86 tokens, but the model only 80: .*resize_token_embeddings\(86\)",
    ),
    "code that needs a package": (needs_a_package, "needs other packages: .*a_package_that_is_not_there"),
    "code for another transformers": (
        for_another_transformers,
        "written for another transformers than .*AnOldName|AnOldName.*written for another",
    ),
}


@pytest.mark.filterwarnings("ignore:.*weights_only:UserWarning")
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_model_is_refused_with_its_name_and_the_way_out(model_folder: Path, case: str) -> None:
    damage, sentence = BROKEN[case]
    damage(model_folder)
    with pytest.raises(ModelError, match=sentence) as caught:
        load_model_and_tokenizer(ModelConfig(str(model_folder), trust_remote_code="code" in case))
    assert caught.value.field == "model.name"
    assert repr(str(model_folder)) in str(caught.value) and "\n" not in str(caught.value)


def test_own_code_runs_only_for_authors_that_are_trusted(tmp_path: Path) -> None:
    trusted = save_family("Qwen", tmp_path)
    with pytest.raises(ModelError, match="has its own Python code: switch on trust_remote_code") as caught:
        load_model_and_tokenizer(ModelConfig(str(tmp_path)))
    assert caught.value.field == "model.trust_remote_code"
    model, _ = load_model_and_tokenizer(trusted)
    assert type(model).__module__.startswith("transformers_modules.")


def test_tokens_that_nothing_uses_may_lie_beyond_the_model(model_folder: Path) -> None:
    tokenizer = character_tokenizer()
    tokenizer.add_tokens([f"<picture {i}>" for i in range(12)])
    tokenizer.save_pretrained(model_folder)
    assert len(load_model_and_tokenizer(ModelConfig(str(model_folder)))[1]) == 86
    tokenizer.chat_template = "<picture 11>{{ messages }}"
    tokenizer.save_pretrained(model_folder)
    with pytest.raises(ModelError, match="has 86 tokens, but the model only 80"):
        load_model_and_tokenizer(ModelConfig(str(model_folder)))


def test_a_tokenizer_without_a_pad_token_gets_one_and_comes_back_equal(model_folder: Path, tmp_path: Path) -> None:
    tokenizer = character_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(model_folder)
    model, ours = load_model_and_tokenizer(ModelConfig(str(model_folder)))
    assert ours.pad_token == ours.eos_token == "<eos>"
    trained(model, ours, tmp_path).save_model(tmp_path / "tuned")
    again = AutoTokenizer.from_pretrained(tmp_path / "tuned")
    assert again.get_vocab() == ours.get_vocab() and again.special_tokens_map == ours.special_tokens_map
    assert again("to be, or") == ours("to be, or")
