"""Several processes (gloo on the CPU) against one: copies, shards, weights that a batch leaves out, other numbers of processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, MixtralConfig, OPTConfig, OPTForCausalLM

from geko_engine import GEKOConfig, GEKOTrainer
from geko_engine.data.batches import SAMPLE_WEIGHTS
from geko_engine.exceptions import CheckpointError, ConfigError, ModelError, RunError
from geko_engine.models.placement import require_trainable_placement
from geko_engine.models.sharding import layers, own_part, reshard, whole
from geko_engine.reporting.events import Message, StepCompleted
from geko_engine.training.engine import TrainingEngine
from geko_engine.training.parallel import may_leave_weights_out
from geko_engine.training.step_size import split_step, step_problem
from tests.engine.conftest import small_gpt2, small_llama
from tests.engine.processes import in_processes
from tests.engine.training.test_trainer import OFF, sum_data, trainer_for

RULE = GEKOConfig(freeze_confidence=0.3, min_q_for_freeze=0.5, initial_scan=True)
LORA = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


# ---------------------------------------------------------------- step sizes


@pytest.mark.parametrize(
    ("samples", "batch_size", "processes", "expected"),
    [
        (64, 8, 1, (8, 8)),
        (64, 8, 16, (4, 1)),
        (64, 8, 8, (8, 1)),
        (24, 8, 2, (6, 2)),
        (64, 8, 3, None),
        (4, 8, 8, None),
    ],
)
def test_a_step_is_shared_out_with_batches_as_large_as_allowed(
    samples: int, batch_size: int, processes: int, expected: tuple[int, int] | None
) -> None:
    assert split_step(samples, batch_size, processes) == expected


def test_the_way_back_to_the_step_of_the_checkpoint_is_named() -> None:
    assert step_problem(64, 8, 8, 1) == ""
    assert step_problem(64, 8, 1, 1).endswith("here they would have 8: set gradient_accumulation_steps to 8")
    assert step_problem(64, 8, 1, 16).endswith("set batch_size to 4 and gradient_accumulation_steps to 1")
    assert "3 processes cannot share evenly: start 2 of them" in step_problem(64, 8, 1, 3)


# ---------------------------------------------------------------- what is run in each process


def outcome(trainer: GEKOTrainer, losses: list[float]) -> dict[str, Any]:
    """Losses, record and whole weights; every process has to call it."""
    reshard(trainer.engine.scored)
    weights = {n: whole(p.detach()).float().numpy() for n, p in trainer.model.named_parameters() if p.requires_grad}
    return {
        "losses": losses,
        "weights": weights,
        "record": dict(trainer.states.arrays),
        "evaluations": [(e["step"], e["eval_loss"], e["exact_match"]) for e in trainer.progress.evaluations],
        "tokens": trainer.progress.counter.forwarded,
        "searched": getattr(trainer.engine._synchronized, "find_unused_parameters", None),
    }


def trained(
    folder: Path,
    model: Callable[[], nn.Module],
    *,
    stop_at: int = 0,
    resume: Path | None = None,
    said: list[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train three epochs, or to the `stop_at`-th question whether to stop, and say what came out."""
    losses: list[float] = []
    asked = iter(range(1, 10**9))

    def note(event: Any) -> None:
        if isinstance(event, StepCompleted):
            losses.append(event.loss)
        elif isinstance(event, Message) and said is not None:
            said.append(event.text)

    args = {"batch_size": 8, "eval_steps": 4} | options.pop("args", {})
    rule = options.pop("config", RULE)
    options = {"eval_dataset": sum_data(15, seed=9), "on_event": note} | options
    trainer = trainer_for(folder, model(), rule, args=args, should_stop=lambda: next(asked) == stop_at, **options)
    if resume is not None:
        trainer.load_checkpoint(resume)
    trainer.train()
    found = outcome(trainer, losses)
    trainer.save_model(folder / "model")
    trainer.engine.wait()
    return found


