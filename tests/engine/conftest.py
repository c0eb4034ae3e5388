"""Small real models and data, made here: nothing is downloaded and nothing is faked."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)
CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:?+=-\n"


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character; <pad> is 0 and <eos> is 1."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def small_llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A random decoder of about 30,000 parameters."""
    torch.manual_seed(seed)
    values = {
        "vocab_size": 80,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
        "tie_word_embeddings": True,
        "use_cache": False,
    }
    return LlamaForCausalLM(LlamaConfig(**(values | changes)))


def small_gpt2(seed: int = 0, dropout: float = 0.0) -> GPT2LMHeadModel:
    """A random decoder with dropout where asked for."""
    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=80,
            n_embd=32,
            n_layer=2,
            n_head=2,
            n_positions=128,
            bos_token_id=1,
            eos_token_id=1,
            pad_token_id=0,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
        )
    )


def sum_rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows of different lengths that a small model can learn in part: a constant answer for every second one."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        a, b = rng.randint(0, 99), rng.randint(0, 9)
        easy = i % 2 == 0
        rows.append({"prompt": "say yes" if easy else f"{a} + {b} =", "completion": "yes" if easy else str(a + b)})
    return rows


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return character_tokenizer()


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "small-model"
    small_llama().save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in sum_rows(64)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def own_code_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Code that a model brings is copied to a cache before it runs: not to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        module = importlib.import_module("transformers.dynamic_module_utils")
        patch.setattr(module, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield
