"""The fold over files of other versions: what an earlier GEKO wrote is still drawn, a later one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from geko_app.runs.live_state import RunState
from geko_app.views.dashboard import Cursor, payload
from geko_engine.reporting.events import EVENTS_VERSION, Evaluated, LogOpened, RetentionMeasured, RunStarted
from geko_engine.runs.folder import RunFolder

VERSION_1 = Path(__file__).parents[2] / "fixtures" / "version1" / "finished" / "run"


def test_the_events_of_version_1_are_still_drawn() -> None:
    folder, state = RunFolder(VERSION_1), RunState()
    events = [event for _, event in folder.events()]
    assert "LogOpened" not in {event["type"] for event in events}
    for event in events:
        state.apply(event)
    steps = [event for event in events if event["type"] == "StepCompleted"]
    assert [(p[0], p[1], p[7]) for p in state.curve.points] == [
        (e["step"], e["loss"], e["tokens_backwarded"]) for e in steps
    ]
    report, shown = (
        json.loads(folder.report_path.read_text(encoding="utf-8")),
        payload(folder, state, Cursor(), alive=False),
    )
    assert [e[1] for e in (state.evaluations[0], state.evaluations[-1])] == pytest.approx(
        [report["eval_loss_before"], report["eval_loss_after"]]
    )
    assert (shown["phase"], shown["step"], shown["progress"]) == ("complete", report["steps"], 1.0)
    assert sum(state.snapshot().buckets.values()) == report["samples"]


@pytest.mark.parametrize(("version", "named"), [(EVENTS_VERSION, False), (EVENTS_VERSION + 1, True)])
def test_events_of_a_later_version_are_drawn_with_a_warning(version: int, named: bool) -> None:
    state = RunState()
    state.apply({"time": 0.0, **LogOpened(version).to_dict()})
    assert [(level, "newer GEKO" in text) for _, level, text in state.log] == [("warning", True)] * named


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["before the evaluation", "after it"])
def test_general_rows_and_the_evaluation_of_one_step_are_one_point(order: tuple[int, int]) -> None:
    state = RunState()
    events = [RetentionMeasured(7, 1, 0.9, 64, 100, 1.0), Evaluated(7, 1, 0.5, 0.25, 24, 100, 1.0)]
    for event in (RunStarted("m", 4, 24, 1, 4, 1, 9, 9, 9, 9, "cpu", "fp32"), *(events[at] for at in order)):
        state.apply({"time": 0.0, **event.to_dict()})
    (point,) = state.evaluations
    assert (point.step, point.loss, point.exact_match, point.general) == (7, 0.5, 0.25, 0.9)
