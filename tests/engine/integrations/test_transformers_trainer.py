"""GekoMixin before transformers.Trainer: GEKOTrainer's weights and record bit by bit, resumes, the run folder, refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import DataCollatorForLanguageModeling, TrainerCallback, TrainingArguments

import geko_engine
from geko_engine import GEKOConfig
from geko_engine.data.batches import Collator
from geko_engine.exceptions import CheckpointError, ConfigError, GekoError, ModelError, RunError
from geko_engine.integrations.transformers import GekoMixin
from geko_engine.preflight.checks import preflight
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import character_tokenizer, small_gpt2, small_llama
from tests.engine.training.test_trainer import OFF, assert_same_weights, sum_data, trainer_for, weights

SKIPPING = GEKOConfig(
    min_known_share=0.0,
    freeze_confidence=0.3,
    min_q_for_freeze=0.5,
    prediction_confidence=0.6,
    recheck_ratio=0.5,
    initial_scan=False,
)
needs_new = pytest.mark.skipif(
    not hasattr(transformers.Trainer, "loss_is_scaled_for_ga"), reason="transformers older than 5.19 are refused"
)
pytestmark = needs_new


class Trainer(GekoMixin, transformers.Trainer):
    pass


class StopAt(TrainerCallback):
    """Saves and stops after a step, as early stopping does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


def items(count: int = 48, seed: int = 0) -> list[dict[str, Any]]:
    data = sum_data(count, seed)
    return [{name: values.tolist() for name, values in data[i].items()} for i in range(count)]


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
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
    }
    return TrainingArguments(output_dir=str(folder / "out"), **(values | changes))


def mixed(folder: Path, model: Any, config: GEKOConfig | None = None, **options: Any) -> Trainer:
    """A trainer over sum_data, with `args` changed."""
    changes, count = options.pop("args", {}), options.pop("count", 48)
    values = {"train_dataset": items(count), "data_collator": Collator(0), "runs_dir": folder / "runs"}
    return Trainer(model=model, args=arguments(folder, **changes), geko=config, **(values | options))


def same_as_geko(
    folder: Path, config: GEKOConfig, count: int, dropout: float = 0.0, **args: Any
) -> tuple[Any, dict[str, Any]]:
    """Both trainers on the same weights and data; their weights, records and counts are compared."""
    size = {"batch_size": args.pop("batch_size", 8), "gradient_accumulation_steps": args.pop("accumulation", 1)}
    values = {"lr_scheduler_type": "constant", "warmup_steps": 0, "num_epochs": 4, "learning_rate": 1e-2} | size | args
    reference = trainer_for(folder, small_gpt2(dropout=dropout), config, data=sum_data(count), args=values)
    expected = reference.train()
    changes = {
        "num_train_epochs": values["num_epochs"],
        "learning_rate": values["learning_rate"],
        "per_device_train_batch_size": size["batch_size"],
        "gradient_accumulation_steps": size["gradient_accumulation_steps"],
        "lr_scheduler_type": values["lr_scheduler_type"],
        "warmup_steps": values["warmup_steps"],
    }
    trainer = mixed(folder, small_gpt2(dropout=dropout), config, args=changes, count=count, runs_dir=None)
    trainer.train()
    return trainer, {"weights": weights(reference), "report": expected, "states": reference.states}


def untimed(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if "seconds" not in name}


@pytest.mark.parametrize(
    ("config", "count", "args"),
    [
        (OFF, 45, {"dropout": 0.1}),
        (SKIPPING, 240, {}),
        (SKIPPING, 120, {"batch_size": 3, "accumulation": 4}),
    ],
    ids=["full training", "skipping", "skipping and accumulation"],
)
def test_it_ends_in_the_weights_and_the_record_of_geko_trainer(
    tmp_path: Path, config: GEKOConfig, count: int, args: dict[str, Any]
) -> None:
    trainer, expected = same_as_geko(tmp_path, config, count, **args)
    assert_same_weights(expected["weights"], dict(trainer.model.named_parameters()))
    for name, array in trainer.states.arrays.items():
        np.testing.assert_array_equal(array, expected["states"].arrays[name], err_msg=name)
    report = trainer.get_efficiency_report()
    assert untimed(report) == untimed(expected["report"])
    assert (report["compute_saved_ratio"] > 0.1) == config.enabled


def test_a_schedule_follows_the_data_that_is_done(tmp_path: Path) -> None:
    """Few samples are left: fewer steps than plain training, and yet the rate falls from the peak to its end."""
    trainer, expected = same_as_geko(
        tmp_path, SKIPPING, 120, lr_scheduler_type="linear", warmup_steps=5, num_epochs=4, batch_size=4
    )
    report = trainer.get_efficiency_report()
    assert report["steps"] == expected["report"]["steps"] == trainer.state.global_step < 4 * 30
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter, expected["weights"][name], atol=1e-4, rtol=1e-3)
    assert trainer.lr_scheduler.get_last_lr() == [0.0, 0.0] and trainer.state.epoch == 4


