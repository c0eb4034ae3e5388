"""Per-sample signals against independent references: the model's own loss, and probabilities computed plainly."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from geko_engine.data.batches import IGNORE_INDEX
from geko_engine.exceptions import ModelError
from geko_engine.scoring.sample_scores import Scorer
from tests.engine.conftest import small_gpt2, small_llama


def padded_batch(seed: int = 0) -> dict[str, torch.Tensor]:
    """Four samples of lengths 9, 6, 4 and 3 with masked prompts of lengths 3, 1, 2 and 0."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 80, (4, 9), generator=generator)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORE_INDEX)
    for row, (length, prompt) in enumerate([(9, 3), (6, 1), (4, 2), (3, 0)]):
        mask[row, :length] = 1
        labels[row, prompt:length] = ids[row, prompt:length]
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("model", [small_llama(), small_llama(tie_word_embeddings=False), small_gpt2()])
def test_per_sample_losses_average_to_the_models_own_loss(model: nn.Module) -> None:
    batch = padded_batch()
    scores = Scorer(model)(model, batch)
    own = model(**batch).loss
    torch.testing.assert_close(scores.loss_sum.sum() / scores.targets.sum(), own)
    for row in range(4):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        torch.testing.assert_close(scores.loss[row], model(**alone).loss.detach())


@pytest.mark.parametrize("model", [small_llama(), small_gpt2()])
def test_gradients_equal_those_of_the_models_own_loss(model: nn.Module) -> None:
    batch = padded_batch()
    model(**batch).loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    scores = Scorer(model)(model, batch)
    (scores.objective / scores.targets.sum()).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=2e-6, rtol=1e-4)


def test_signals_equal_probabilities_computed_plainly() -> None:
    model, batch = small_llama(), padded_batch()
    with torch.no_grad():
        scores = Scorer(model)(model, batch)
        probabilities = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.softmax(-1)
    for row in range(4):
        at = [t for t in range(8) if batch["labels"][row, t + 1] != IGNORE_INDEX]
        target = torch.stack([probabilities[row, t, batch["labels"][row, t + 1]] for t in at])
        highest = torch.stack([probabilities[row, t].max() for t in at])
        correct = bool((target == highest).all())
        assert bool(scores.correct[row]) == correct
        torch.testing.assert_close(scores.min_target_probability[row], target.min())
        torch.testing.assert_close(scores.confidence[row], target.min() if correct else highest.mean())


