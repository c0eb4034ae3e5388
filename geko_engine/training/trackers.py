"""Experiment trackers by name (TensorBoard, Weights & Biases, MLflow, Trackio and others), through accelerate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geko_engine.config.training_choices import tracker_problem
from geko_engine.exceptions import ConfigError
from geko_engine.reporting.events import Evaluated, Event, RunStarted, StepCompleted

PROJECT = "geko"
BUCKETS = ("freeze", "light", "focus", "hard", "unseen")


class Trackers:
    """A listener that hands the figures of a run to experiment trackers.

    Args:
        names: keys of accelerate's table of trackers; their packages are installed.
        folder: for those that write files.

    Attributes:
        open: the trackers of the present run; empty before it starts and after `finish`.

    Raises:
        ConfigError: when the package of one is missing.
    """

    def __init__(self, names: list[str], folder: Path) -> None:
        problem = tracker_problem(names)
        if problem:
            raise ConfigError(problem, "training.report_to")
        self._names, self._folder = names, folder
        self.open: list[Any] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, StepCompleted):
            self._log(step_figures(event), event.step)
        elif isinstance(event, Evaluated):
            self._log({"eval/loss": event.eval_loss, "eval/exact_match": event.exact_match}, event.step)

    def finish(self) -> None:
        """Write what is left; the next RunStarted opens new ones."""
        for tracker in self.open:
            tracker.finish()
        self.open = []

    def _start(self, event: RunStarted) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        self.finish()
        for name in self._names:
            kind = LOGGER_TYPE_TO_CLASS[name]
            folder = [str(self._folder)] if kind.requires_logging_directory else []
            tracker = kind(PROJECT, *folder)
            if hasattr(tracker, "start"):  # accelerate 1.8 and later open it only then
                tracker.start()
            tracker.store_init_configuration(run_settings(event))
            self.open.append(tracker)

    def _log(self, values: dict[str, float], step: int) -> None:
        for tracker in self.open:
            tracker.log(values, step=step)


def run_settings(event: RunStarted) -> dict[str, Any]:
    """What a run is made of, as one level of plain values. No token and no path is among them."""
    plain = {name: value for name, value in event.to_dict().items() if isinstance(value, str | int | float | bool)}
    return plain | {name: value for name, value in event.options.items() if isinstance(value, str | int | float | bool)}


def step_figures(event: StepCompleted) -> dict[str, float]:
    """The figures of a step by the names that they get in a tracker."""
    figures = {
        "train/loss": event.loss,
        "train/learning_rate": event.learning_rate,
        "train/epoch": float(event.epoch),
        "train/tokens": float(event.tokens_backwarded),
        "geko/compute_saved": event.compute_saved_ratio,
    }
    if event.grad_norm is not None:
        figures["train/grad_norm"] = event.grad_norm
    if event.seconds_saved_ratio is not None:
        figures["geko/time_saved"] = event.seconds_saved_ratio
    total = max(1, sum(getattr(event, name) for name in BUCKETS))
    return figures | {f"geko/{name}": getattr(event, name) / total for name in BUCKETS}