@pytest.mark.parametrize(("stop_at", "workers"), [(3, 0), (6, 0), (9, 1)])
def test_a_stopped_training_resumes_to_the_same_end(tmp_path: Path, stop_at: int, workers: int) -> None:
    """In an epoch, at its end, and in the next one (with a loader process); with dropout and accumulation; the run folder goes on."""
    args = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "lr_scheduler_type": "linear"}
    args["dataloader_num_workers"] = workers

    def make(folder: Path, **options: Any) -> Trainer:
        return mixed(folder, small_gpt2(dropout=0.1), SKIPPING, args=args, **options)

    whole = make(tmp_path / "whole")
    whole.train()
    make(tmp_path / "parts", callbacks=[StopAt(stop_at)]).train()
    rest = make(tmp_path / "parts")
    rest.train(resume_from_checkpoint=True)
    assert_same_weights(dict(whole.model.named_parameters()), dict(rest.model.named_parameters()))
    for name, array in rest.states.arrays.items():
        np.testing.assert_array_equal(array, whole.states.arrays[name], err_msg=name)
    [folder] = [RunFolder(path) for path in (tmp_path / "parts" / "runs").iterdir()]
    [reference] = [RunFolder(path) for path in (tmp_path / "whole" / "runs").iterdir()]
    one, other = steps(folder), steps(reference)
    assert [event["step"] for event in one] == list(range(1, len(other) + 1))
    assert [event["loss"] for event in one] == [event["loss"] for event in other]
    ends = [event["end"] for _, event in folder.events() if event["type"] == "RunEnded"]
    assert ends == ["stopped", "complete"] and folder.status().end == "complete"
    assert folder.report()["tokens_backwarded"] == reference.report()["tokens_backwarded"]


def steps(folder: RunFolder) -> list[dict[str, Any]]:
    return [event for _, event in folder.events() if event["type"] == "StepCompleted"]


def test_the_run_folder_says_what_happened(tmp_path: Path) -> None:
    rows = items()
    trainer = mixed(
        tmp_path,
        small_llama(),
        args={"eval_strategy": "epoch", "optim": "adamw_torch", "logging_steps": 6},
        eval_dataset=items(16, seed=9),
        processing_class=character_tokenizer(),
    )
    trainer.train()
    [folder] = [RunFolder.open(path) for path in (tmp_path / "runs").iterdir()]
    kinds = [event["type"] for _, event in folder.events() if event["type"] not in ("Message", "PhaseChanged")]
    epoch = ["Partitioned", *["StepCompleted"] * 6, "EpochEnded"]
    assert kinds[:2] == ["LogOpened", "RunStarted"] and kinds[-1] == "RunEnded" and kinds[2:10] == epoch
    assert [kind for kind in kinds if kind == "Evaluated"] == ["Evaluated"] * 3
    report = folder.report()
    assert report["end"] == "complete" and report["eval_loss_before"] is None
    assert untimed(trainer.get_efficiency_report()) == untimed(report)
    assert steps(folder)[0]["grad_norm"] > 0 and steps(folder)[-1]["progress"] == 1.0
    warnings = [e["text"] for _, e in folder.events() if e["type"] == "Message" and e["level"] == "warning"]
    assert "config.yaml has other values than the trainer: optim = adamw_torch." in warnings
    assert (folder.config().training.num_epochs, folder.config().training.learning_rate) == (3, 5e-3)
    assert preflight(folder.config())[-1][1].startswith("The data of this run was given in Python")
    assert folder.samples_path.is_file() and folder.history_path.is_file()
    assert "compute_saved_ratio" in trainer.state.log_history[0]

    import pyarrow.parquet as parquet

    texts = parquet.read_table(folder.texts_path).to_pylist()
    assert len(texts) == len(rows) and texts[0]["text"].startswith("say yes")
    begin, end = texts[0]["learnt"]
    assert texts[0]["text"][begin:end] == "yes<eos>"


def test_an_evaluation_is_that_of_geko_trainer(tmp_path: Path) -> None:
    held_out = sum_data(15, seed=9)
    trainer = mixed(
        tmp_path,
        small_llama(),
        OFF,
        args={"eval_strategy": "epoch", "eval_on_start": True, "num_train_epochs": 1},
        eval_dataset=items(15, seed=9),
    )
    trainer.train()
    reference = trainer_for(tmp_path, small_llama(), OFF, eval_dataset=held_out).evaluate()
    first, last = trainer.session.state.evaluations
    assert first["eval_loss"] == pytest.approx(reference.eval_loss, abs=1e-5) and first["samples"] == 15
    assert first["exact_match"] == reference.exact_match and first["step"] == 0
    assert last["eval_loss"] < first["eval_loss"]
    report = trainer.get_efficiency_report()
    assert report["eval_loss_before"] == first["eval_loss"] and report["eval_loss_after"] == last["eval_loss"]


