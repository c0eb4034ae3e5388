"""PiSSA takes its beginning out of the base weights: what is saved must fit the base model as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig, LoraSettings, ModelConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError
from geko_engine.inference.run_models import ModelChoice, RunModels
from geko_engine.models.lora import apply_lora
from geko_engine.models.saving import save_model, saved_bytes
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import small_gpt2, small_llama
from tests.engine.training.test_trainer import OFF, assert_same_weights, trainer_for, weights

IDS = torch.arange(3, 23)[None]
CASES: dict[str, dict[str, Any]] = {
    "pissa": {},
    "approximate": {"init_lora_weights": "pissa_niter_16"},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "ranks by layer": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "a whole layer beside": {"modules_to_save": ["norm"]},
}


def pissa(**changes: Any) -> LoraConfig:
    values = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    return LoraConfig(**(values | {"init_lora_weights": "pissa"} | changes))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    small_llama().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("case", CASES)
def test_plain_peft_loads_the_trained_model_from_the_unchanged_base(tmp_path: Path, base: Path, case: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    untrained = logits(model)
    trainer = trainer_for(tmp_path, model, OFF, args={"num_epochs": 1}, lora_config=pissa(**CASES[case]))
    torch.testing.assert_close(logits(trainer.model), untrained, atol=1e-5, rtol=0)  # it begins as the base
    trainer.train()
    trained = logits(trainer.model)
    assert not torch.allclose(trained, untrained, atol=1e-2)
    trainer.save_model(tmp_path / "saved")

    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert loaded.peft_config["default"].init_lora_weights is True and loaded.peft_config["default"].r == 8
    torch.testing.assert_close(logits(loaded), trained, atol=1e-5, rtol=0)
    with loaded.disable_adapter():
        torch.testing.assert_close(logits(loaded), untrained, atol=0, rtol=0)
    torch.testing.assert_close(logits(loaded.merge_and_unload()), trained, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits(trainer.model), trained, atol=0, rtol=0)  # saving changes nothing here
    assert trainer.model.peft_config["default"].r == 4


def test_a_transposed_layer_too(tmp_path: Path) -> None:
    small_gpt2().save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted = apply_lora(model, pissa(target_modules=["c_attn"], fan_in_fan_out=True), lambda text: None)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.mul_(1.5)
    save_model(adapted, None, tmp_path / "saved")
    torch.testing.assert_close(
        logits(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "saved")), logits(adapted), atol=1e-5, rtol=0
    )


def test_a_resume_begins_from_the_same_base_weights(tmp_path: Path) -> None:
    whole = trainer_for(tmp_path / "whole", lora_config=pissa())
    whole.train()
    asked = iter(range(10**9))
    trainer_for(tmp_path / "part", lora_config=pissa(), should_stop=lambda: next(asked) >= 8).train()
    (checkpoint,) = (tmp_path / "part" / "out").glob("checkpoint-*")
    resumed = trainer_for(tmp_path / "part", lora_config=pissa())
    resumed.load_checkpoint(checkpoint)
    resumed.train()
    assert_same_weights(weights(whole), weights(resumed))
    for name, trainer in (("a", whole), ("b", resumed)):
        trainer.save_model(tmp_path / name)
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    assert len(files[0]) == pytest.approx(saved_bytes(whole.model), rel=0.2)


@pytest.mark.parametrize(("kind", "epochs"), [("pissa", 1), ("pissa_niter_16", 1), ("default", "auto")])
def test_a_runs_models_answer_alike_from_the_end_and_from_a_checkpoint(
    tmp_path: Path, model_folder: Path, data_file: Path, kind: str, epochs: Any
) -> None:
    """With auto, the checkpoint has the last weights and their average: the average is what the run delivers."""
    config = RunConfig(
        ModelConfig(str(model_folder)),
        DataConfig(str(data_file)),
        LoraSettings(enabled=True, r=4, dropout=0.0, init_lora_weights=kind),
        GEKOTrainingArgs(
            num_epochs=epochs, max_epochs=2, batch_size=8, learning_rate=1e-2, warmup_steps=0, save_total_limit=1
        ),
        output_dir=str(tmp_path / "runs"),
    )
    folder = RunFolder.create(config)
    assert run(folder)["end"] == "complete"
    (checkpoint,) = (path.name for path in folder.checkpoints_path.glob("checkpoint-*"))
    untrained = logits(AutoModelForCausalLM.from_pretrained(model_folder))
    models, found = RunModels(), {}
    for which in ("final", checkpoint):
        with models.tuned(ModelChoice.of(folder, which)) as model:
            found[which] = logits(model)
        with models.base(ModelChoice.of(folder, which)) as model:
            torch.testing.assert_close(logits(model), untrained, atol=0, rtol=0)
    torch.testing.assert_close(found["final"], found[checkpoint], atol=1e-5, rtol=0)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), folder.model_path)
    torch.testing.assert_close(logits(plain), found["final"], atol=1e-5, rtol=0)


def test_quantized_weights_are_refused() -> None:
    values = {"model": {"quantization": "4bit"}, "lora": {"enabled": True, "init_lora_weights": "pissa"}}
    with pytest.raises(ConfigError, match="quantized weights do not allow: choose default") as caught:
        RunConfig.from_dict(values)
    assert caught.value.field == "lora.init_lora_weights"
