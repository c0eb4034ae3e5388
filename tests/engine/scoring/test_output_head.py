"""Head and loss computed together, against cross_entropy of whole logits; and where that may not be done, it is not."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

from geko_engine.scoring.chunked_loss import PLAIN, Tail, chunk_rows, loss_of_hidden
from geko_engine.scoring.output_head import Head
from geko_engine.scoring.sample_scores import BatchScores, Scorer
from tests.engine.conftest import small_gpt2, small_llama
from tests.engine.families import SMALL
from tests.engine.scoring.test_sample_scores import padded_batch

WEIGHTS = torch.tensor([1.0, 0.25, 2.0, 0.0])


def altered(model_type: str, **changes: Any) -> nn.Module:
    """A small model that changes its logits after the head."""
    torch.manual_seed(0)
    values = SMALL | {"head_dim": 8, "tie_word_embeddings": True} | changes
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **values))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tail]] = {
    "tied": (small_llama, PLAIN),
    "untied": (lambda: small_llama(tie_word_embeddings=False), PLAIN),
    "GPT-2": (small_gpt2, PLAIN),
    "bias in the head": (lambda: altered("phi", tie_word_embeddings=False), PLAIN),
    "Gemma2's cap": (lambda: altered("gemma2", final_logit_softcapping=0.5), Tail(1.0, 0.5)),
    "Cohere's factor": (lambda: altered("cohere", logit_scale=3.0), Tail(3.0)),
    "Granite's divisor": (lambda: altered("granite", logits_scaling=8.0), Tail(0.125)),
}


def reference(model: nn.Module, batch: dict[str, Tensor], weights: Tensor) -> tuple[Tensor, list[float]]:
    """(objective, loss of each sample) from the logits of every position."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
    each = cross_entropy(logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:], reduction="none").sum(1)
    return (each * weights).sum(), each.tolist()