def test_max_steps_and_parts_of_epochs_end_where_the_trainer_ends(tmp_path: Path) -> None:
    for changes, expected in (({"max_steps": 8}, 8), ({"num_train_epochs": 1.5}, 9)):
        trainer = mixed(tmp_path, small_llama(), OFF, args=changes)
        trainer.train()
        report = trainer.get_efficiency_report()
        assert report["steps"] == trainer.state.global_step == expected
        assert (report["end"], report["reason"]) == ("complete", "All steps are done.")
        assert report["compute_saved_ratio"] == pytest.approx(0, abs=0.02)  # of the part that was trained


def test_a_stop_from_the_page_saves_and_ends(tmp_path: Path) -> None:
    class AskForAStop(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                next((tmp_path / "runs").iterdir()).joinpath("stop").touch()

    trainer = mixed(tmp_path, small_llama(), callbacks=[AskForAStop()])
    trainer.train()
    [folder] = [RunFolder(path) for path in (tmp_path / "runs").iterdir()]
    assert (folder.status().end, folder.status().reason) == ("stopped", "Stopped by user.")
    assert (tmp_path / "out" / "checkpoint-4" / "geko_state.json").is_file()


def test_an_error_ends_the_run_as_failed(tmp_path: Path) -> None:
    class Fails(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            raise RuntimeError("the disk of the tracker is full")

    with pytest.raises(RuntimeError, match="tracker"):
        mixed(tmp_path, small_llama(), callbacks=[Fails()]).train()
    [folder] = [RunFolder(path) for path in (tmp_path / "runs").iterdir()]
    assert (folder.status().end, folder.report()["reason"]) == (
        "failed",
        "RuntimeError: the disk of the tracker is full",
    )


def test_bfloat16_and_a_collator_that_makes_the_labels(tmp_path: Path) -> None:
    tokenizer = character_tokenizer()
    data = [{"input_ids": item["input_ids"]} for item in items()]
    trainer = Trainer(
        model=small_llama(),
        args=arguments(tmp_path, bf16=True, num_train_epochs=1),
        train_dataset=data,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        geko=OFF,
        runs_dir=None,
    )
    trainer.train()
    lengths = sum_data().lengths
    report = trainer.get_efficiency_report()
    assert report["tokens_backwarded"] == lengths.sum() and not (tmp_path / "runs").exists()
    assert trainer.session.state.counter.targets == lengths.sum() - len(lengths)
    assert np.isfinite(trainer.states.loss).all() and (trainer.states.loss > 0).all()


# ------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy"),
        ({"dataloader_drop_last": True}, "dataloader_drop_last"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        mixed(tmp_path, small_llama(), args=changes)


def test_data_and_models_that_do_not_fit_are_refused_before_training(tmp_path: Path) -> None:
    model = small_llama()

    class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter(items())

    with pytest.raises(ConfigError, match="streamed"):
        mixed(tmp_path, model, train_dataset=Stream(), args={"max_steps": 3})
    with pytest.raises(ConfigError, match="compute_loss_func"):
        mixed(tmp_path, model, compute_loss_func=lambda *_: None)
    with pytest.raises(ModelError, match="encoder-decoder"):
        encoder = transformers.T5ForConditionalGeneration(
            transformers.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1)
        )
        mixed(tmp_path, encoder)
    flattened = transformers.DataCollatorWithFlattening()
    with pytest.raises(ConfigError, match="several samples into one row"):
        mixed(tmp_path, model, data_collator=flattened).train()
    with pytest.raises(ConfigError, match="needs input_ids and labels"):
        mixed(tmp_path, model, data_collator=lambda rows: {"input_ids": torch.zeros(len(rows), 2)}).train()
    with pytest.raises(ConfigError, match="ReduceLROnPlateau"):
        mixed(
            tmp_path,
            model,
            args={"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"},
            eval_dataset=items(8),
        ).train()
    with pytest.raises(RunError, match="train"):
        _ = mixed(tmp_path, model).states


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    args = {"save_strategy": "steps", "save_steps": 4, "max_steps": 4}
    mixed(tmp_path, small_llama(), args=args).train()
    checkpoint = tmp_path / "out" / "checkpoint-4"
    with pytest.raises(CheckpointError, match="seed is 7 here and 42 there"):
        mixed(tmp_path, small_llama(), args=args | {"seed": 7}).train(resume_from_checkpoint=checkpoint)
    (checkpoint / "geko_policy.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot be read"):
        mixed(tmp_path, small_llama(), args=args).train(resume_from_checkpoint=checkpoint)
    (checkpoint / "geko_state.json").unlink()
    with pytest.raises(CheckpointError, match="was written without GekoMixin"):
        mixed(tmp_path, small_llama(), args=args).train(resume_from_checkpoint=checkpoint)
    with pytest.raises(GekoError, match="no checkpoint"):
        mixed(tmp_path / "empty", small_llama(), args=args).train(resume_from_checkpoint=True)


def test_it_is_at_the_door() -> None:
    assert geko_engine.GekoMixin is GekoMixin and "GekoMixin" in geko_engine.__all__
    assert dataclasses.is_dataclass(GEKOConfig)
