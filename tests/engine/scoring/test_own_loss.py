"""A model's own loss against GEKO's: kept out where they agree, bit by bit, and trained with where they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import MixtralConfig, MixtralForCausalLM

from geko_engine.data.batches import IGNORE_INDEX
from geko_engine.reporting.events import Message, StepCompleted
from geko_engine.scoring.own_loss import PROBED_SAMPLES, PROBED_TOKENS, probe
from geko_engine.scoring.sample_scores import Scorer
from tests.engine.conftest import small_gpt2, small_llama
from tests.engine.scoring.test_sample_scores import padded_batch
from tests.engine.training.test_trainer import OFF, assert_same_weights, sum_data, trainer_for, weights


def per_token(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Loss of each position [B, T]; 0 where there is no target."""
    return cross_entropy(logits.transpose(1, 2), labels, reduction="none", label_smoothing=smoothing)


def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    return per_token(logits[:, :-1], labels[:, 1:], 0.1).sum() / (labels[:, 1:] != IGNORE_INDEX).sum()


def smoothed_per_sample(logits: Tensor, labels: Tensor) -> Tensor:
    return per_token(logits[:, :-1], labels[:, 1:], 0.1).sum(1) / (labels[:, 1:] != IGNORE_INDEX).sum(1)


def unshifted(logits: Tensor, labels: Tensor) -> Tensor:
    return per_token(logits, labels).sum() / (labels != IGNORE_INDEX).sum()


def mean_of_samples(logits: Tensor, labels: Tensor) -> Tensor:
    each = per_token(logits[:, :-1], labels[:, 1:]).sum(1) / (labels[:, 1:] != IGNORE_INDEX).sum(1)
    return each.mean()


def summed(logits: Tensor, labels: Tensor) -> Tensor:
    return per_token(logits[:, :-1], labels[:, 1:]).sum()


class Own(nn.Module):
    """A model whose loss is `function(logits, labels)`; it counts its forward passes in a buffer, as a norm does."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor] | None, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.inner, self.function = inner or small_llama(), function
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))

    def get_output_embeddings(self) -> nn.Module:
        return self.inner.get_output_embeddings()  # type: ignore[operator,no-any-return]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> SimpleNamespace:
        self.passes += 1
        logits = self.inner(input_ids=input_ids, attention_mask=attention_mask).logits
        loss = None if labels is None or self.function is None else self.function(logits, labels)
        return SimpleNamespace(logits=logits, loss=loss)


class WithoutLoss(Own):
    """The same without a loss of its own: nothing to compare."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:  # type: ignore[override]
        return super().forward(input_ids, attention_mask)


def said(events: list[Any]) -> list[str]:
    return [event.text for event in events if isinstance(event, Message) and "own loss" in event.text]


@pytest.mark.parametrize("function", [smoothed, smoothed_per_sample, unshifted, mean_of_samples, summed])
def test_a_loss_that_differs_is_trained_with_and_said_with_both_values(
    tmp_path: Path, function: Callable[[Tensor, Tensor], Tensor]
) -> None:
    events: list[Any] = []
    trainer = trainer_for(tmp_path, Own(function), OFF, args={"num_epochs": 1}, on_event=events.append)
    first = trainer.engine.collate(probe(trainer.samples))
    with torch.no_grad():
        own = trainer.model(**first).loss.mean()
        scores = Scorer(trainer.model)(trainer.model, first)
    each = function is smoothed_per_sample
    plain = scores.loss.mean() if each else scores.loss_sum.sum() / scores.targets.sum()
    trainer.train()
    (sentence,) = said(events)
    assert f"is {own:.4f}" in sentence and f"is {plain:.4f}" in sentence
    assert ("all samples of a batch get the same scores" in sentence) != each

    reference, losses = Own(function), [event.loss for event in events if isinstance(event, StepCompleted)]
    batch = Collated(trainer)
    with torch.no_grad():
        loss = reference(**batch).loss
        targets = (batch["labels"][:, 1:] != IGNORE_INDEX).sum(1)
    assert losses[0] == pytest.approx(float((loss * targets).sum() / targets.sum()), rel=1e-5)


