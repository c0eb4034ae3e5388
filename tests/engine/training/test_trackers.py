"""What experiment trackers get, read back from the files of a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from geko_engine import GEKOTrainingArgs
from geko_engine.config.run_config import RunConfig
from geko_engine.config.training_choices import TRACKERS
from geko_engine.exceptions import ConfigError
from geko_engine.preflight.checks import preflight
from geko_engine.reporting.events import Evaluated, StepCompleted
from tests.engine.training.test_trainer import sum_data, trainer_for


def test_tensorboard_gets_every_step_and_every_evaluation(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen: list[Any] = []
    trainer = trainer_for(
        tmp_path, eval_dataset=sum_data(8, seed=1), args={"report_to": ["tensorboard"]}, on_event=seen.append
    )
    trainer.train()
    steps = [event for event in seen if isinstance(event, StepCompleted)]
    evaluations = [event for event in seen if isinstance(event, Evaluated)]

    written = EventAccumulator(str(tmp_path / "out" / "logs" / "geko")).Reload()

    def values(name: str) -> list[tuple[int, float]]:
        return [(point.step, pytest.approx(point.value, rel=1e-6)) for point in written.Scalars(name)]

    assert [(e.step, e.loss) for e in steps] == values("train/loss")
    assert [(e.step, e.grad_norm) for e in steps] == values("train/grad_norm")
    assert [(e.step, e.compute_saved_ratio) for e in steps] == values("geko/compute_saved")
    assert [(e.step, e.freeze / 48) for e in steps] == values("geko/freeze")
    assert [(e.step, e.eval_loss) for e in evaluations] == values("eval/loss")
    assert len(steps) == 18 and len(evaluations) == 4


def test_every_tracker_that_is_offered_is_one_of_accelerate() -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert TRACKERS.keys() <= LOGGER_TYPE_TO_CLASS.keys()


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"'tensorbord' is not one of tensorboard, wandb"):
        GEKOTrainingArgs(report_to=["tensorbord"])


def test_a_missing_package_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(TRACKERS, "wandb", "a_package_that_is_not_there")
    (problem,) = preflight(RunConfig.from_dict({"training": {"report_to": ["wandb"]}}))
    assert problem[0] == "training.report_to" and "pip install a_package_that_is_not_there" in problem[1]
    with pytest.raises(ConfigError, match="The tracker wandb needs its package"):
        trainer_for(tmp_path, args={"report_to": ["wandb"]})
