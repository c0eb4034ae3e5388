"""Events of a run -> its present state. Pure bookkeeping; knows no file, no process and no chart.

`RunState` applies events one by one, so the next one costs the same after 200,000 steps; `snapshot` gives one frozen
view, from which every label, figure and button of the page derives. Its points are thinned (see curve.py), so that its
size does not grow with the steps; last values, evaluations, phases and counters are exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from geko_app.formatting import format_bytes, format_duration, format_loss, format_percent
from geko_app.runs.curve import Curve, Point
from geko_engine.reporting.events import EVENTS_VERSION
from geko_engine.selection.explanation import predicted_sentence

BUCKETS = ("freeze", "light", "focus", "hard")
ROLLING_STEPS = 20
SMOOTHING = 0.95  # of the smoothed loss curve
LOG_LINES = 200
ANSWERS_KEPT = 24  # rounds of answers: the first one and the newest others
COUNTED = (*BUCKETS, "unseen")
STEP_VALUES = (
    "epoch",
    "step",
    "steps_planned",
    "progress",
    "compute_saved_ratio",
    "backward_cost",
    "tokens_forwarded",
    "tokens_backwarded",
    "plain_training_tokens",
    "learning_rate",
    "train_seconds",
    "seconds_saved_ratio",
)  # of a StepCompleted, which the snapshot takes as they are
ANSWERED = ("epoch", "step", "answers", "seconds")
step_values, counts = itemgetter(*STEP_VALUES), itemgetter(*COUNTED)
ROLLING = ("_clock", "_tokens", "_losses")  # of a RunState: the last ROLLING_STEPS of each


class Evaluation(NamedTuple):
    """An evaluation, and where the training stood then; columns for charts as those of a Point.

    general: loss on the rows that show whether the model forgets; None where it was not measured.
    """

    step: int
    loss: float | None
    exact_match: float | None
    tokens: int
    seconds: float
    general: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """Everything the page says about a run, as plain values; None for what is not known yet."""

    phase: str = "starting"
    message: str = ""
    done: int = 0
    total: int = 0
    started: dict[str, Any] | None = None
    epoch: int = 0
    step: int = 0
    steps_planned: int = 0
    progress: float = 0.0
    compute_saved_ratio: float | None = None
    backward_cost: float = 2.0
    tokens_forwarded: int = 0
    tokens_backwarded: int = 0
    plain_training_tokens: int = 0
    average_loss: float | None = None
    steps_per_second: float | None = None
    tokens_per_second: float | None = None
    train_seconds: float = 0.0
    seconds_saved_ratio: float | None = None
    curriculum: str = ""
    eta_seconds: float | None = None
    eval_loss: float | None = None
    exact_match: float | None = None
    learning_rate: float | None = None
    buckets: dict[str, int] = field(default_factory=dict)
    planned: dict[str, Any] | None = None
    predicted: str = ""
    criterion: str = ""
    length: str = ""
    general_loss: float | None = None
    general_step: int | None = None
    end: str = ""
    reason: str = ""
    field: str = ""
    report: dict[str, Any] | None = None
    model_path: str = ""
    generation: int = 0
    points: int = 0  # the step of the last point


class RunState:
    """The state of a run after some events. `apply` every event in order; the history is kept as points and evaluations."""

    def __init__(self) -> None:
        self.curve = Curve()
        self.evaluations: list[Evaluation] = []
        self.answers: list[dict[str, Any]] = []  # events Answered: before the training, and the newest ones
        self.log: deque[tuple[float, str, str]] = deque(maxlen=LOG_LINES)  # (time, level, text)
        self.logged = 0  # lines ever logged: a cursor for readers of the log
        self._clock: deque[tuple[int, float]] = deque(maxlen=ROLLING_STEPS + 1)  # (step, seconds)
        self._tokens: deque[tuple[int, float]] = deque(maxlen=ROLLING_STEPS + 1)  # (tokens trained, seconds)
        self._losses: deque[float] = deque(maxlen=ROLLING_STEPS)
        self._values: dict[str, Any] = {}
        self._smoothed, self._smoothing_weight = 0.0, 0.0
        self.phases: list[tuple[str, int]] = []  # (name, first step) of each phase of the curriculum so far
        self.generation = 0  # grows when history was cut, so that a tab draws it again

    def apply(self, event: Mapping[str, Any]) -> None:
        """Apply one event, as read from events.jsonl; unknown types are ignored."""
        handler = getattr(self, f"_on_{event['type']}", None)
        if handler:
            handler(event)

    def snapshot(self) -> Snapshot:
        """The state now, frozen."""
        speed = rolling_speed(self._clock)
        left = max(0, self._values.get("steps_planned", 0) - self._values.get("step", 0))
        return Snapshot(
            **{
                **self._values,
                "average_loss": sum(self._losses) / len(self._losses) if self._losses else None,
                "steps_per_second": speed,
                "tokens_per_second": rolling_speed(self._tokens),
                "eta_seconds": left / speed if speed and not self._values.get("end") else None,
                "generation": self.generation,
                "points": self.curve.last_step,
            }
        )

    def copy(self) -> RunState:
        """A copy that no longer changes with this one."""
        other = copy(self)
        other.curve, other._values = self.curve.copy(), dict(self._values)
        for name in ("evaluations", "answers", "log", "phases", *ROLLING):
            setattr(other, name, copy(getattr(self, name)))
        return other

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        lists = ("evaluations", "answers", "log", "phases", *ROLLING)
        plain = ("logged", "generation", "_values", "_smoothed", "_smoothing_weight")
        values = {name: list(getattr(self, name)) for name in lists} | {name: getattr(self, name) for name in plain}
        return {**values, "curve": self.curve.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunState:
        """The state that `to_json` described."""
        state = cls()
        for name in ("logged", "generation", "_values", "_smoothed", "_smoothing_weight"):
            setattr(state, name, values[name])
        state.curve = Curve.from_json(values["curve"])
        state.evaluations = [Evaluation(*row) for row in values["evaluations"]]
        state.answers = list(values["answers"])
        state.phases = [(name, step) for name, step in values["phases"]]
        state.log.extend((at, level, text) for at, level, text in values["log"])
        state._losses.extend(values["_losses"])
        state._clock.extend((count, seconds) for count, seconds in values["_clock"])
        state._tokens.extend((count, seconds) for count, seconds in values["_tokens"])
        return state

    def log_since(self, count: int) -> list[tuple[float, str, str]]:
        """The log lines after the first `count`, as far as they are still kept: (time, level, text) each."""
        missed = self.logged - count if 0 <= count <= self.logged else self.logged
        return list(self.log)[-missed:] if missed else []

    def _note(self, event: Mapping[str, Any], text: str, level: str = "info") -> None:
        self.log.append((float(event.get("time", 0.0)), level, text))
        self.logged += 1

    def _on_LogOpened(self, event: Mapping[str, Any]) -> None:
        if event["events_version"] > EVENTS_VERSION:
            newer = f"events version {event['events_version']}, this one reads up to {EVENTS_VERSION}"
            self._note(event, f"A newer GEKO wrote this run ({newer}): some of it may not be shown.", "warning")

    def _on_PhaseChanged(self, event: Mapping[str, Any]) -> None:
        if event["phase"] != self._values.get("phase") or event["message"] != self._values.get("message"):
            self._note(event, f"{event['phase'].capitalize()}{': ' + event['message'] if event['message'] else ''}")
        self._values.update({name: event[name] for name in ("phase", "message", "done", "total")})
        self._values.update(end="", reason="", field="", report=None)  # a resumed run has not ended

    def _on_RunStarted(self, event: Mapping[str, Any]) -> None:
        resumed = event["resumed_from_step"]
        self._cut_history(resumed)
        self._clock.clear()
        self._tokens.clear()
        self._values["started"] = {k: v for k, v in event.items() if k not in ("type", "seq", "time")}
        self._note(
            event,
            f"{event['samples']:,} samples, {event['parameters']:,} parameters "
            f"({event['trainable_parameters']:,} trained) on {event['device']}, {event['precision']}"
            + (f"; resumed at step {resumed:,}" if resumed else ""),
        )

    def _cut_history(self, step: int) -> None:
        """Forget what came after `step`: a resumed run repeats it from its checkpoint."""
        if self.curve.cut(step):
            self.generation += 1
            self.phases = [phase for phase in self.phases if phase[1] <= step]
            self.evaluations = [e for e in self.evaluations if e.step <= step]
            self.answers = [answered for answered in self.answers if answered["step"] <= step]
            recent = self.curve.since(step - ROLLING_STEPS, ROLLING_STEPS)
            self._losses = deque((p.loss for p in recent if p.loss is not None), maxlen=ROLLING_STEPS)

    def _on_Partitioned(self, event: Mapping[str, Any]) -> None:
        self._values["planned"] = {k: v for k, v in event.items() if k not in ("type", "seq", "time")}
        total = sum(event[name] for name in COUNTED)
        extra = f", {event['replayed']:,} of them replayed" if event["replayed"] else ""
        extra += f"; {event['left_out']:,} skipped" if event["left_out"] else ""
        self._note(event, f"Epoch {event['epoch'] + 1}: {event['planned']:,} of {total:,} samples planned{extra}")

    def _on_StepCompleted(self, event: Mapping[str, Any]) -> None:
        step, loss, seconds = event["step"], event["loss"], event["train_seconds"]
        if step <= self.curve.last_step:
            self._cut_history(step - 1)
        if loss is not None:
            self._smoothing_weight = SMOOTHING * self._smoothing_weight + (1 - SMOOTHING)
            self._smoothed = SMOOTHING * self._smoothed + (1 - SMOOTHING) * loss
            self._losses.append(loss)
        self._clock.append((step, seconds))
        self._tokens.append((event["tokens_backwarded"], seconds))
        self.curve.append(self._point(event))
        self._values.update(zip(STEP_VALUES, step_values(event), strict=True))
        self._values["buckets"] = dict(zip(COUNTED, counts(event), strict=True))
        phase = self._values["curriculum"] = event["phase"]
        if phase and (not self.phases or self.phases[-1][0] != phase):
            self.phases.append((phase, step))

    def _point(self, event: Mapping[str, Any]) -> Point:
        """The point of a step. By position: this is done for every step of a long run when it is first viewed."""
        smoothed = self._smoothed / self._smoothing_weight if self._smoothing_weight else None
        freeze, light, focus, hard, unseen = counts(event)
        total = freeze + light + focus + hard + unseen or 1
        shares = freeze / total, light / total, focus / total, hard / total
        tokens, speed, rate = event["tokens_backwarded"], rolling_speed(self._tokens), event["learning_rate"]
        return Point(
            event["step"], event["loss"], smoothed, *shares, tokens, event["seconds"], rate, speed, event["grad_norm"]
        )

    def _on_EpochEnded(self, event: Mapping[str, Any]) -> None:
        counts = [event.get(f"predicted_{name}", 0) for name in ("left_out", "met", "right")]  # missing in older runs
        self._values["criterion"] = event.get("criterion", "")
        self._values["predicted"] = f"Epoch {event['epoch']}: {predicted_sentence(*counts)}" if counts[0] else ""

    def _on_Evaluated(self, event: Mapping[str, Any]) -> None:
        self._add_evaluation(event, event["eval_loss"], event["exact_match"])
        self._values.update(eval_loss=event["eval_loss"], exact_match=event["exact_match"])
        loss, exact = event["eval_loss"], event["exact_match"]
        self._note(
            event,
            f"Evaluation loss {'not a number' if loss is None else format_loss(loss)}"
            + ("" if exact is None else f", exact match {format_percent(exact)}"),
            "warning" if loss is None else "info",
        )

    def _on_RetentionMeasured(self, event: Mapping[str, Any]) -> None:
        """A tab gets it and the evaluation of the same step, which comes before it only at the end of a run, as one point."""
        self._values.update(general_loss=event["loss"], general_step=event["step"])
        self._note(event, f"Loss on general rows {format_loss(event['loss'])}")
        last = self.evaluations[-1] if self.evaluations else None
        if last is not None and last.step == event["step"] and last.loss is not None:
            self._add_evaluation(event, last.loss, last.exact_match)
        elif not (self._values.get("started") or {}).get("eval_samples"):
            self._add_evaluation(event, None, None)

    def _add_evaluation(self, event: Mapping[str, Any], loss: float | None, exact: float | None) -> None:
        step, last = event["step"], self.curve.last
        seconds = last.seconds if last else 0.0  # the event's own seconds are the duration of the evaluation
        general = self._values.get("general_loss") if self._values.get("general_step") == step else None
        if self.evaluations and self.evaluations[-1].step == step:
            self.evaluations.pop()  # a resumed run repeats the one right after its checkpoint
        self.evaluations.append(Evaluation(step, loss, exact, event["tokens_trained"], seconds, general))

    def _on_LengthChecked(self, event: Mapping[str, Any]) -> None:
        self._values["length"] = event["sentence"]
        self._note(
            event,
            f"After {event['epochs']:.1f} epochs: held-out loss {format_loss(event['loss'])}. {event['sentence']}",
        )

    def _on_Answered(self, event: Mapping[str, Any]) -> None:
        kept = [answered for answered in self.answers if answered["step"] < event["step"]]
        self.answers = [*kept[:1], *kept[1:][2 - ANSWERS_KEPT :], {name: event[name] for name in ANSWERED}]
        self._note(event, f"{len(event['answers'])} prompts answered in {format_duration(event['seconds'])}")

    def _on_CheckpointSaved(self, event: Mapping[str, Any]) -> None:
        self._note(event, f"Checkpoint at step {event['step']:,}: {event['path']}")

    def _on_ModelSaved(self, event: Mapping[str, Any]) -> None:
        self._values["model_path"] = event["path"]
        self._note(event, f"Model saved: {event['path']} ({format_bytes(event['bytes'])})")

    def _on_Message(self, event: Mapping[str, Any]) -> None:
        self._note(event, event["text"], event["level"])

    def _on_RunEnded(self, event: Mapping[str, Any]) -> None:
        report = event["report"]
        self._values.update(
            phase=event["end"],
            end=event["end"],
            reason=event["reason"],
            field=event["field"],
            report=report,
            done=0,
            total=0,
            message="",
        )
        if event["end"] == "complete":
            self._values["progress"] = 1.0
        if report.get("final_buckets"):
            self._values["buckets"] = report["final_buckets"]
        self._note(
            event, f"{event['end'].capitalize()}: {event['reason']}", "info" if event["end"] != "failed" else "error"
        )


def rolling_speed(clock: Sequence[tuple[int, float]]) -> float | None:
    """Counts per second of training; evaluations and saving are not included.

    Args:
        clock: (count, seconds of training) pairs in order.

    Returns:
        None while there is no interval to measure.
    """
    if not clock:
        return None
    (first_count, first_seconds), (count, seconds) = clock[0], clock[-1]
    return (count - first_count) / (seconds - first_seconds) if seconds > first_seconds else None
