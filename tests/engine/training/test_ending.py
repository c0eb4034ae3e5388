"""Where runs end: by themselves, by the clock, by patience; with which weights, and exactly so after a resume."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from geko_engine import GEKOConfig, GEKOTrainer, GEKOTrainingArgs
from geko_engine.data.batches import as_samples
from geko_engine.exceptions import CheckpointError, ConfigError, RunError
from geko_engine.reporting.events import (
    Evaluated,
    Event,
    LengthChecked,
    Message,
    RetentionMeasured,
    RunStarted,
    StepCompleted,
)
from geko_engine.training import checkpoint_files
from geko_engine.training import trainer as trainer_module
from tests.engine.conftest import character_tokenizer, small_llama, sum_rows

PLAIN = GEKOConfig(enabled=False)


def samples(count: int, seed: int = 0) -> list[dict[str, list[int]]]:
    tokenizer = character_tokenizer()
    found = []
    for row in sum_rows(count, seed):
        prompt = tokenizer(row["prompt"])["input_ids"]
        answer = [*tokenizer(row["completion"])["input_ids"], 1]
        found.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    return found


def trainer_for(folder: Path, events: list[Event], **changes: Any) -> GEKOTrainer:
    values: dict[str, Any] = {
        "batch_size": 8,
        "learning_rate": 1e-2,
        "warmup_steps": 4,
        "eval_steps": 0,
        "save_steps": 0,
    }
    stop = changes.pop("should_stop", None)
    args = GEKOTrainingArgs(output_dir=str(folder), **(values | changes))
    return GEKOTrainer(
        small_llama(), samples(64), None, samples(24, 1), PLAIN, args, on_event=events.append, should_stop=stop
    )


def weights_of(trainer: GEKOTrainer) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


def of_kind(events: list[Event], kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def averaged(trainer: GEKOTrainer) -> bool:
    """Whether the model has the averaged weights."""
    average = trainer.ending.tensors()
    return all(torch.equal(p.detach(), average[f"average.{n}"]) for n, p in trainer.model.named_parameters())


def test_a_run_finds_its_length_and_delivers_what_it_has_measured(tmp_path: Path) -> None:
    events: list[Event] = []
    trainer = trainer_for(tmp_path, events, num_epochs="auto", max_epochs=40)
    report = trainer.train()
    steps, checks = of_kind(events, StepCompleted), of_kind(events, LengthChecked)
    assert report["end"] == "complete" and "would not help" in report["reason"]
    assert [check.goes_on for check in checks] == [True] * (len(checks) - 1) + [False]
    assert len(steps) == checks[-1].step < 40 * 8
    rates = [step.learning_rate for step in steps]
    assert rates[:2] == [0, 0.5e-2] and set(rates[2:]) == {1e-2}
    assert of_kind(events, RunStarted)[0].options["warmup_steps"] == 2  # a tenth of three epochs
    assert trainer.progress.counter.scanned > 0  # the checks cost compute
    assert report["plain_training_tokens"] == report["tokens_backwarded"]  # nothing was skipped, nothing is said to be
    assert [step.progress for step in steps] == sorted(step.progress for step in steps)
    evaluated = of_kind(events, Evaluated)
    assert averaged(trainer) and report["eval_loss_after"] == evaluated[-1].eval_loss
    assert [event.step for event in evaluated].count(len(steps)) == 1  # the last one was of these weights already
    assert trainer.evaluate().eval_loss == evaluated[-1].eval_loss


def test_a_loss_that_is_not_finite_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    trainer = trainer_for(tmp_path, events, num_epochs="auto")
    found = SimpleNamespace(mean_loss=float("nan"), tokens=1, padding=0)
    monkeypatch.setattr(trainer.evaluator._scans, "scores", lambda samples, ids, phase, *names: found)
    monkeypatch.setattr(trainer.evaluator, "evaluate_if_due", lambda state: False)
    monkeypatch.setattr(trainer, "evaluate", lambda: None)
    report = trainer.train()
    assert "is not finite" in report["reason"] and "is not finite" in of_kind(events, LengthChecked)[0].sentence
    assert len(of_kind(events, LengthChecked)) == 1


@pytest.mark.parametrize("ceiling", [{"max_epochs": 2}, {"max_steps": 16}])
def test_a_ceiling_ends_the_run_and_says_so(tmp_path: Path, ceiling: dict[str, int]) -> None:
    events: list[Event] = []
    trainer = trainer_for(tmp_path, events, num_epochs="auto", **ceiling)
    report = trainer.train()
    assert len(of_kind(events, StepCompleted)) == 16 and "The most that the run may take" in report["reason"]
    assert averaged(trainer)


@pytest.mark.parametrize("stopped_at", [3, 17, 40])
def test_a_run_that_finds_its_length_resumes_bit_for_bit(tmp_path: Path, stopped_at: int) -> None:
    options = {"num_epochs": "auto", "max_epochs": 8}
    whole = trainer_for(tmp_path / "a", [], **options)
    whole.train()
    events: list[Event] = []
    first = trainer_for(
        tmp_path / "b", events, **options, should_stop=lambda: len(of_kind(events, StepCompleted)) >= stopped_at
    )
    assert first.train()["end"] == "stopped"
    second = trainer_for(tmp_path / "b", [], **options)
    second.load_checkpoint(tmp_path / "b" / f"checkpoint-{stopped_at}")
    second.train()
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(second), strict=True))
    assert whole.progress.length_checks == second.progress.length_checks


@pytest.mark.parametrize(
    ("options", "decay_from", "said"),
    [({}, 0, ""), ({"num_epochs": "auto"}, 0, "stays at its peak now"), ({"num_epochs": "auto"}, 5, "earlier rule")],
)
def test_a_checkpoint_of_the_earlier_rule_is_read_or_refused(
    tmp_path: Path, options: dict[str, Any], decay_from: int, said: str
) -> None:
    first = trainer_for(tmp_path, [], should_stop=lambda: first.progress.step >= 6, **options)
    first.train()
    manifest = tmp_path / "checkpoint-6" / "manifest.json"
    values = json.loads(manifest.read_text())
    values["state"] |= {"decay_from": decay_from, "decay_until": 9, "decay_seconds": 0.0}
    del values["checksum"]
    manifest.write_text(json.dumps(values | {"checksum": checkpoint_files._checksum(values)}))
    events: list[Event] = []
    second = trainer_for(tmp_path, events, **options)
    if decay_from:
        with pytest.raises(CheckpointError, match=said):
            second.load_checkpoint(tmp_path / "checkpoint-6")
        return
    second.load_checkpoint(tmp_path / "checkpoint-6")
    assert second.progress.step == 6
    assert any(said in event.text for event in of_kind(events, Message)) if said else not events


def test_a_stopped_run_is_delivered_with_the_average_of_its_weights(tmp_path: Path) -> None:
    events: list[Event] = []
    trainer = trainer_for(
        tmp_path, events, num_epochs="auto", should_stop=lambda: len(of_kind(events, StepCompleted)) >= 20
    )
    trainer.train()
    assert "average of the latest weights" in of_kind(events, Message)[-1].text and averaged(trainer)


def test_the_clock_ends_a_run_with_a_rate_that_has_fallen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def tick() -> float:  # every look at the clock takes a tenth of a second
        now[0] += 0.1
        return now[0]

    monkeypatch.setattr(trainer_module.time, "monotonic", tick)
    events: list[Event] = []
    trainer = trainer_for(tmp_path, events, num_epochs=1000, max_minutes=0.5)
    report = trainer.train()
    steps = of_kind(events, StepCompleted)
    assert report["reason"] == "The time limit of 0.5 minutes is reached." and 30 <= steps[-1].seconds < 31
    assert steps[-1].learning_rate < 0.05 * 1e-2 and steps[-1].progress >= 0.98
    assert steps[-1].steps_planned == pytest.approx(len(steps), abs=2)


def test_a_cost_limit_is_a_time_limit() -> None:
    assert GEKOTrainingArgs(max_cost=3.0, cost_per_hour=1.5).time_limit == 7200
    assert GEKOTrainingArgs(max_cost=3.0, cost_per_hour=1.5, max_minutes=10).time_limit == 600
    with pytest.raises(ConfigError, match="give cost_per_hour"):
        GEKOTrainingArgs(max_cost=3.0)


@pytest.mark.parametrize("metric", ["eval_loss", "exact_match"])
def test_the_best_weights_are_delivered_and_patience_ends_the_run(tmp_path: Path, metric: str) -> None:
    events: list[Event] = []
    options = {"metric_for_best_model": metric, "early_stopping_patience": 3, "lr_scheduler_type": "constant"}
    trainer = trainer_for(tmp_path, events, num_epochs=60, learning_rate=0.03, load_best_model_at_end=True, **options)
    report = trainer.train()
    found = of_kind(events, Evaluated)
    values = [e.eval_loss if metric == "eval_loss" else -e.exact_match for e in found[:-1]]
    best = values.index(min(values))
    assert len(values) == best + 4 and report["reason"].startswith(f"Early stopping: {metric} was best at step")
    assert report["best_step"] == found[best].step
    assert found[-1].eval_loss == pytest.approx(found[best].eval_loss, rel=1e-6)  # of the weights that are delivered
    assert report["eval_loss_after"] == found[-1].eval_loss


def test_a_base_model_that_was_best_is_delivered(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, [], num_epochs=1, learning_rate=5.0, load_best_model_at_end=True)
    before = copy.deepcopy(weights_of(trainer))
    trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(trainer), strict=True))


def test_what_needs_evaluation_data_says_so() -> None:
    for changes in ({"num_epochs": "auto"}, {"load_best_model_at_end": True}, {"early_stopping_patience": 2}):
        with pytest.raises(ConfigError, match="needs evaluation data"):
            GEKOTrainer(small_llama(), samples(8), args=GEKOTrainingArgs(**changes))


def test_many_general_rows_wait_until_they_are_a_tenth_of_what_was_trained(tmp_path: Path) -> None:
    """Of a small dataset they would take longer than the training; the first and the last measurement are made all the same."""
    events: list[Event] = []
    trainer = trainer_for(tmp_path, events, num_epochs=8)
    trainer.evaluator.general_samples = many = as_samples(samples(60, 2), {})
    trainer.train()
    steps = [event.step for event in of_kind(events, RetentionMeasured)]
    evaluated = [event.step for event in of_kind(events, Evaluated)]
    assert (steps[0], steps[-1]) == (evaluated[0], evaluated[-1]) and len(steps) < len(evaluated) == 9
    per_step = trainer.progress.counter.passed / trainer.progress.step
    gaps = np.diff(steps)[:-1] * per_step
    assert len(gaps) and all(gap >= 10 * many.lengths.sum() for gap in gaps)
    assert sum("general rows" in event.text for event in of_kind(events, Message)) == 1


def test_general_rows_that_wait_are_measured_when_early_stopping_ends_the_run(tmp_path: Path) -> None:
    events: list[Event] = []
    trainer = trainer_for(tmp_path, events, num_epochs=9, learning_rate=5.0, early_stopping_patience=1)
    trainer.evaluator.general_samples = as_samples(samples(60, 2), {})
    looked: list[int] = []
    trainer.at_end.append(lambda state: looked.append(state.step))
    trainer.train()
    assert trainer.progress.epoch < 9 and looked == [trainer.progress.step]
    assert [event.step for event in of_kind(events, RetentionMeasured)] == [0, trainer.progress.step]
    assert len(trainer.progress.general_losses) == 2


def test_a_stop_in_an_evaluation_leaves_every_measurement_once(tmp_path: Path) -> None:
    def run(folder: Path, events: list[Event], **options: Any) -> GEKOTrainer:
        trainer = trainer_for(folder, events, num_epochs=2, **options)
        trainer.evaluator.general_samples = as_samples(samples(8, 2), {})
        return trainer

    whole = run(tmp_path / "a", [])
    whole.train()
    events: list[Event] = []
    first = run(tmp_path / "b", events, should_stop=lambda: len(of_kind(events, RetentionMeasured)) == 2)
    assert first.train()["end"] == "stopped" and len(of_kind(events, Evaluated)) == 1
    second = run(tmp_path / "b", [])
    second.load_checkpoint(tmp_path / "b" / "checkpoint-8")
    second.train()
    assert second.progress.general_losses == whole.progress.general_losses and len(whole.progress.general_losses) == 3
    assert [e["eval_loss"] for e in second.progress.evaluations] == [e["eval_loss"] for e in whole.progress.evaluations]


def test_a_fixed_length_with_averaged_weights_evaluates_and_delivers_them_at_a_constant_rate(tmp_path: Path) -> None:
    events: list[Event] = []
    trainer = trainer_for(tmp_path, events, num_epochs=3, average_weights=True)
    report = trainer.train()
    rates = [event.learning_rate for event in of_kind(events, StepCompleted)]
    assert len(rates) == 24 and rates[-1] == max(rates) == 1e-2 and rates[0] < 1e-2
    assert averaged(trainer) and "average of the latest weights" in of_kind(events, Message)[-1].text
    assert report["eval_loss_after"] == of_kind(events, Evaluated)[-1].eval_loss
    assert trainer.evaluate().eval_loss == pytest.approx(report["eval_loss_after"], rel=1e-6)


def test_the_best_of_the_averages_is_delivered(tmp_path: Path) -> None:
    """The average is what was evaluated, so it is also what is kept."""
    events: list[Event] = []
    options = {"average_weights": True, "load_best_model_at_end": True, "early_stopping_patience": 3}
    trainer = trainer_for(tmp_path, events, num_epochs=60, learning_rate=0.03, **options)
    report = trainer.train()
    found = of_kind(events, Evaluated)
    values = [event.eval_loss for event in found[:-1]]
    best = values.index(min(values))
    assert len(values) == best + 4 and report["best_step"] == found[best].step and not averaged(trainer)
    assert found[-1].eval_loss == pytest.approx(values[best], rel=1e-6)


def test_a_run_with_averaged_weights_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = trainer_for(tmp_path / "a", [], num_epochs=3, average_weights=True)
    whole.train()
    events: list[Event] = []
    first = trainer_for(
        tmp_path / "b",
        events,
        num_epochs=3,
        average_weights=True,
        should_stop=lambda: len(of_kind(events, StepCompleted)) >= 11,
    )
    first.train()
    second = trainer_for(tmp_path / "b", [], num_epochs=3, average_weights=True)
    second.load_checkpoint(tmp_path / "b" / "checkpoint-11")
    second.train()
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(second), strict=True))


def test_a_checkpoint_without_an_average_begins_one_at_its_weights(tmp_path: Path) -> None:
    """Begun at those of the base model, the average would still hold much of them at the end of a run that is resumed late."""
    events: list[Event] = []
    options: dict[str, Any] = {"num_epochs": 3, "lr_scheduler_type": "constant_with_warmup"}
    trainer_for(tmp_path, events, should_stop=lambda: len(of_kind(events, StepCompleted)) >= 5, **options).train()
    again: list[Event] = []
    second = trainer_for(tmp_path, again, average_weights=True, **options)
    second.load_checkpoint(tmp_path / "checkpoint-5")
    assert averaged(second) and any("average of the weights begins" in event.text for event in of_kind(again, Message))
    second.train()
    assert averaged(second)


def stopped_after(steps: int, events: list[Event]) -> Callable[[], bool]:
    return lambda: len(of_kind(events, StepCompleted)) >= steps


def test_a_resume_that_wants_the_best_weights_of_a_checkpoint_without_them_looks_for_the_best_anew(
    tmp_path: Path,
) -> None:
    """Otherwise it would end with neither the best weights nor the average."""
    events: list[Event] = []
    options: dict[str, Any] = {"num_epochs": 5, "average_weights": True, "early_stopping_patience": 50}
    trainer_for(tmp_path, events, should_stop=stopped_after(17, events), **options).train()
    again: list[Event] = []
    second = trainer_for(tmp_path, again, load_best_model_at_end=True, **options | {"learning_rate": 1.0})
    second.load_checkpoint(tmp_path / "checkpoint-17")
    assert any("has no best weights" in event.text for event in of_kind(again, Message))
    report = second.train()
    evaluated = {event.step: event.eval_loss for event in of_kind(again, Evaluated)}
    best = min(evaluated, key=lambda step: evaluated[step])
    assert best > 17 and report["best_step"] == best and report["eval_loss_after"] == pytest.approx(evaluated[best])


@pytest.mark.parametrize("changes", [{"average_weights": True}, {"num_epochs": "auto"}, {}])
def test_a_stopped_run_goes_on_only_from_its_last_weights(tmp_path: Path, changes: dict[str, Any]) -> None:
    events: list[Event] = []
    options: dict[str, Any] = {"num_epochs": 2} | changes
    trainer = trainer_for(tmp_path, events, should_stop=lambda: len(of_kind(events, StepCompleted)) == 5, **options)
    assert trainer.train()["end"] == "stopped"
    trainer.should_stop = lambda: False
    if not changes:
        assert trainer.train()["end"] == "complete"
        return
    with pytest.raises(RunError, match=r"load the checkpoint .*checkpoint-5"):
        trainer.train()
    trainer.load_checkpoint(tmp_path / "checkpoint-5")
    assert trainer.train()["end"] == "complete" and averaged(trainer)