def gradients(model: nn.Module, objective: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    objective.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_as_reference(model: nn.Module, **tolerance: float) -> Scorer:
    batch, scorer = padded_batch(), Scorer(model)
    objective, losses = reference(model, batch, WEIGHTS)
    expected = gradients(model, objective)
    for _ in range(2):  # the first batch is the one that proves it
        scores: BatchScores = scorer(model, batch, WEIGHTS)
        assert scores.loss_sum.tolist() == pytest.approx(losses, rel=1e-4)
        got = gradients(model, scores.objective)
        assert got.keys() == expected.keys()
        for name, gradient in got.items():
            torch.testing.assert_close(gradient, expected[name], **({"atol": 1e-5, "rtol": 1e-4} | tolerance))
    return scorer


def tails(scorer: Scorer) -> set[Tail | None]:
    assert scorer._head is not None
    return set(scorer._head._tails.values())


@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_those_of_whole_logits(name: str) -> None:
    make, tail = MODELS[name]
    model = make()
    if name == "bias in the head":
        nn.init.normal_(model.lm_head.bias)  # type: ignore[union-attr, arg-type]
    assert tails(assert_as_reference(model)) == {tail}


@pytest.mark.parametrize("tail", [PLAIN, Tail(0.5), Tail(2.0, 3.0)])
def test_many_chunks_are_as_one(tail: Tail) -> None:
    torch.manual_seed(0)
    head, hidden = nn.Linear(16, 50_000), torch.randn(200, 16, requires_grad=True)
    target, weight = torch.randint(0, 50_000, (200,)), torch.rand(200)
    assert chunk_rows(50_000, hidden.device) < 100
    logits = tail.scale * head(hidden)
    if tail.cap:
        logits = tail.cap * torch.tanh(logits / tail.cap)
    each = cross_entropy(logits, target, reduction="none")
    probabilities = logits.softmax(-1)
    tensors = (hidden, head.weight, head.bias)
    expected = torch.autograd.grad((each * weight).sum() / 7, tensors)
    found = loss_of_hidden(hidden, head, tail, target, weight)
    for got, wanted in zip(torch.autograd.grad(found.objective / 7, tensors), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found.loss, each.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.highest, probabilities.amax(-1).detach())
    torch.testing.assert_close(found.probability, probabilities.gather(1, target[:, None]).squeeze(1).detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_gradients_are_as_good_as_the_models_own(dtype: torch.dtype) -> None:
    """Scaled up as a GradScaler does it; both are compared with float32."""
    model, batch, scale = small_llama(), padded_batch(), 1024.0
    exact = gradients(model, reference(model, batch, WEIGHTS)[0])
    with torch.autocast("cpu", dtype):
        own = gradients(model, scale * reference(model, batch, WEIGHTS)[0])
        scorer = Scorer(model)
        fused = gradients(model, scale * scorer(model, batch, WEIGHTS).objective)
    assert tails(scorer) == {PLAIN}

    def error(found: dict[str, Tensor]) -> float:
        return float(sum((found[name] / scale - exact[name]).square().sum() for name in exact).sqrt())

    assert error(fused) < 1.5 * error(own)


class Tailed(nn.Module):
    """Tokens that know nothing of each other, and `after` the head whatever a test wants."""

    def __init__(self, after: Callable[[Tailed, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head, self.after = nn.Embedding(80, 16), nn.Linear(16, 80), after
        self.extra, self.dropout = nn.Parameter(torch.zeros(80)), nn.Dropout(0.5)

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        hidden = torch.tanh(self.dropout(self.embedding(input_ids)))
        return SimpleNamespace(logits=self.after(self, hidden, self.head(hidden)))


UNKNOWN: dict[str, Callable[[Tailed, Tensor, Tensor], Tensor]] = {
    "squared": lambda model, hidden, logits: logits.square(),
    "a trained bias that is zero as yet": lambda model, hidden, logits: logits + model.extra,
    "a frozen bias": lambda model, hidden, logits: logits + torch.arange(80) / 100,
    "a second call of the head": lambda model, hidden, logits: logits + model.head(hidden.square()),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_comes_after_the_head_and_is_not_known_is_noticed(name: str) -> None:
    model = Tailed(UNKNOWN[name]).eval()
    assert tails(assert_as_reference(model)) == {None}


def test_a_hook_that_changes_what_the_head_returns_is_noticed() -> None:
    model = small_llama()
    model.lm_head.register_forward_hook(lambda _module, _args, output: 2 * output)
    assert tails(assert_as_reference(model)) == {None}


def test_an_attempt_that_fails_leaves_no_trace_in_dropout() -> None:
    model, batch = Tailed(UNKNOWN["squared"]).train(), padded_batch()
    known = Scorer(model)
    known(model, batch)  # from here on it knows
    torch.manual_seed(1)
    expected = known(model, batch).loss_sum
    torch.manual_seed(1)
    assert torch.equal(Scorer(model)(model, batch).loss_sum, expected)
    after = torch.rand(1)
    torch.manual_seed(1)
    known(model, batch)
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({"target_modules": ["q_proj"]}, {PLAIN}),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, {PLAIN}),
        ({"target_modules": ["q_proj", "lm_head"]}, set()),
    ],
    ids=["below", "a trained copy", "on the head"],
)
def test_adapters_below_and_on_the_head(options: dict[str, Any], known: set[Tail]) -> None:
    base = small_llama(tie_word_embeddings=False)
    model = get_peft_model(base, LoraConfig(r=4, task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    assert tails(assert_as_reference(model)) == known


class Largest(TorchDispatchMode):
    """The most elements of a tensor that came to be."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *sizes])
        return made


@pytest.mark.parametrize("learns", [True, False])
def test_whole_logits_never_exist(learns: bool) -> None:
    vocabulary = 40_000
    model, ids = small_llama(vocab_size=vocabulary, hidden_size=8), torch.randint(3, vocabulary, (4, 101))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}
    with Largest() as largest, torch.set_grad_enabled(learns):
        scores = Scorer(model)(model, batch)
        if learns:
            scores.objective.backward()
    assert largest.elements == chunk_rows(vocabulary, ids.device) * vocabulary < 400 * vocabulary / 3


def test_its_hooks_do_nothing_when_nobody_scores() -> None:
    model, batch = small_llama(), padded_batch()
    before = model(batch["input_ids"]).logits
    assert Head(model).found
    assert torch.equal(model(batch["input_ids"]).logits, before)