def assert_alike(found: dict[str, Any], expected: dict[str, Any], tolerance: float = 2e-5) -> None:
    """Equal but for rounding; what is counted or decided is equal."""
    assert found["losses"] == pytest.approx(expected["losses"], abs=tolerance)
    assert found["tokens"] == expected["tokens"]
    for name, value in expected["weights"].items():
        np.testing.assert_allclose(found["weights"][name], value, atol=tolerance, err_msg=name)
    for name, value in expected["record"].items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(found["record"][name], value, atol=1e-3, err_msg=name)
        else:
            np.testing.assert_array_equal(found["record"][name], value, err_msg=name)
    assert np.array(found["evaluations"]) == pytest.approx(np.array(expected["evaluations"]), abs=1e-4)


# ---------------------------------------------------------------- weights that a batch leaves out


class Experts(nn.Module):
    """Each sample goes through the expert that its length names; nobody goes through the last one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(80, 16)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        self.head = nn.Linear(16, 80)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        hidden = self.embedding(input_ids)
        route = attention_mask.sum(1) % 3
        out = torch.zeros_like(hidden)
        for number, expert in enumerate(self.experts):
            rows = (route == number).nonzero().squeeze(1)
            if len(rows):
                out = out.index_add(0, rows, torch.tanh(expert(hidden[rows])))
        return SimpleNamespace(logits=self.head(hidden + out))


def with_an_unused_weight() -> nn.Module:
    model = small_llama()
    model.unused = nn.Parameter(torch.ones(3))
    return model


@pytest.mark.parametrize(("model", "searched"), [(Experts, True), (with_an_unused_weight, True), (small_llama, False)])
def test_copies_train_as_one_process_does_whatever_a_batch_leaves_out(
    tmp_path: Path, model: Callable[[], nn.Module], searched: bool
) -> None:
    """Accumulation too: a weight may get its gradient in any of the micro-batches, and stays without one in others."""
    options: dict[str, Any] = {"config": OFF, "args": {"batch_size": 4, "eval_steps": 0}}
    expected = trained(tmp_path / "one", model, **options)
    args = {"batch_size": 1, "gradient_accumulation_steps": 2, "eval_steps": 0}
    first, second = in_processes(lambda: trained(tmp_path / "two", model, config=OFF, args=args))
    assert_alike(first, expected)
    assert first["searched"] is searched
    for name, value in first["weights"].items():
        np.testing.assert_array_equal(second["weights"][name], value, err_msg=name)


def test_only_models_whose_batches_may_differ_are_searched_in_each_step() -> None:
    assert not may_leave_weights_out(small_llama()) and not may_leave_weights_out(small_gpt2())
    assert may_leave_weights_out(Experts())
    assert may_leave_weights_out(OPTForCausalLM(OPTConfig(**TINY_OPT, layerdrop=0.1)))
    assert not may_leave_weights_out(OPTForCausalLM(OPTConfig(**TINY_OPT)))
    with torch.device("meta"):
        assert may_leave_weights_out(AutoModelForCausalLM.from_config(MixtralConfig(num_hidden_layers=1)))


TINY_OPT = {"vocab_size": 80, "hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


# ---------------------------------------------------------------- other numbers of processes


def test_a_checkpoint_of_two_processes_goes_on_in_one_and_the_other_way(tmp_path: Path) -> None:
    expected = trained(tmp_path / "whole", small_llama)
    in_processes(lambda: trained(tmp_path / "two", small_llama, stop_at=9, args={"batch_size": 4}))
    (checkpoint,) = (tmp_path / "two" / "out").glob("checkpoint-*")
    with pytest.raises(
        CheckpointError, match="8 samples, and here they would have 4: set gradient_accumulation_steps to 2"
    ):
        trained(tmp_path / "wrong", small_llama, resume=checkpoint, args={"batch_size": 4})
    said: list[str] = []
    args = {"batch_size": 4, "gradient_accumulation_steps": 2}
    found = trained(tmp_path / "one", small_llama, resume=checkpoint, said=said, args=args)
    steps = len(found["losses"])
    assert 0 < steps < len(expected["losses"])
    assert_alike(found, {**expected, "losses": expected["losses"][-steps:]})
    assert any("1 process instead of 2 (dropout draws other numbers)" in text for text in said)

    trained(tmp_path / "stopped", small_llama, stop_at=20)
    (checkpoint,) = (tmp_path / "stopped" / "out").glob("checkpoint-*")
    (found, _) = in_processes(lambda: trained(tmp_path / "on", small_llama, resume=checkpoint, args={"batch_size": 4}))
    assert_alike(found, {**expected, "losses": expected["losses"][-len(found["losses"]) :]})


# ---------------------------------------------------------------- shards

SHARDED = {"batch_size": 4, "fsdp": "full_shard"}


def test_shards_train_save_and_resume_as_one_process_does(tmp_path: Path) -> None:
    """Evaluation, scan, skipping, clipping and accumulation; then stopped, and on with shards and without."""
    expected = trained(tmp_path / "one", small_llama)
    recomputed = {"gradient_checkpointing": True}
    lora = trained(tmp_path / "lora-one", small_llama, lora_config=LORA, args=recomputed)
    accumulated = {**SHARDED, "batch_size": 2, "gradient_accumulation_steps": 2}

    def work() -> dict[str, dict[str, Any]]:
        found = {"whole": trained(tmp_path / "two", small_llama, args=accumulated)}
        found["lora"] = trained(tmp_path / "lora", small_llama, args=SHARDED | recomputed, lora_config=LORA)
        trained(tmp_path / "stopped", small_llama, stop_at=12, args=SHARDED)
        (checkpoint,) = (tmp_path / "stopped" / "out").glob("checkpoint-*")
        found["resumed"] = trained(tmp_path / "resumed", small_llama, resume=checkpoint, args=SHARDED)
        found["copies"] = trained(tmp_path / "copies", small_llama, resume=checkpoint, args={"batch_size": 4})
        found["bf16"] = trained(tmp_path / "bf16", small_llama, args={**SHARDED, "bf16": True})
        return found

    first, second = in_processes(work)
    assert_alike(first["whole"], expected)
    assert_alike(first["lora"], lora)
    for name in ("resumed", "copies"):
        steps = len(first[name]["losses"])
        assert 0 < steps < len(expected["losses"])
        assert_alike(first[name], {**expected, "losses": expected["losses"][-steps:]})
    assert first["bf16"]["losses"][-1] == pytest.approx(expected["losses"][-1], abs=0.1)
    for name, value in first["whole"]["weights"].items():
        np.testing.assert_array_equal(second["whole"]["weights"][name], value, err_msg=name)

    (checkpoint,) = (tmp_path / "stopped" / "out").glob("checkpoint-*")
    found = trained(tmp_path / "alone", small_llama, resume=checkpoint)
    assert_alike(found, {**expected, "losses": expected["losses"][-len(found["losses"]) :]})
    for one, two in (("one", "two"), ("lora-one", "lora")):
        assert_same_files(tmp_path / one / "model", tmp_path / two / "model")


def assert_same_files(one: Path, two: Path) -> None:
    """The same files, and the same tensors but for rounding."""
    from safetensors.torch import load_file

    assert {file.name for file in one.iterdir()} == {file.name for file in two.iterdir()}
    (name,) = (file.name for file in one.glob("*.safetensors"))
    a, b = load_file(one / name), load_file(two / name)
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=2e-5, rtol=0)


def test_what_is_not_finite_in_one_shard_is_seen_by_all_processes(tmp_path: Path) -> None:
    """A step is skipped, and a checkpoint or a model refused, in every process: one alone would leave the others waiting."""

    def work() -> tuple[bool, float | None, bool, str]:
        trainer = trainer_for(tmp_path, small_llama(), args=SHARDED)
        engine, samples = trainer.engine, trainer.samples
        parameters = list(trainer.model.parameters())
        assert 0.45 < sum(own_part(p).nbytes for p in parameters) / sum(p.nbytes for p in parameters) < 0.55
        first = parameters[0]
        before = first.to_local().detach().clone()
        batch = engine.collate([samples[0]]) | {SAMPLE_WEIGHTS: torch.ones(1)}
        table = engine.backward(batch, int(samples.targets[0]), last=True)
        if engine.rank:
            assert first.grad is not None
            first.grad.to_local()[0, 0] = float("nan")
        _, updated = engine.update(1e-3, [table], samples.lengths[:2])
        unchanged = torch.equal(first.to_local(), before)
        if engine.rank:
            with torch.no_grad():
                first.to_local()[0, 0] = float("nan")
        with pytest.raises(RunError, match="is not finite any more") as refused:
            trainer.save_checkpoint(tmp_path / "c")
        with pytest.raises(RunError):
            trainer.save_model(tmp_path / "m")
        return updated, engine.gradient_norm, unchanged, str(refused.value)

    first, second = in_processes(work)
    assert first == second and first[:3] == (False, None, True)
    assert not (tmp_path / "c").exists() and not (tmp_path / "m").exists()


# ---------------------------------------------------------------- what is refused before anything is trained


def test_what_cannot_be_trained_from_where_it_lies_is_refused() -> None:
    model = small_llama()
    require_trainable_placement(model)
    model.hf_device_map = {"": 0}
    require_trainable_placement(model)
    model.hf_device_map = {"model.embed_tokens": 0, "model.layers": 1, "lm_head": "cpu"}
    with pytest.raises(ModelError, match="spreads it over 0, 1, cpu"):
        require_trainable_placement(model)
    with torch.device("meta"):
        empty = small_llama()
    with pytest.raises(ModelError, match="on the meta device"):
        require_trainable_placement(empty)
    wrapped = nn.DataParallel(small_llama())
    with pytest.raises(ModelError, match=r"DataParallel already: give the model inside"):
        require_trainable_placement(wrapped)


def test_settings_for_processes_that_are_not_there_are_named(tmp_path: Path) -> None:
    said: list[Any] = []
    trainer_for(tmp_path, args={"num_processes": 2, "fsdp": "full_shard"}, on_event=said.append)
    assert [event.text for event in said] == [
        "The settings ask for 2 processes, and this is one: start the script with torchrun --nproc_per_node 2.",
        "training.fsdp has no effect in one process.",
    ]


def test_a_model_that_cannot_be_saved_is_not_trained(tmp_path: Path) -> None:
    model = small_llama()
    norm = model.model.norm.weight.detach()
    model.first, model.second = nn.Parameter(norm[:20]), nn.Parameter(norm[10:])
    with pytest.raises(ModelError, match=r"overlap in memory, so no checkpoint can hold both"):
        trainer_for(tmp_path, model)


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron"),
    ],
)
def test_engines_of_accelerate_that_are_not_supported_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, name: str
) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ConfigError, match=f"launched with .*{name}.*not supported"):
        trainer_for(tmp_path)


def test_accumulation_set_in_accelerates_configuration_does_not_shrink_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def norm() -> float | None:
        trainer = trainer_for(tmp_path, args={"num_epochs": 1})
        trainer.train()
        engine: TrainingEngine = trainer.engine
        return engine.gradient_norm

    expected = norm()
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert norm() == expected


def test_layers_are_those_that_the_model_names() -> None:
    assert [type(layer).__name__ for layer in layers(small_llama())] == ["LlamaDecoderLayer"] * 2
    with pytest.raises(ModelError, match="does not say which modules are layers"):
        layers(Experts())
