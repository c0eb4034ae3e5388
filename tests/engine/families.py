"""A small random model of every family that GEKO is meant for, saved as a user would find it. Nothing is downloaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from geko_engine.config.sections import ModelConfig
from tests.engine.conftest import character_tokenizer
from tests.engine.first_qwen.configuration_qwen import QWenConfig
from tests.engine.first_qwen.modeling_qwen import QWenLMHeadModel

OWN_CODE = Path(__file__).parent / "first_qwen"
WINDOW = 8  # shorter than most of the samples, so that sliding windows matter
SMALL = {
    "vocab_size": 80,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}


@dataclass(frozen=True)
class Family:
    """A family: its model_type, what its configuration has that SMALL has not, and which layers get adapters.

    Attributes:
        adapted: what each of the two blocks' layers with an adapter is called, from the block on.
        whole: True where SMALL's names are not this family's, so that `changes` is everything.
    """

    model_type: str
    adapted: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    whole: bool = False
    tied: bool = False

    def config(self) -> Any:
        """Its configuration."""
        common = {} if self.whole else SMALL
        return AutoConfig.for_model(self.model_type, **(common | self.changes), tie_word_embeddings=self.tied)


ATTENTION = ("self_attn.q_proj", "self_attn.v_proj")
GPT2 = {"vocab_size": 80, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
GPT_NEO = {
    "vocab_size": 80,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "attention_types": [[["global", "local"], 1]],
    "window_size": WINDOW,
    "max_position_embeddings": 128,
}
ENDS = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
FAMILIES: dict[str, Family] = {
    "GPT-2": Family("gpt2", ("attn.c_attn", "attn.c_proj", "mlp.c_proj"), GPT2 | ENDS, whole=True, tied=True),
    "GPT-Neo": Family(
        "gpt_neo",
        ("attn.attention.q_proj", "attn.attention.v_proj", "attn.attention.out_proj", "mlp.c_proj"),
        GPT_NEO | ENDS,
        whole=True,
        tied=True,
    ),
    "LLaMA 2": Family("llama", ATTENTION, {"num_key_value_heads": 4}),
    "LLaMA 3": Family("llama", ATTENTION, {"rope_theta": 500000.0}),
    "SmolLM": Family("llama", ATTENTION, {"rope_theta": 100000.0}, tied=True),
    "Mistral": Family("mistral", ATTENTION, {"sliding_window": WINDOW}),
    "Mixtral": Family("mixtral", ATTENTION, {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "Phi-2": Family("phi", ("self_attn.q_proj", "self_attn.dense"), {"num_key_value_heads": 4}),
    "Phi-3": Family("phi3", ("self_attn.qkv_proj", "self_attn.o_proj"), {"sliding_window": WINDOW}),
    "Falcon": Family("falcon", ("self_attention.query_key_value",), {"multi_query": True}, tied=True),
    "Qwen": Family("qwen", ("attn.c_attn",)),
    "Qwen2": Family("qwen2", ATTENTION),
    "Qwen3": Family("qwen3", ATTENTION, {"head_dim": 8}),
    "Gemma": Family("gemma", ATTENTION, {"num_key_value_heads": 1, "head_dim": 8}, tied=True),
    "Gemma2": Family(
        "gemma2",
        ATTENTION,
        # So low a cap that a loss without it would be quite another.
        {"head_dim": 8, "final_logit_softcapping": 0.5, "sliding_window": WINDOW, "query_pre_attn_scalar": 8},
        tied=True,
    ),
}


def save_family(name: str, folder: Path) -> ModelConfig:
    """Write a random model of the family and a tokenizer to `folder`; the setting that names it."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    if name == "Qwen":
        QWenLMHeadModel(QWenConfig(**ENDS, tie_word_embeddings=False)).save_pretrained(folder)
        add_own_code(folder)
    else:
        AutoModelForCausalLM.from_config(family.config()).save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return ModelConfig(str(folder), trust_remote_code=name == "Qwen")


def add_own_code(folder: Path) -> None:
    """Put the model's code beside its weights and name it in config.json, as repositories with own code do."""
    for file in OWN_CODE.glob("*_qwen.py"):
        shutil.copy(file, folder)
    path = folder / "config.json"
    places = {"AutoConfig": "configuration_qwen.QWenConfig", "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"auto_map": places}), encoding="utf-8")
