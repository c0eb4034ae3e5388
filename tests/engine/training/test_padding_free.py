"""Runs without padding: the same results as with it, chosen where the attention and the model allow it, and said."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from geko_engine import GEKOConfig, GEKOTrainer, GEKOTrainingArgs, RunConfig
from geko_engine.config.run_config import read_yaml
from geko_engine.data.packed_batches import PackedCollator
from geko_engine.exceptions import ConfigError
from geko_engine.reporting.events import Message, RunStarted, StepCompleted
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import small_gpt2, small_llama
from tests.engine.processes import in_processes
from tests.engine.scoring.test_own_loss import Own, smoothed
from tests.engine.scoring.test_packing_check import MIXING, rows
from tests.engine.training.test_trainer import OFF, trainer_for, weights

RULE = GEKOConfig(
    freeze_confidence=0.3, min_q_for_freeze=0.5, initial_scan=True, recheck_ratio=0.5, min_known_share=0.0
)
LORA = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
LENGTHS = [int(n) for n in np.random.default_rng(3).integers(2, 40, 48)]
FLASH, LEAKING = "flash_of_the_tests", "flash_that_leaks"


def outcome(folder: Path, model: nn.Module, **options: Any) -> dict[str, Any]:
    events: list[Any] = []
    trainer = trainer_for(
        folder, model, data=rows(LENGTHS), eval_dataset=rows(LENGTHS[:12], 1), on_event=events.append, **options
    )
    report = trainer.train()
    return {
        "report": report,
        "losses": [event.loss for event in events if isinstance(event, StepCompleted)],
        "weights": weights(trainer),
        "record": dict(trainer.states.arrays),
        "counter": trainer.progress.counter,
        "packed": trainer.engine.is_packed,
        "evaluation": trainer.evaluator.last,
        "header": next(event.options["padding_free"] for event in events if isinstance(event, RunStarted)),
        "messages": [event.text for event in events if isinstance(event, Message)],
    }


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], GEKOConfig, Any]] = {
    "Llama, off": (small_llama, {}, OFF, None),
    "GPT-2, the rule and scans": (small_gpt2, {}, RULE, None),
    "by tokens": (small_llama, {"max_tokens_per_batch": 70}, RULE, None),
    "gradient checkpointing, accumulation": (
        small_llama,
        {"gradient_checkpointing": True, "batch_size": 4, "gradient_accumulation_steps": 2},
        OFF,
        None,
    ),
    "LoRA": (small_llama, {}, RULE, LORA),
    "LoRA, gradient checkpointing": (small_llama, {"gradient_checkpointing": True}, OFF, LORA),
    "batches at random": (small_llama, {"group_by_length": False}, OFF, None),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_without_padding_is_the_run_with_it(tmp_path: Path, name: str) -> None:
    model, args, config, lora = CASES[name]
    usual = {"num_epochs": 2, "learning_rate": 1e-3, "optim": "sgd", "padding_free": "off"} | args
    options = {"config": config, "lora_config": lora}
    padded = outcome(tmp_path / "padded", model(), args=usual, **options)
    packed = outcome(tmp_path / "packed", model(), args=usual | {"padding_free": "on"}, **options)
    assert packed["packed"] and packed["header"] == "on (sdpa)" and not padded["packed"]
    assert padded["header"] == "off (switched off)"
    assert packed["losses"] == pytest.approx(padded["losses"], rel=1e-5)
    for name, tensor in padded["weights"].items():
        torch.testing.assert_close(packed["weights"][name], tensor, rtol=1e-4, atol=2e-6)
    for name, column in padded["record"].items():
        np.testing.assert_allclose(packed["record"][name], column, rtol=1e-4, atol=1e-5, err_msg=name)
    assert packed["counter"].padding == 0 < padded["counter"].padding
    assert packed["counter"].forwarded == padded["counter"].forwarded
    np.testing.assert_allclose(packed["evaluation"].loss, padded["evaluation"].loss, rtol=1e-4)
    assert packed["evaluation"].padding == 0


def test_by_tokens_only_real_ones_count(tmp_path: Path) -> None:
    passes = []
    for asked in ("off", "on"):
        args = {"batch_size": 16, "max_tokens_per_batch": 120, "padding_free": asked, "group_by_length": False}
        engine = trainer_for(tmp_path, data=rows(LENGTHS), args=args).engine
        lengths = np.array(LENGTHS)
        passes.append(engine.micro_batches.count(lengths))
        for positions, _ in engine.micro_batches.shares(lengths, 0):
            assert asked == "off" or lengths[positions].sum() <= 120
    assert passes[1] < passes[0]


# ---------------------------------------------------------------- an attention with bounds, as Flash Attention has


def by_bounds(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, dropout: float = 0.0, **given: Any
) -> tuple[Tensor, None]:
    """Each sample by itself, between the bounds that Flash Attention takes."""
    key, value = (x.repeat_interleave(module.num_key_value_groups, 1) for x in (key, value))
    ends = given["cu_seq_lens_q"].tolist() if "cu_seq_lens_q" in given else [0, query.shape[2]]
    assert query.shape[0] == 1 or "cu_seq_lens_q" not in given
    assert max(b - a for a, b in itertools.pairwise(ends)) == given.get("max_length_q", query.shape[2])
    parts = [
        scaled_dot_product_attention(*(x[:, :, a:b] for x in (query, key, value)), is_causal=True)
        for a, b in itertools.pairwise(ends)
    ]
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def without_bounds(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **given: Any
) -> tuple[Tensor, None]:
    """One whole row, as an attention would that does not know them."""
    return by_bounds(module, query, key, value, attention_mask)


@pytest.fixture
def flash() -> Iterator[None]:
    for name, function in ((FLASH, by_bounds), (LEAKING, without_bounds)):
        ALL_ATTENTION_FUNCTIONS.register(name, function)
    yield
    for name in (FLASH, LEAKING):
        del ALL_ATTENTION_FUNCTIONS._global_mapping[name]


def llama_with(attention: str) -> LlamaForCausalLM:
    model = small_llama()
    model.config._attn_implementation = attention  # asked for by its name, it would have to be a package's
    return model


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize("args", [{}, {"gradient_checkpointing": True}])
def test_by_itself_it_packs_where_the_attention_takes_bounds(tmp_path: Path, args: dict[str, Any]) -> None:
    args = {"num_epochs": 1, "optim": "sgd"} | args
    found = outcome(tmp_path / "1", llama_with(FLASH), config=OFF, args=args)
    assert found["packed"] and found["header"] == f"on ({FLASH})"
    padded = outcome(tmp_path / "2", small_llama(), config=OFF, args=args)
    assert padded["header"] == "off (sdpa has no kernels for samples of different lengths)"
    assert found["losses"] == pytest.approx(padded["losses"], rel=1e-5)


@pytest.mark.usefixtures("flash")
def test_an_attention_that_leaks_is_padded_in_length_groups_and_named(tmp_path: Path) -> None:
    found = outcome(tmp_path, llama_with(LEAKING), config=OFF, args={"num_epochs": 1})
    (sentence,) = [text for text in found["messages"] if "padded" in text]
    assert sentence == (
        "Batches are padded, in groups of similar length, although flash_that_leaks could do without: the predictions of a "
        "sample change with the other samples in its row."
    )
    assert not found["packed"] and found["header"].startswith("off (the predictions of a sample change")


# ---------------------------------------------------------------- what cannot be packed


def with_convolution() -> nn.Module:
    kind, values = MIXING["LFM2: a convolution"]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values))


class Headless(nn.Module):
    """A model without an output embedding that could be found."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_llama()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)


