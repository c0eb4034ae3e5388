"""Samples in one row: the same losses, scores and gradients as padded, and models that mix them are recognised."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from geko_engine.data.batches import IGNORE_INDEX, Collator, DatasetView, with_target_rows
from geko_engine.data.packed_batches import PackedCollator, attention_bounds, samples_of, widths
from geko_engine.scoring.evaluation import as_columns
from geko_engine.scoring.packing_check import EDGE, packing_problem, probed_ids
from geko_engine.scoring.sample_scores import Scorer

CPU = torch.device("cpu")
WINDOW = 8  # shorter than the samples
ENDS = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
SMALL = {
    **{"vocab_size": 80, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "max_position_embeddings": 256, **ENDS},
}
GPT2 = {"vocab_size": 80, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, **ENDS, "bos_token_id": 1}
GPT_NEO = {
    **{"vocab_size": 80, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "window_size": WINDOW},
    **{"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64, **ENDS, "bos_token_id": 1},
}
WINDOWED = SMALL | {"head_dim": 8, "sliding_window": WINDOW}
LINEAR = {
    **{"head_dim": 8, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
    **{"shared_expert_intermediate_size": 16, "linear_num_value_heads": 2, "linear_num_key_heads": 2},
    **{"linear_key_head_dim": 8, "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"]},
}
SAME = {
    "Llama, sdpa": ("llama", "sdpa", SMALL),
    "Llama, eager": ("llama", "eager", SMALL),
    "GPT-2, sdpa": ("gpt2", "sdpa", GPT2),
    "GPT-2, eager": ("gpt2", "eager", GPT2),
    "Qwen3, sdpa": ("qwen3", "sdpa", SMALL | {"head_dim": 8}),
    "Mistral, window, sdpa": ("mistral", "sdpa", WINDOWED),
    "Gemma 2, window, eager": ("gemma2", "eager", WINDOWED | {"query_pre_attn_scalar": 8}),
    "Gemma 3, window, sdpa": ("gemma3_text", "sdpa", WINDOWED),
    "Llama 4, chunks, sdpa": (
        "llama4_text",
        "sdpa",
        SMALL | {"head_dim": 8, "attention_chunk_size": WINDOW, "num_local_experts": 2, "intermediate_size_mlp": 64},
    ),
    "Mixtral, sdpa": ("mixtral", "sdpa", SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2}),
}
MIXING = {
    "Mamba: a state": ("mamba", {"vocab_size": 80, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8} | ENDS),
    "LFM2: a convolution": ("lfm2", SMALL | {"block_ff_dim": 64, "layer_types": ["conv", "full_attention"]}),
    "Qwen3-Next: linear attention": ("qwen3_next", SMALL | LINEAR),
    "OPT: positions from the mask": (
        "opt",
        {"vocab_size": 80, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"max_position_embeddings": 512, "word_embed_proj_dim": 32},
    ),
    "BLOOM: ALiBi": ("bloom", {"vocab_size": 80, "hidden_size": 32, "n_layer": 2, "n_head": 2}),
}


def model_of(kind: str, attention: str, values: dict[str, Any], *, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout) if kind == "gpt2" else {}
    config = AutoConfig.for_model(kind, **(values | rates))
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def rows(lengths: list[int], seed: int = 0) -> list[dict[str, Any]]:
    """Random samples whose first third is no target."""
    rng = np.random.default_rng(seed)
    found = []
    for length in lengths:
        ids = rng.integers(3, 80, length)
        labels = ids.copy()
        labels[: length // 3] = IGNORE_INDEX
        found.append({"input_ids": ids, "labels": labels})
    return found


class Scored(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.scorer = model, Scorer(model)

    def forward(self, batch: dict[str, Tensor], weights: Tensor | None = None) -> Any:
        return self.scorer(self.model, batch, weights)


def problem(model: nn.Module, samples: list[dict[str, Any]], *, tokens: int = 0) -> str:
    return packing_problem(Scored(model), DatasetView(samples), Collator(0), CPU, tokens=tokens, half=False)


# ---------------------------------------------------------------- the row


def test_a_row_is_the_samples_one_behind_the_other() -> None:
    samples = [
        {"input_ids": np.array([5, 6, 7]), "labels": np.array([5, 6, 7]), "token_type_ids": np.array([1, 1, 2])},
        {"input_ids": np.array([8]), "labels": np.array([8]), "token_type_ids": np.array([3])},
        {"input_ids": np.array([9, 4]), "labels": np.array([9, 4]), "token_type_ids": np.array([4, 5])},
    ]
    batch = PackedCollator()(samples)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 4]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 2, 3, 4, 5]]
    assert batch["labels"].tolist() == [[IGNORE_INDEX, 6, 7, IGNORE_INDEX, IGNORE_INDEX, 4]]
    assert "attention_mask" not in batch and samples[0]["labels"][0] == 5
    sample, count = samples_of(batch, torch.arange(6))
    assert sample.tolist() == [0, 0, 0, 1, 2, 2] and count == 3
    assert isinstance(widths(batch), Tensor) and widths(batch).tolist() == [3, 1, 2]  # type: ignore[union-attr]
    bounds = attention_bounds(batch)
    assert bounds["cu_seq_lens_q"].tolist() == [0, 3, 4, 6] and bounds["cu_seq_lens_q"].dtype == torch.int32
    assert bounds["max_length_q"] == bounds["max_length_k"] == 3
    assert attention_bounds(Collator(0)(samples)) == {} and widths(Collator(0)(samples)) == 3


@pytest.mark.parametrize("name", SAME)
def test_scores_and_gradients_are_those_of_padded_batches(name: str) -> None:
    samples, weights = rows([3, 31, 12, 2, 24]), torch.tensor([1.0, 0.5, 2.0, 1.0, 3.0])
    found = []
    for collate in (Collator(0), PackedCollator()):
        model = model_of(*SAME[name]).train()
        scores = Scored(model)(with_target_rows(collate(samples)), weights)
        scores.objective.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((as_columns(scores, 0), scores.probability, gradients))
    (padded, probabilities, expected), (packed, others, gradients) = found
    np.testing.assert_allclose(packed, padded, rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(others, probabilities, rtol=2e-5, atol=1e-7)
    assert len(gradients) == len(expected)
    for gradient, known in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, known, rtol=1e-3, atol=2e-5)


# ---------------------------------------------------------------- the question to the model


@pytest.mark.parametrize("name", SAME)
def test_a_model_that_keeps_samples_apart_is_taken(name: str) -> None:
    assert problem(model_of(*SAME[name], dropout=0.1), rows([40, 12, 5, 17])) == ""


@pytest.mark.parametrize("name", MIXING)
def test_a_model_that_mixes_samples_is_recognised(name: str) -> None:
    kind, values = MIXING[name]
    found = problem(model_of(kind, "eager", values), rows([40, 12, 5, 17]))
    assert found == "the predictions of a sample change with the other samples in its row"


class Counting(nn.Module):
    """A model whose positions count from the beginning of the row: no token is mixed, and yet it is another model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.places, self.head = nn.Embedding(80, 16), nn.Embedding(512, 16), nn.Linear(16, 80)

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(
        self, input_ids: Tensor, position_ids: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Any:
        hidden = self.embedding(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        return SimpleNamespace(logits=self.head(hidden))


def test_positions_that_go_on_over_the_row_are_recognised() -> None:
    torch.manual_seed(0)
    assert problem(Counting(), rows([20, 9, 5])) == "samples in one row have other predictions than apart"


def test_a_row_that_is_longer_than_a_models_stored_mask_is_asked_about() -> None:
    """GPT-Neo slices a mask of 64 x 64: short rows pass, and those that training makes do not."""
    model, samples = model_of("gpt_neo", "eager", GPT_NEO), rows([20, 12, 5, 17])
    assert problem(model, samples) == ""
    with pytest.raises(RuntimeError):
        problem(model, [*samples, *rows([20] * 4, 1)], tokens=64)


def test_the_question_leaves_no_trace() -> None:
    model = model_of("gpt2", "sdpa", GPT2, dropout=0.1).eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert problem(model, rows([30, 9, 5])) == ""
    assert torch.equal(torch.rand(3), expected) and not model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("lengths", [[7], [9, 9, 9], [2, 1, 1], [1, 3 * EDGE]])
def test_few_or_equal_samples_are_enough(lengths: list[int]) -> None:
    assert problem(model_of("llama", "sdpa", SMALL), rows(lengths)) == ""
    same = [{"input_ids": np.full(length, 4), "labels": np.full(length, 4)} for length in lengths]
    assert problem(model_of("llama", "sdpa", SMALL), same) == ""
    assert problem(model_of("mamba", "eager", MIXING["Mamba: a state"][1]), same) != ""


def test_the_row_is_as_long_as_asked_for_and_ends_with_shorter_samples() -> None:
    lengths = np.array([5, 30, 1, 20, 10])
    assert probed_ids(lengths, 0) == [1, 4, 0]
    assert probed_ids(lengths, 31) == [1, 3, 4, 0]
    assert probed_ids(lengths, 10**9) == [1, 3, 4, 0, 4, 0]
    assert probed_ids(np.array([1, 1]), 0) == []


def test_no_number_is_no_proof() -> None:
    model = model_of("llama", "sdpa", SMALL)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))  # type: ignore[union-attr]
    assert problem(model, rows([20, 9, 5])) != ""
