"""A step: how often it waits for its device, how it is split, what it takes, and that a stop in any of it is no loss."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from geko_engine import GEKOConfig, GEKOTrainer
from geko_engine.reporting.events import StepCompleted
from geko_engine.training.step_size import smaller_batches
from geko_engine.training.step_times import FEWEST, StepTimes
from tests.engine.conftest import small_gpt2
from tests.engine.training.test_trainer import OFF, assert_same_weights, trainer_for, weights

aten = torch.ops.aten
ON_THE_DEVICE = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.unique_dim, aten._unique2, aten.equal}
TO_THE_HOST = ("cpu", "numpy", "tolist", "item", "__bool__", "__float__", "__int__")


class Waits(TorchDispatchMode):
    """Counts what would make the host wait for a GPU; what the model's own forward does so, apart."""

    inside = False

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.of_the_model: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket in ON_THE_DEVICE:
            (self.of_the_model if Waits.inside else self.found)[str(func)] += 1
        return func(*args, **(kwargs or {}))


def waits_of_each_step(trainer: GEKOTrainer, monkeypatch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """Of every step after the first, which counts operations and tries the model's head. Batches are ready before."""
    found: list[Counter[str]] = []
    run, start = trainer.steps.run, trainer.loader.start
    active: list[Waits] = []
    for name in TO_THE_HOST:
        original = getattr(Tensor, name)

        def counted(self: Tensor, *args: Any, _original: Any = original, _name: str = name, **kwargs: Any) -> Any:
            if active and _name == "cpu":  # the others lead to an operation of ON_THE_DEVICE, or begin with it
                active[-1].found["cpu"] += 1
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(Tensor, name, counted)

    def watched(*args: Any) -> Any:
        with Waits() as waits:
            active.append(waits)
            try:
                return run(*args)
            finally:
                active.pop()
                found.append(waits.found)
                # transformers looks at the padding mask, once a forward pass.
                assert set(waits.of_the_model) <= {"aten._local_scalar_dense.default"}

    trainer.model.register_forward_pre_hook(lambda *_: setattr(Waits, "inside", True))
    trainer.model.register_forward_hook(lambda *_: setattr(Waits, "inside", False))
    monkeypatch.setattr(trainer.loader, "start", lambda *args: iter(list(start(*args))))
    monkeypatch.setattr(trainer.steps, "run", watched)
    trainer.train()
    return found[1:]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 2, "gradient_accumulation_steps": 4},
        {"max_tokens_per_batch": 40},
        {"max_grad_norm": 0.0},
        {"gradient_checkpointing": True},
    ],
)
def test_a_step_waits_for_its_device_once(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_for(tmp_path, config=OFF, args={"num_epochs": 1, **options})
    steps = waits_of_each_step(trainer, monkeypatch)
    assert len(steps) == 5 and all(step == {"cpu": 1} for step in steps), steps


def test_by_tokens_the_model_learns_the_same(tmp_path: Path) -> None:
    """A step has the same samples however it is split, and its loss is divided by the targets of all of them."""
    whole = trainer_for(tmp_path, config=OFF, args={"num_epochs": 1})
    parts = trainer_for(tmp_path, config=OFF, args={"num_epochs": 1, "max_tokens_per_batch": 30})
    seen: list[int] = []

    def note(_module: Any, _args: Any, given: dict[str, Tensor]) -> None:
        if torch.is_grad_enabled():
            seen.append(given["input_ids"].numel())

    parts.model.register_forward_pre_hook(note, with_kwargs=True)
    whole.train(), parts.train()
    assert whole.progress.step == parts.progress.step == 6 and len(seen) > 12 and max(seen) <= 30
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, weights(parts)[name], atol=1e-5, rtol=1e-4)
    assert np.allclose(whole.states.loss, parts.states.loss, atol=1e-4)