def with_prefixes() -> nn.Module:
    return get_peft_model(small_llama(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))


class WithOwnLoss(Own):
    """A loss of its own, and positions."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Any:
        return super().forward(input_ids, attention_mask, labels)


class Refusing(LlamaForCausalLM):
    def forward(self, *args: Any, position_ids: Tensor | None = None, **others: Any) -> Any:
        if position_ids is not None:
            raise ValueError("no positions, please")
        return super().forward(*args, **others)


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "a convolution": (with_convolution, {}, "the predictions of a sample change with the other samples in its row"),
    "prefixes": (with_prefixes, {}, "the predictions of a sample change with the other samples in its row"),
    "own functions": (
        small_llama,
        {"compute_confidence": lambda outputs, batch: None},
        "compute_confidence and compute_",
    ),
    "own loss": (lambda: WithOwnLoss(smoothed), {}, "the model's own loss is one for the whole batch"),
    "no head": (Headless, {}, "the model has no output embedding"),
    "no positions": (lambda: Own(None), {}, "the model takes no position_ids"),
    "an error": (lambda: Refusing(small_llama().config), {}, "refuses such a row (ValueError: no positions, please)"),
}


@pytest.mark.filterwarnings("ignore:Position ids are not supported")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_packed_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    model, options, reason = REFUSED[name]
    with pytest.raises(ConfigError, match="set padding_free to auto or off") as refused:
        trainer_for(tmp_path, model(), OFF, args={"padding_free": "on"}, **options)
    ((field, sentence),) = refused.value.problems
    assert field == "training.padding_free" and reason in sentence


def test_noise_on_the_embeddings_would_shrink_with_the_row(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the noise of neftune_noise_alpha gets smaller as a row gets longer"):
        trainer_for(tmp_path, small_llama(), OFF, args={"padding_free": "on", "neftune_noise_alpha": 5.0})


class OtherLossInTraining(LlamaForCausalLM):
    """A loss of its own, in training only."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **others: Any,
    ) -> Any:
        outputs = super().forward(input_ids, attention_mask, position_ids, labels=labels, **others)
        if self.training and outputs.loss is not None:
            outputs.loss = outputs.loss + 0.5
        return outputs


