"""The pure parts of the page: the fold, the view, the form, the store and the charts."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from geko_app import formatting
from geko_app.pages.components import static_text
from geko_app.pages.dashboard import dashboard_endpoints
from geko_app.runs.live_state import ANSWERS_KEPT, LOG_LINES, RunState, Snapshot
from geko_app.runs.store import RunStore
from geko_app.telemetry import Telemetry
from geko_app.views import charts, dashboard, run_summary
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import GekoError, RunError
from geko_engine.reporting.events import (
    Answered,
    EpochEnded,
    Evaluated,
    Event,
    Message,
    Partitioned,
    PhaseChanged,
    RunEnded,
    RunStarted,
    StepCompleted,
)
from geko_engine.runs.status import Status
from geko_engine.storage.atomic_files import replace_json


def step(number: int, loss: float = 1.0, freeze: int = 0, seconds: float | None = None) -> StepCompleted:
    """Step `number` of 100 over 40 samples, two steps a second."""
    return StepCompleted(
        step=number,
        epoch=(number - 1) // 50,
        progress=number / 100,
        steps_planned=100,
        loss=loss,
        learning_rate=1e-3,
        phase="",
        samples=8,
        tokens_forwarded=80 * number,
        tokens_backwarded=80 * number,
        plain_training_tokens=100 * number,
        compute_saved_ratio=0.2,
        seconds=number,
        train_seconds=number / 2 if seconds is None else seconds,
        freeze=freeze,
        light=10,
        focus=5,
        hard=5,
        unseen=20 - freeze,
    )


STARTED = RunStarted("m", 40, 10, 2, 50, 8, 1000, 400, 2_000_000, 1_000_000, "cpu", "fp32")


def fold(*events: Event) -> RunState:
    state = RunState()
    for event in events:
        state.apply({"time": 0.0, **event.to_dict()})
    return state


def test_the_charts_can_be_drawn_over_steps_tokens_and_seconds() -> None:
    state = fold(STARTED, step(1), step(2), Evaluated(2, 0, 0.5, 0.25, 10, 160, 0.1))
    assert [point[0] for point in state.curve.points] == [1, 2]
    assert [point[7:] for point in state.curve.points] == [
        (80, 1, 1e-3, None, None),
        (160, 2, 1e-3, pytest.approx(160.0), None),
    ]
    assert state.evaluations[0][3:] == (160, 2, None)  # an evaluation stands where the training was


def test_the_curriculums_phases_have_their_first_steps() -> None:
    named = [dataclasses.replace(step(i), phase="warmup" if i < 4 else "ascent") for i in range(1, 7)]
    state = fold(STARTED, *named)
    assert state.phases == [("warmup", 1), ("ascent", 4)]
    state.apply({"time": 0.0, **dataclasses.replace(STARTED, resumed_from_step=2).to_dict()})
    assert state.phases == [("warmup", 1)]  # the rest is done again
    assert fold(STARTED, step(1)).phases == []


def test_the_time_saved_is_an_estimate() -> None:
    snapshot = fold(STARTED, *[step(i) for i in range(1, 41)]).snapshot()
    assert "Time" not in dashboard.compute_sentence(snapshot)  # none that was not measured
    measured = dataclasses.replace(snapshot, seconds_saved_ratio=0.2)
    # 20 seconds for 80 %: the other 20 % would take 5 more.
    assert "Time saved: about 5 s of training, an estimate" in dashboard.compute_sentence(measured)
    assert {"name": "Compute saved", "value": "20.0 %", "note": "≈ 20 % of time"} in dashboard.stats(measured)
    lost = dataclasses.replace(snapshot, seconds_saved_ratio=-0.25)
    assert "Time lost: about 4 s" in dashboard.compute_sentence(lost)
    assert dashboard.pace_sentence(snapshot).startswith("Current learning rate: 1.00e-03.")
    assert dashboard.pace_sentence(RunState().snapshot()) == ""


def test_figures_of_the_stat_boxes() -> None:
    state = fold(
        STARTED, *[step(i, loss=float(i), freeze=10) for i in range(1, 41)], Evaluated(40, 0, 0.5, 0.25, 10, 1, 0.1)
    )
    snapshot = state.snapshot()
    assert snapshot.average_loss == sum(range(21, 41)) / 20
    assert snapshot.steps_per_second == pytest.approx(2.0) and snapshot.eta_seconds == pytest.approx(30.0)
    boxes = {box["name"]: (box["value"], box["note"]) for box in dashboard.stats(snapshot)}
    assert boxes == {
        "Epoch": ("1", "of 2"),
        "Step": ("40", "of 100"),
        "Compute saved": ("20.0 %", "vs. plain"),
        "Training loss": ("30.500", "last 20 steps"),
        "Steps/s": ("2.00", "160 tokens/s"),
        "ETA": ("30 s", "left"),
        "Evaluation loss": ("0.500", "25.0 % exact"),
    }
    shares = {row["name"]: row["share"] for row in dashboard.bucket_rows(snapshot)}
    assert shares == {"FREEZE": 0.25, "LIGHT": 0.25, "FOCUS": 0.125, "HARD": 0.125, "not seen": 0.25}


def test_an_ended_run_speaks_of_the_past() -> None:
    going = fold(STARTED, *[step(i) for i in range(1, 41)], EpochEnded(1, 40, 0.4, 0, 0, 0))
    assert "So far" in dashboard.compute_sentence(going.snapshot())
    going.apply(
        {"time": 1.0, **RunEnded("complete", "All epochs are done.", {"end": "complete", "seconds": 272}).to_dict()}
    )
    ended = going.snapshot()
    assert dashboard.compute_sentence(ended).startswith("In total ") and "were included" in dashboard.compute_sentence(
        ended
    )
    assert dashboard.pace_sentence(ended).startswith("Last learning rate")
    assert dashboard.stats(ended)[5] == {"name": "Time", "value": "4 min 32 s", "note": ""}


def test_a_stop_of_the_user_is_said_once() -> None:
    for reason in ("Stopped by user.", "You asked for a stop."):
        snapshot = fold(RunEnded("stopped", reason, {"end": "stopped"}, "")).snapshot()
        line = dashboard.status_line(snapshot, None, alive=False)
        assert (line["title"], line["detail"]) == ("Stopped by user", "")


@pytest.mark.parametrize(("after", "free"), [(0.75, False), (0.01, True)])
def test_exact_match_is_no_headline_where_answers_are_free_text(after: float, free: bool) -> None:
    report = {"steps": 3, "exact_match_before": 0.0, "exact_match_after": after}
    snapshot = dataclasses.replace(Snapshot(), end="complete", report=report)
    assert ("Exact match" in dict(run_summary.final_figures(snapshot))) is not free
    assert bool(run_summary.exact_sentence(snapshot)) is free


def test_before_the_first_step_every_figure_is_a_dash() -> None:
    assert {box["value"] for box in dashboard.stats(fold().snapshot())} == {"0", "–"}


def test_the_speed_follows_the_last_twenty_steps() -> None:
    slow = [step(i, seconds=10.0 * i) for i in range(1, 31)]
    fast = [step(30 + i, seconds=300 + 0.1 * i) for i in range(1, 31)]
    assert fold(*slow, *fast).snapshot().steps_per_second == pytest.approx(10.0)


def test_a_resumed_run_draws_its_history_anew_from_the_checkpoint() -> None:
    state = fold(*[step(i) for i in range(1, 31)])
    state.apply({"time": 0.0, **STARTED.to_dict(), "resumed_from_step": 20})
    state.apply({"time": 0.0, **step(21, loss=9.0).to_dict()})
    assert [p[0] for p in state.curve.points] == list(range(1, 22)) and state.curve.points[-1][1] == 9.0
    assert state.snapshot().generation == 1


def test_long_histories_are_thinned_and_short_news_are_not() -> None:
    state = fold(*[step(i) for i in range(1, 5004)])
    thinned = state.curve.since(0, 1500)
    assert len(thinned) <= 1500 and thinned[-1][0] == 5003 and thinned[0][0] == 1
    assert [p[0] for p in state.curve.since(5000, 1500)] == [5001, 5002, 5003]


def test_an_end_is_taken_back_when_the_run_goes_on() -> None:
    state = fold(RunEnded("stopped", "You asked for a stop.", {"end": "stopped"}, ""))
    assert state.snapshot().end == "stopped"
    state.apply({"time": 1.0, **PhaseChanged("starting").to_dict()})
    assert state.snapshot().end == "" and state.snapshot().phase == "starting"


def test_a_killed_workers_end_comes_from_the_status() -> None:
    merged = dashboard.with_status(Snapshot(phase="training"), Status(end="interrupted", reason="gone"))
    assert (merged.phase, merged.end, merged.reason) == ("interrupted", "interrupted", "gone")


def test_a_failure_names_the_field() -> None:
    snapshot = fold(RunEnded("failed", "There is no folder 'x'.", {"end": "failed"}, "model.name")).snapshot()
    assert dashboard.status_line(snapshot, None, alive=False)["detail"] == "Model: There is no folder 'x'."


def test_the_log_has_the_partition_in_words() -> None:
    state = fold(Partitioned(1, 50, 20, 5, 5, 10, 0, 22, 5, 3, 3))
    assert state.log[-1][2] == "Epoch 2: 22 of 40 samples planned, 5 of them replayed; 3 skipped"


def test_below_the_buckets_is_what_was_skipped_because_of_similar_prompts(store: RunStore, config: RunConfig) -> None:
    state = fold(STARTED, EpochEnded(1, 50, 0.4, 120, 20, 18))
    shown = dashboard.payload(store.create(config), state, dashboard.Cursor(), alive=True)["mastery"]
    assert shown.endswith(
        "Epoch 1: 120 samples were skipped because samples with similar prompts are answered correctly; of the 20 trained "
        "on as a test, 90 % were correct."
    )
    state.apply({"time": 0.0, **EpochEnded(2, 100, 0.3).to_dict()})
    assert (
        "answered right"
        not in dashboard.payload(store.create(config), state, dashboard.Cursor(), alive=True)["mastery"]
    )


def test_a_poll_gets_only_what_is_new(store: RunStore, config: RunConfig) -> None:
    folder, state = store.create(config), fold(STARTED, *[step(i) for i in range(1, 11)])
    first = dashboard.payload(folder, state, dashboard.Cursor(), alive=True)
    assert len(first["points"]["step"]) == 10 and first["next"]["points"] == 10 and len(first["log"]) == 1
    state.apply({"time": 0.0, **step(11).to_dict()})
    update = dashboard.payload(folder, state, dashboard.Cursor(**first["next"]), alive=True)
    assert update["points"]["step"] == [11] and update["had"]["points"] == 10 and update["log"] == []
    stale = dashboard.payload(folder, state, dashboard.Cursor(generation=7, points=10), alive=True)
    assert len(stale["points"]["step"]) == 11 and stale["had"]["points"] == 0
    assert len(json.dumps(update, allow_nan=False)) < 5000


def test_the_log_is_sent_once_and_what_fell_off_its_end_is_not_sent_again() -> None:
    state = fold(*[Message(f"line {i}") for i in range(LOG_LINES + 10)])
    assert len(state.log_since(0)) == LOG_LINES
    assert [line[2] for line in state.log_since(state.logged - 2)] == [
        f"line {LOG_LINES + 8}",
        f"line {LOG_LINES + 9}",
    ]
    assert state.log_since(state.logged) == []
    assert len(state.log_since(10**6)) == LOG_LINES


@pytest.mark.parametrize(
    ("seconds", "text", "box"),
    [
        (None, "–", "–"),
        (42.4, "42 s", "42 s"),
        (272, "4 min 32 s", "4:32"),
        (4320, "1 h 12 min", "1:12"),
    ],
)
def test_durations_in_text_and_in_a_box(seconds: float | None, text: str, box: str) -> None:
    assert formatting.format_duration(seconds) == text and formatting.format_eta(seconds)["value"] == box


# ---------------------------------------------------------------- store and charts


def test_a_run_elsewhere_is_listed_too(store: RunStore, config: RunConfig, tmp_path: Path) -> None:
    config.output_dir = str(tmp_path / "elsewhere")
    folder = store.create(config)
    assert store.ids() == [folder.id] and (tmp_path / "elsewhere" / folder.id / "config.yaml").is_file()


def test_a_deleted_run_is_gone_and_nothing_else(store: RunStore, config: RunConfig, tmp_path: Path) -> None:
    here, kept = store.create(config), store.create(config)
    config.output_dir = str(tmp_path / "elsewhere")
    there = store.create(config)
    for folder in (here, there):
        replace_json(folder.path / "status.json", {})
        (folder.path / "checkpoints").symlink_to(kept.path)  # a link in it is a link, and not what it points to
        store.delete(folder.id)
    assert store.ids() == [kept.id] and kept.config_path.is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert [path.name for path in store.root.iterdir()] == [kept.id]


def test_what_is_not_plainly_a_run_is_not_deleted(store: RunStore, config: RunConfig, tmp_path: Path) -> None:
    run = store.create(config)
    project = tmp_path / "project"
    project.mkdir()
    (project / "config.yaml").touch()
    replace_json(tmp_path / "status.json", {})
    (tmp_path / "config.yaml").touch()
    for name, target in {"another": run.path, "project": project, "above": tmp_path}.items():
        (store.root / name).symlink_to(target)
    replace_json(run.path / "status.json", {})
    for name in ("another", "project", "above", ".", "..", "nowhere"):
        with pytest.raises(RunError):
            store.delete(name)
    assert run.config_path.is_file() and (project / "config.yaml").is_file()


@pytest.mark.parametrize("name", ["..", "../x", "/etc", "a/b", ".hidden", ""])
def test_ids_cannot_leave_the_folder_of_runs(store: RunStore, name: str) -> None:
    with pytest.raises(RunError):
        store.folder(name)


def test_a_runs_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(GekoError, match=r"/proc/runs.*--runs"):
        RunStore("/proc/runs")


def test_each_trace_and_each_axis_names_a_column_that_every_poll_has(store: RunStore, config: RunConfig) -> None:
    shown = dashboard.payload(store.create(config), fold(STARTED, step(1)), dashboard.Cursor(), alive=True)
    figures = charts.figures()
    for chart in figures["charts"].values():
        for trace in chart["light"]["data"]:
            source, column = trace["meta"].split(".")
            assert column in shown[source]
    for axis in figures["axes"]:
        assert axis in shown["points"] and axis in shown["evaluations"]


def test_the_dashboard_has_a_place_and_both_downloads_for_each_chart() -> None:
    html = static_text("dashboard.html")
    for attribute in ("chart", "csv", "png"):
        assert re.findall(rf'data-{attribute}="(\w+)"', html) == list(charts.CHARTS)
    assert re.findall(r'<option value="(\w+)"', html) == list(charts.AXES)


def test_charts_start_empty_in_both_themes_and_keep_zoom() -> None:
    for chart in charts.figures()["charts"].values():
        for figure in chart.values():
            assert figure["layout"]["uirevision"] == "keep" and all(len(trace["x"]) == 0 for trace in figure["data"])
    assert [t["name"] for t in charts.bucket_figure("light")["data"]] == ["FREEZE", "LIGHT", "FOCUS", "HARD"]


def test_answers_are_sent_once_and_whatever_a_file_holds_is_drawn(store: RunStore, config: RunConfig) -> None:
    row = {"prompt": "2 + 2", "reference": "4", "answer": "5", "exact": False, "contains": False, "numeric": False}
    right = {**row, "answer": "4", "exact": True, "contains": True, "numeric": True}
    folder, state = store.create(config), fold(STARTED, Answered(0, 0, [row], 1.0), Answered(1, 10, [right], 2.0))
    first = dashboard.payload(folder, state, dashboard.Cursor(), alive=True)
    assert [r["name"] for r in first["answers"]["rounds"]] == ["Before training", "After epoch 1"]
    assert first["answers"]["rounds"][1]["note"].startswith("1 of 1 exact, 1 of 1 contain the reference")
    assert [cell["right"] for cell in first["answers"]["prompts"][0]["answers"]] == [False, True]
    again = dashboard.payload(folder, state, dashboard.Cursor(**first["next"]), alive=True)
    assert again["answers"] is None and again["next"] == first["next"]
    state.apply({"time": 0.0, **Answered(2, 20, [None, {"prompt": 3}, {"exact": "yes"}], 1.0).to_dict()})
    odd = dashboard.payload(folder, state, dashboard.Cursor(**first["next"]), alive=True)["answers"]
    assert [prompt["answers"][2] for prompt in odd["prompts"]] == [{"text": "", "right": None}] * 3
    assert RunState.from_json(json.loads(json.dumps(state.to_json()))).answers == state.answers


def test_only_the_first_and_the_newest_answers_are_kept() -> None:
    state = fold(STARTED, *[Answered(epoch, 10 * epoch, [], 1.0) for epoch in range(60)])
    assert len(state.answers) == ANSWERS_KEPT
    assert [answered["epoch"] for answered in (state.answers[0], state.answers[1], state.answers[-1])] == [0, 37, 59]


@pytest.mark.parametrize(("query", "now"), [({"run": "a"}, False), ({"run": "a", "now": True}, True)])
def test_stop_and_end_now_are_two_requests(query: dict[str, Any], now: bool) -> None:
    asked: list[tuple[str, bool]] = []
    supervisor: Any = SimpleNamespace(
        store=SimpleNamespace(folder=lambda run_id: None),
        attach_or_close=lambda run_id: None,
        stop=lambda run_id, *, now: asked.append((run_id, now)),
    )
    (stop,) = [f for f in dashboard_endpoints(supervisor, Telemetry()) if f.__name__ == "stop"]
    assert stop(query) == {"error": ""} and asked == [("a", now)]