@pytest.mark.parametrize("stop_at", [5, 17, 30])
def test_stopped_and_resumed_by_tokens_it_ends_as_if_unbroken(tmp_path: Path, stop_at: int) -> None:
    config = GEKOConfig(freeze_confidence=0.3, min_q_for_freeze=0.5)
    args = {"num_epochs": 8, "learning_rate": 1e-2, "max_tokens_per_batch": 60}

    def trainer(folder: str, **options: Any) -> GEKOTrainer:
        return trainer_for(tmp_path / folder, small_gpt2(dropout=0.1), config, args=args, **options)

    unbroken = trainer("a")
    unbroken.train()
    assert unbroken.progress.step > stop_at
    stopped = trainer("b")
    stopped.should_stop = lambda: stopped.progress.step >= stop_at
    assert stopped.train()["end"] == "stopped"
    resumed = trainer("c")
    resumed.load_checkpoint(tmp_path / f"b/out/checkpoint-{stop_at}")
    assert dataclasses.replace(resumed.progress.step_times) == stopped.progress.step_times
    resumed.train()
    assert_same_weights(weights(unbroken), weights(resumed))
    assert np.array_equal(unbroken.states.loss, resumed.states.loss)


# ------------------------------------------------------------ seconds
def times(*steps: tuple[int, float]) -> StepTimes:
    found = StepTimes()
    for tokens, seconds in steps:
        found.add(tokens, seconds)
    return found


def test_a_step_takes_a_fixed_time_and_a_time_for_each_token() -> None:
    found = times(*[(tokens, 0.5 + 0.01 * tokens) for tokens in (100, 40, 70, 100, 10) * 5])
    assert found.line() == pytest.approx((0.5, 0.01))
    # As many steps and half the tokens: the fixed time stays.
    assert found.of_plain_training(25 * (0.5 + 0.64), 0, 1600) == pytest.approx(25 * 1.14 + 16)
    assert found.of_plain_training(10.0, 5, 500) == pytest.approx(10 + 2.5 + 5)


def test_nothing_is_estimated_from_too_few_steps_and_nothing_is_negative() -> None:
    assert times(*[(10, 1.0)] * (FEWEST - 1)).of_plain_training(9.0, 1, 1) is None
    assert times(*[(10, 1.0)] * FEWEST).line() == (1.0, 0.0)  # all alike: nothing says what a token takes
    assert times((10, 3.0), (20, 2.0)).line()[1] == 0  # larger steps were faster: chance
    assert times((10, 1.0), (20, 3.0)).line() == pytest.approx((0, 2 / 15))


def test_the_report_has_the_time_saved_by_the_steps_of_the_same_run(tmp_path: Path) -> None:
    config = GEKOConfig(freeze_confidence=0.3, min_q_for_freeze=0.5)
    events: list[Any] = []
    trainer = trainer_for(
        tmp_path, config=config, args={"num_epochs": 10, "learning_rate": 1e-2}, on_event=events.append
    )
    report = trainer.train()
    fixed, per_token = trainer.progress.step_times.line()
    steps, tokens = 60 - report["steps"], report["plain_training_tokens"] - report["tokens_backwarded"]
    plain = report["train_seconds"] + fixed * steps + per_token * tokens
    assert report["plain_train_seconds"] == pytest.approx(plain)
    assert report["seconds_saved_ratio"] == pytest.approx(
        1 - (report["train_seconds"] + report["scan_seconds"]) / plain
    )
    done = [event for event in events if isinstance(event, StepCompleted)]
    assert done[5].seconds_saved_ratio is None and done[-1].seconds_saved_ratio == pytest.approx(
        report["seconds_saved_ratio"]
    )


def test_plain_training_saves_no_time(tmp_path: Path) -> None:
    report = trainer_for(tmp_path, config=OFF, args={"num_epochs": 5}).train()
    assert (
        report["seconds_saved_ratio"] == pytest.approx(0) and report["plain_train_seconds"] == report["train_seconds"]
    )


def test_out_of_memory_by_tokens_halves_the_tokens() -> None:
    from geko_engine import GEKOTrainingArgs

    tried = [args.max_tokens_per_batch for args, _ in smaller_batches(GEKOTrainingArgs(max_tokens_per_batch=100))]
    assert tried == [100, 50, 25]
    sizes = [
        (a.batch_size, a.gradient_accumulation_steps, words)
        for a, words in smaller_batches(GEKOTrainingArgs(batch_size=4))
    ]
    assert sizes[1] == (2, 2, "batch size 2 and 2 accumulation steps") and len(sizes) == 3
