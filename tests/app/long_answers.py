"""A run whose models never come to an end by themselves: what is stopped must still be at work. Made, not trained."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import ModelConfig
from geko_engine.storage.atomic_files import replace_json
from tests.engine.conftest import character_tokenizer


def run_that_does_not_end(store: RunStore) -> str:
    """The id of a complete run; its models take thousands of tokens and cannot say <eos>."""
    config = RunConfig(model=ModelConfig(name=str(store.root / ".endless")), output_dir=str(store.root))
    folder = store.create(config)
    torch.manual_seed(0)
    # Deep and narrow: every token takes some milliseconds.
    shape = {"vocab_size": 80, "n_embd": 192, "n_layer": 16, "n_head": 2, "n_positions": 4096}
    model = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=1, eos_token_id=1, pad_token_id=0))
    with torch.no_grad():  # the end is as unlikely as its own opposite is likely
        model.transformer.ln_f.bias.fill_(1.0)
        model.lm_head.weight[1].fill_(-10.0)
    for path in (store.root / ".endless", folder.model_path):
        model.save_pretrained(path)
        character_tokenizer().save_pretrained(path)
    replace_json(folder.path / "status.json", {"phase": "complete", "end": "complete"})
    return folder.id