def test_a_loss_that_differs_in_training_alone_is_seen_before_batches_are_packed(tmp_path: Path) -> None:
    model = OtherLossInTraining(small_llama().config).eval()
    with pytest.raises(ConfigError, match="the model's own loss is one for the whole batch"):
        trainer_for(tmp_path, model, OFF, args={"padding_free": "on"})
    assert not model.training


def test_a_dataset_with_positions_of_its_own_is_refused(tmp_path: Path) -> None:
    data = [{**row, "position_ids": np.arange(len(row["input_ids"]))} for row in rows([9, 5])]
    with pytest.raises(ConfigError, match="the dataset has position_ids of its own"):
        trainer_for(tmp_path, data=data, args={"padding_free": "on"})


def test_a_compiled_model_is_refused_before_the_start() -> None:
    with pytest.raises(ConfigError, match=r"torch\.compile wants batches of few lengths: switch one of them off"):
        GEKOTrainingArgs(padding_free="on", compile_model=True)


# ---------------------------------------------------------------- settings, resume, processes


@pytest.mark.parametrize(
    ("written", "read"), [("on", "on"), ("off", "off"), ("auto", "auto"), ("true", "on"), ("'on'", "on")]
)
def test_yaml_reads_on_as_a_truth_value_and_the_setting_as_a_word(tmp_path: Path, written: str, read: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"training:\n  padding_free: {written}\n")
    config = RunConfig.from_dict(read_yaml(path))
    assert config.training.padding_free == read
    path.write_text(config.to_yaml())
    assert RunConfig.from_dict(read_yaml(path)) == config


def test_another_word_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match="'yes' is not one of auto, on, off"):
        RunConfig.from_dict({"training": {"padding_free": "yes"}})


def test_a_run_from_a_configuration(tmp_path: Path) -> None:
    config = RunConfig.demo()
    config.data.sample_count, config.data.eval_count, config.output_dir = 64, 16, str(tmp_path)
    config.training.num_epochs, config.training.padding_free, config.training.answers_per_epoch = 1, "on", 0
    events: list[Any] = []
    report = run(RunFolder.create(config), on_event=events.append)
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    assert started.options["padding_free"] == "on (sdpa)"
    assert report["end"] == "complete" and report["tokens_padding"] == 0


def test_a_resumed_run_says_that_its_batches_are_others(tmp_path: Path) -> None:
    stopped = trainer_for(tmp_path, config=OFF, args={"padding_free": "on", "max_steps": 2})
    stopped.train()
    events: list[Any] = []
    resumed = trainer_for(tmp_path, config=OFF, args={"max_steps": 2}, on_event=events.append)
    resumed.load_checkpoint(next((tmp_path / "out").glob("checkpoint-*")))
    (sentence,) = [event.text for event in events if isinstance(event, Message)]
    assert "training.padding_free is 'off' (was 'on')" in sentence


def in_run(folder: Path, asked: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    args = {"num_epochs": 1, "optim": "sgd", "padding_free": asked, "max_tokens_per_batch": 60}
    trainer: GEKOTrainer = trainer_for(folder, small_llama(), RULE, data=rows(LENGTHS), args=args | {"batch_size": 4})
    trainer.train()
    found = {"record": dict(trainer.states.arrays), "padding": trainer.progress.counter.padding}
    found["weights"] = {name: tensor.numpy() for name, tensor in weights(trainer).items()}
    found["packs"] = isinstance(trainer.engine.collate, PackedCollator)
    trainer.engine.end()
    return found


def test_two_processes_pack_their_shares(tmp_path: Path) -> None:
    padded = in_processes(lambda: in_run(tmp_path / "1", "off"))
    packed = in_processes(lambda: in_run(tmp_path / "2", "on"))
    assert all(one["packs"] and one["padding"] == 0 for one in packed) and padded[0]["padding"]
    for one, other in zip(packed, padded, strict=True):
        for kind in ("record", "weights"):
            for name, column in other[kind].items():
                np.testing.assert_allclose(one[kind][name], column, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_question_to_the_model_draws_nothing(tmp_path: Path) -> None:
    drawn = []
    for asked in ("off", "on"):
        trainer_for(tmp_path, small_gpt2(dropout=0.1), OFF, args={"padding_free": asked})
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
