"""GekoMixin before TRL's SFTTrainer: GEKOTrainer's weights and record, adapters, evaluation, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geko_engine import GEKOConfig
from geko_engine.exceptions import ConfigError
from geko_engine.integrations.transformers import GekoMixin
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import character_tokenizer, small_llama, sum_rows
from tests.engine.integrations.test_transformers_trainer import OFF, SKIPPING, StopAt, items, needs_new
from tests.engine.training.test_trainer import assert_same_weights, sum_data, trainer_for, weights

trl = pytest.importorskip("trl", reason="the extra trl is not installed")
datasets = pytest.importorskip("datasets")
pytestmark = needs_new


@pytest.fixture(autouse=True)
def no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")  # TRL reports itself to its makers, but not from a CI


class Trainer(GekoMixin, trl.SFTTrainer):  # type: ignore[misc,name-defined]
    pass


def sft(folder: Path, model: Any, config: GEKOConfig | None = None, **options: Any) -> Trainer:
    values = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 5e-3,
        "weight_decay": 0.01,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
    }
    args = trl.SFTConfig(output_dir=str(folder / "out"), **(values | options.pop("args", {})))
    given = {
        "train_dataset": datasets.Dataset.from_list(items(options.pop("count", 48))),
        "processing_class": character_tokenizer(),
        "runs_dir": folder / "runs",
    }
    return Trainer(model=model, args=args, geko=config, **(given | options))


@pytest.mark.parametrize("config", [OFF, SKIPPING], ids=["full training", "skipping"])
def test_it_ends_in_the_weights_and_the_record_of_geko_trainer(tmp_path: Path, config: GEKOConfig) -> None:
    count = 45 if config is OFF else 160
    values = {"lr_scheduler_type": "constant", "warmup_steps": 0, "batch_size": 4, "gradient_accumulation_steps": 2}
    given = {"data": sum_data(count), "eval_dataset": sum_data(20, seed=9), "args": values}
    reference = trainer_for(tmp_path, small_llama(), config, **given)
    expected = reference.train()
    changes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "eval_strategy": "epoch"}
    held_out = datasets.Dataset.from_list(items(20, seed=9))
    trainer = sft(tmp_path, small_llama(), config, count=count, args=changes, eval_dataset=held_out)
    trainer.train()
    assert_same_weights(weights(reference), dict(trainer.model.named_parameters()))
    for name, array in trainer.states.arrays.items():
        np.testing.assert_array_equal(array, reference.states.arrays[name], err_msg=name)
    report = trainer.get_efficiency_report()
    assert report["compute_saved_ratio"] == expected["compute_saved_ratio"]
    assert (report["compute_saved_ratio"] > 0.1) == config.enabled
    assert report["exact_match_after"] == expected["exact_match_after"]
    assert (report["exact_match_after"] > 0.2) == config.enabled
    assert report["eval_loss_after"] == pytest.approx(expected["eval_loss_after"], abs=1e-4)


def test_rows_of_text_adapters_and_a_resume(tmp_path: Path) -> None:
    """TRL renders and tokenises the rows; its adapters are trained; its checkpoints are gone on from."""
    peft = pytest.importorskip("peft")

    def make(folder: Path, **options: Any) -> Trainer:
        lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        rows = datasets.Dataset.from_list(sum_rows(48))
        args = {"eval_strategy": "epoch", "activation_checkpointing": True}
        held_out = datasets.Dataset.from_list(sum_rows(12, seed=3))
        return sft(
            folder, small_llama(), train_dataset=rows, eval_dataset=held_out, peft_config=lora, args=args, **options
        )

    whole = make(tmp_path / "whole")
    whole.train()
    make(tmp_path / "parts", callbacks=[StopAt(8)]).train()
    rest = make(tmp_path / "parts")
    rest.train(resume_from_checkpoint=True)
    assert_same_weights(dict(whole.model.named_parameters()), dict(rest.model.named_parameters()))
    [folder] = [RunFolder.open(path) for path in (tmp_path / "parts" / "runs").iterdir()]
    report, config = folder.report(), folder.config()
    assert report["end"] == "complete" and len(whole.session.state.evaluations) == 3
    assert report["eval_loss_after"] < 5 and report["eval_loss_before"] is None
    assert config.lora.enabled and config.lora.r == 4 and config.training.gradient_checkpointing
    started = next(event for _, event in folder.events() if event["type"] == "RunStarted")
    assert started["options"]["trainer"] == f"trl.SFTTrainer {trl.__version__}"
    assert 0.9 < report["backward_cost"] < 2.5  # adapters about 1, and the layers once more


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"packing": True, "max_length": 64, "packing_strategy": "wrapped"}, "packing"),
        ({"padding_free": True, "max_length": None}, "padding_free"),
        ({"loss_type": "dft"}, "dft"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        sft(tmp_path, small_llama(), args=changes)
