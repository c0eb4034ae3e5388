"""What is saved with a model so that others stop where it has learned to stop."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, GenerationConfig

from geko_engine.models.saving import save_model, set_end_token
from tests.engine.conftest import small_llama
from tests.engine.data.template_families import tokenizer_of


def test_the_learnt_end_is_saved_in_tokenizer_and_generation_settings(tmp_path: Path) -> None:
    model, tokenizer = small_llama(vocab_size=500), tokenizer_of("qwen2 base")
    end, before = tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id
    model.generation_config.eos_token_id = before
    assert set_end_token(model, tokenizer, "<|im_end|>")
    assert not set_end_token(model, tokenizer, "<|im_end|>"), "now it stops there"
    save_model(model, tokenizer, tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token == "<|im_end|>"
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == [end, before]


def test_where_nothing_new_is_learnt_nothing_changes() -> None:
    model, tokenizer = small_llama(), tokenizer_of("gpt2")
    before = model.generation_config.eos_token_id
    assert not set_end_token(model, tokenizer, "")
    assert model.generation_config.eos_token_id == before and tokenizer.eos_token == "<|endoftext|>"
