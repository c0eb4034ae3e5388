"""What can be proved on a GPU only: precisions, the scaler, quantized kernels, compiling, flash attention, memory, names."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import ModelConfig
from geko_engine.reporting.events import Event, Message, RunStarted, StepCompleted
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from geko_engine.scoring.sample_scores import Scorer
from tests.engine.conftest import character_tokenizer, small_gpt2, small_llama
from tests.engine.models.test_quantization import trainer_of
from tests.engine.scoring.test_own_loss import Own, WithoutLoss, summed
from tests.engine.scoring.test_sample_scores import padded_batch
from tests.engine.training.test_trainer import OFF, assert_same_weights, trainer_for, weights

pytestmark = pytest.mark.gpu
LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def losses_of(tmp_path: Path, model: Any, **options: Any) -> list[float]:
    """Losses of the steps of a run without selection; the run is on the device that was asked for."""
    events: list[Event] = []
    trainer_for(tmp_path, model, OFF, on_event=events.append, **options).train()
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    assert started.device.startswith(DEVICE)
    return [event.loss for event in events if isinstance(event, StepCompleted)]


def test_scores_are_those_of_the_cpu(cuda: torch.device) -> None:
    model, batch = small_llama(), padded_batch()
    expected = Scorer(model)(model, batch)
    model = small_llama().to(cuda)
    found = Scorer(model)(model, {name: value.to(cuda) for name, value in batch.items()})
    for name in ("objective", "loss_sum", "targets", "loss", "confidence", "min_target_probability"):
        torch.testing.assert_close(getattr(found, name).cpu(), getattr(expected, name), atol=1e-4, rtol=1e-4)
    assert found.correct.tolist() == expected.correct.tolist()


@pytest.mark.parametrize("args", [{}, {"bf16": True}, {"gradient_checkpointing": True}])
@pytest.mark.parametrize("lora", [None, LORA])
def test_losses_are_those_of_float32(tmp_path: Path, args: dict[str, Any], lora: LoraConfig | None) -> None:
    plain = losses_of(tmp_path / "plain", small_llama(), args={"num_epochs": 2}, lora_config=lora)
    found = losses_of(tmp_path / "other", small_llama(), args={"num_epochs": 2} | args, lora_config=lora)
    assert found == pytest.approx(plain, abs=5e-2) and found[-1] < found[0]


def test_float16_trains_with_a_scaler_that_a_resume_takes_along(tmp_path: Path, cuda: torch.device) -> None:
    trainer = trainer_for(tmp_path, config=OFF, args={"fp16": True, "num_epochs": 2})
    assert trainer.train()["train_loss"] < 4
    scaler = trainer.engine.accelerator.scaler
    assert scaler is not None
    trainer.save_checkpoint(tmp_path / "c")
    resumed = trainer_for(tmp_path, config=OFF, args={"fp16": True, "num_epochs": 2})
    resumed.load_checkpoint(tmp_path / "c")
    assert resumed.engine.accelerator.scaler.state_dict() == scaler.state_dict()


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_adapters_on_quantized_weights_are_trained_and_resumed(tmp_path: Path, bits: str) -> None:
    folder = tmp_path / "base"
    small_llama(hidden_size=64).save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    config = ModelConfig(str(folder), quantization=bits)
    asked = iter(range(10**9))
    part = trainer_of(config, tmp_path / "part", {"bf16": True}, should_stop=lambda: next(asked) >= 8)
    assert part.train()["end"] == "stopped"
    (checkpoint,) = (tmp_path / "part").glob("checkpoint-*")
    resumed = trainer_of(config, tmp_path / "part", {"bf16": True})
    resumed.load_checkpoint(checkpoint)
    assert resumed.train()["steps"] == 6


@pytest.mark.parametrize("optim", ["paged_adamw_8bit", "paged_adamw_32bit"])
def test_paged_optimizers_train(tmp_path: Path, cuda: torch.device, optim: str) -> None:
    plain = losses_of(tmp_path / "plain", small_llama(), args={"num_epochs": 2})
    found = losses_of(tmp_path / "paged", small_llama(), args={"num_epochs": 2, "optim": optim})
    assert found == pytest.approx(plain, abs=5e-2)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_model_trains_to_the_same_losses(tmp_path: Path) -> None:
    torch._dynamo.reset()
    plain = losses_of(tmp_path / "plain", small_llama(), args={"num_epochs": 1})
    found = losses_of(tmp_path / "compiled", small_llama(), args={"num_epochs": 1, "compile_model": True})
    assert found == pytest.approx(plain, abs=1e-2)


@pytest.mark.parametrize("padding_free", ["off", "auto"])
def test_flash_attention_trains_to_the_same_losses(tmp_path: Path, cuda: torch.device, padding_free: str) -> None:
    if importlib.util.find_spec("flash_attn") is None:
        pytest.skip("flash_attn is not installed")
    plain = losses_of(tmp_path / "plain", small_llama().to(torch.bfloat16), args={"num_epochs": 1, "bf16": True})
    model = small_llama(attn_implementation="flash_attention_2").to(torch.bfloat16)
    events: list[Event] = []
    args = {"num_epochs": 1, "bf16": True, "padding_free": padding_free}
    trainer = trainer_for(tmp_path / "flash", model, OFF, on_event=events.append, args=args)
    trainer.train()
    losses = [event.loss for event in events if isinstance(event, StepCompleted)]
    assert losses == pytest.approx(plain, abs=5e-2) and trainer.engine.is_packed == (padding_free == "auto")
    assert trainer.progress.counter.padding == 0 or padding_free == "off"


def test_without_padding_the_losses_are_the_same(tmp_path: Path) -> None:
    plain = losses_of(tmp_path / "padded", small_gpt2(), args={"num_epochs": 1, "padding_free": "off"})
    found = losses_of(tmp_path / "packed", small_gpt2(), args={"num_epochs": 1, "padding_free": "on"})
    assert found == pytest.approx(plain, rel=1e-3)


def test_comparing_the_models_own_loss_leaves_the_dropout_of_a_run_alone(tmp_path: Path) -> None:
    def mean(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return summed(logits, labels) / (labels[:, 1:] != -100).sum()

    models = (Own(mean, small_gpt2(dropout=0.1)), WithoutLoss(None, small_gpt2(dropout=0.1)))
    trained = []
    for number, model in enumerate(models):
        trainer = trainer_for(tmp_path / str(number), model, OFF, args={"num_epochs": 1})
        trainer.train()
        trained.append(weights(trainer))
    assert_same_weights(*trained)


@pytest.fixture
def little_memory(cuda: torch.device) -> Iterator[None]:
    """Two gigabytes of the GPU."""
    torch.cuda.set_per_process_memory_fraction(2e9 / torch.cuda.mem_get_info()[1])
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def test_out_of_memory_is_a_sentence_or_smaller_batches(tmp_path: Path, little_memory: None) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"{i} " + "word " * 500}) + "\n" for i in range(512)), encoding="utf-8")
    training = {"num_epochs": 1, "batch_size": 512, "save_at_end": False}
    values = {"data": {"train": str(rows), "max_length": 512}, "output_dir": str(tmp_path / "runs")}
    report = run(RunFolder.create(RunConfig.from_dict(values | {"training": training})))
    assert report["end"] == "failed" and report["reason"].startswith("Memory ran out: halve the batch size")
    seen: list[Event] = []
    config = RunConfig.from_dict(values | {"training": training | {"auto_find_batch_size": True}})
    assert run(RunFolder.create(config), on_event=seen.append)["end"] == "complete"
    assert any(isinstance(e, Message) and "continuing with batch size" in e.text for e in seen)


def test_a_run_from_its_folder_uses_the_gpu_and_its_model_loads_anywhere(tmp_path: Path, cuda: torch.device) -> None:
    config = RunConfig.demo()
    config.data.sample_count, config.data.eval_count, config.training.num_epochs = 200, 20, 1
    config.training.bf16, config.output_dir = True, str(tmp_path / "runs")
    folder = RunFolder.create(config)
    assert run(folder)["end"] == "complete"
    from transformers import AutoModelForCausalLM

    assert {p.device.type for p in AutoModelForCausalLM.from_pretrained(folder.model_path).parameters()} == {"cpu"}


def test_more_samples_than_memory_for_all_logits_are_trained(tmp_path: Path, little_memory: None) -> None:
    """128 x 64 x 150,000 logits in float32 would be 4.9 GB."""
    model = small_llama(vocab_size=150_000, hidden_size=64)
    rows = [{"input_ids": torch.randint(3, 70, (64,))} for _ in range(128)]
    found = losses_of(tmp_path, model, data=rows, args={"num_epochs": 1, "batch_size": 128, "bf16": True})
    assert len(found) == 1