def test_a_sample_that_the_model_knows_is_correct_and_confident() -> None:
    model = small_llama(tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        hidden = model.model(input_ids=torch.tensor([[5, 6]])).last_hidden_state[0, 0]
        model.lm_head.weight[6] = 10 * hidden
    batch = {
        "input_ids": torch.tensor([[5, 6]]),
        "attention_mask": torch.ones(1, 2, dtype=torch.long),
        "labels": torch.tensor([[IGNORE_INDEX, 6]]),
    }
    scores = Scorer(model)(model, batch)
    assert (
        scores.correct.item() and scores.confidence.item() > 0.99 and scores.min_target_probability == scores.confidence
    )


class LossModel(nn.Module):
    """A custom module: a unigram model that returns what it is told to."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.weight, self.kind = nn.Parameter(torch.zeros(80)), kind

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        chosen = -torch.log_softmax(self.weight, 0)[labels[:, 1:].clamp(min=0)] * (labels[:, 1:] != IGNORE_INDEX)
        each = chosen.sum(1) / (labels[:, 1:] != IGNORE_INDEX).sum(1)
        return SimpleNamespace(loss={"vector": each, "scalar": each.mean(), "none": None}[self.kind])


def test_a_vector_loss_gives_each_sample_its_own_signal() -> None:
    model, batch, warnings = LossModel("vector"), padded_batch(), []
    with torch.no_grad():
        model.weight[:40] = 2.0
    scores = Scorer(model, warn=warnings.append)(model, batch)
    assert scores.exact and not warnings and len(scores.loss.unique()) > 1
    scores.objective.backward()
    assert model.weight.grad.abs().sum() > 0


def test_a_scalar_loss_falls_back_to_the_batch_with_one_warning() -> None:
    model, batch, warnings = LossModel("scalar"), padded_batch(), []
    scorer = Scorer(model, warn=warnings.append)
    first, _ = scorer(model, batch), scorer(model, batch)
    assert not first.exact and len(first.loss.unique()) == 1 and len(warnings) == 1
    torch.testing.assert_close(
        first.loss_sum.sum() / first.targets.sum(), model(batch["input_ids"], batch["labels"]).loss
    )


def test_a_model_without_logits_and_loss_is_refused() -> None:
    batch = padded_batch()
    with pytest.raises(ModelError, match=r"neither \.logits nor \.loss"):
        Scorer(LossModel("none"))(LossModel("none"), batch)


def test_own_functions_decide_and_see_the_logits_of_every_position() -> None:
    model, batch, seen = small_llama(), padded_batch(), []

    def confidence(outputs: object, given: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(outputs.logits.shape)  # type: ignore[attr-defined]
        return torch.full((len(given["labels"]),), 0.5)

    scores = Scorer(model, confidence, lambda outputs, given: torch.tensor([True, False, True, False]))(model, batch)
    assert seen == [(4, 9, 80)] and scores.confidence.tolist() == [0.5] * 4
    assert scores.correct.tolist() == [True, False, True, False]
    with pytest.raises(ModelError, match="one value per sample"):
        Scorer(small_llama(), lambda outputs, given: torch.tensor(0.5))(model, batch)


def test_a_model_that_uses_its_heads_weights_without_calling_it_is_scored_all_the_same() -> None:
    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embedding, self.head = nn.Embedding(80, 8), nn.Linear(8, 80, bias=False)

        def get_output_embeddings(self) -> nn.Module:
            return self.head

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=self.embedding(input_ids) @ self.head.weight.T)

    model, batch = Direct(), padded_batch()
    logits = model(batch["input_ids"], batch["attention_mask"]).logits
    expected = torch.nn.functional.cross_entropy(logits[2, :-1], batch["labels"][2, 1:])
    torch.testing.assert_close(Scorer(model)(model, batch).loss[2], expected.detach())


class Classifier(nn.Module):
    """Logits of a few classes: one for each sample, or for each token."""

    def __init__(self, *, per_token: bool) -> None:
        super().__init__()
        self.per_token, self.embed = per_token, nn.Embedding(80, 5)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        logits = self.embed(input_ids)
        return SimpleNamespace(logits=logits if self.per_token else logits[:, 0])


@pytest.mark.parametrize("per_token", [True, False])
def test_a_classifier_is_refused_with_the_shape_of_its_logits(per_token: bool) -> None:
    model = Classifier(per_token=per_token)
    with pytest.raises(ModelError, match=r"logits have shape \((4, 9, 5|4, 5)\).*not a classifier"):
        Scorer(model)(model, padded_batch())


def test_positions_that_are_no_tokens_of_the_batch_are_refused() -> None:
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(small_llama(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ModelError, match=r"head sees 48 positions where the batch has 36.*use LoRA instead"):
        Scorer(model)(model, padded_batch())


@pytest.mark.parametrize("fused", [True, False])
def test_the_router_loss_of_a_mixture_of_experts_is_trained_with(fused: bool) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=80, num_key_value_heads=2, num_local_experts=4, output_router_logits=True,
            router_aux_loss_coef=0.5, **sizes,
        )
    )  # fmt: skip
    batch = padded_batch()
    own = model(**batch)
    own.loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    signal = None if fused else lambda outputs, batch: torch.zeros(4)
    scores = Scorer(model, compute_confidence=signal)(model, batch)
    (scores.objective / scores.targets.sum()).backward()

    torch.testing.assert_close(scores.objective / scores.targets.sum(), own.loss)
    text_loss = scores.loss_sum.sum() / scores.targets.sum()
    torch.testing.assert_close(text_loss + 0.5 * own.aux_loss, own.loss)
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=2e-6, rtol=1e-4)