def Collated(trainer: Any) -> dict[str, Tensor]:
    """The first batch of a run without selection."""
    from tests.engine.training.test_exactness import plain_order

    ids = plain_order(len(trainer.samples), 1, trainer.samples.lengths)[0]
    batch: dict[str, Tensor] = trainer.engine.collate([trainer.samples[i] for i in ids])
    return batch


def test_a_run_in_which_both_agree_is_the_same_bit_by_bit(tmp_path: Path) -> None:
    def mean(logits: Tensor, labels: Tensor) -> Tensor:
        return summed(logits, labels) / (labels[:, 1:] != IGNORE_INDEX).sum()

    events: list[Any] = []
    one = trainer_for(
        tmp_path / "1", Own(mean, small_gpt2(dropout=0.1)), args={"num_epochs": 2}, on_event=events.append
    )
    first = one.train()
    two = trainer_for(tmp_path / "2", WithoutLoss(None, small_gpt2(dropout=0.1)), args={"num_epochs": 2})
    second = two.train()
    assert said(events) == [] and first["train_loss"] == second["train_loss"]
    assert_same_weights(weights(one), weights(two))
    assert one.model.passes == two.model.passes


def test_a_router_loss_is_no_difference(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    experts = {"num_key_value_heads": 2, "num_local_experts": 4, "output_router_logits": True}
    model = MixtralForCausalLM(MixtralConfig(vocab_size=80, router_aux_loss_coef=0.5, **sizes, **experts))
    trainer = trainer_for(tmp_path, model, OFF)
    assert trainer.engine.settle_loss(trainer.samples) == ""


@pytest.mark.parametrize("args", [{"bf16": True}, {"gradient_checkpointing": True}])
def test_rounding_is_no_difference(tmp_path: Path, args: dict[str, Any]) -> None:
    trainer = trainer_for(tmp_path, small_llama(), OFF, args=args)
    trainer.engine.scored.train()
    assert trainer.engine.settle_loss(trainer.samples) == ""


def test_few_tokens_around_the_first_target_are_asked_about() -> None:
    data = sum_data(16)
    long = {"input_ids": torch.arange(500).numpy(), "labels": torch.full((500,), IGNORE_INDEX).numpy()}
    long["labels"][400:] = 1
    samples = Samples([long, *(data[i] for i in range(16))])
    found = probe(samples)
    assert len(found) == PROBED_SAMPLES and all(len(one["input_ids"]) <= PROBED_TOKENS for one in found)
    assert (
        found[0]["input_ids"][0] == 400 - PROBED_TOKENS // 2 and (found[0]["labels"] == 1).sum() == PROBED_TOKENS // 2
    )
    assert probe(Samples([{name: values[:300] for name, values in long.items()}])) == []


class Samples(list[Any]):
    """Items with their number of targets."""

    @property
    def targets(self) -> Any:
        return torch.tensor([int((item["labels"][1:] != IGNORE_INDEX).sum()) for item in self]).numpy()


@pytest.mark.parametrize("function", [smoothed, smoothed_per_sample])
def test_own_functions_decide_beside_an_own_loss(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    model, batch = Own(function), padded_batch()
    scorer = Scorer(model, lambda outputs, given: outputs.logits[:, 0, 0] * 0 + 0.25)
    scorer.use_own_loss()
    scores, loss = scorer(model, batch), model(**batch).loss
    assert scores.confidence.tolist() == [0.25] * 4 and scores.exact == (function is smoothed_per_sample)
    torch.testing.assert_close(
        scores.objective / scores.targets.sum(), (loss * scores.targets).sum() / scores.targets.sum()
    )
    torch.testing.assert_close(scores.loss, loss.detach().expand(4))
