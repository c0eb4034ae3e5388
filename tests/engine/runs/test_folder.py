"""The folder of a run: readable at any moment, never reused, never shown as running when its worker is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.reporting.events import EVENTS_VERSION, Evaluated, Message, PhaseChanged, RunEnded
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.writer import RunWriter, mark_interrupted
from geko_engine.storage.atomic_files import replace_json


def new_folder(root: Path) -> RunFolder:
    config = RunConfig.demo()
    config.output_dir = str(root)
    return RunFolder.create(config)


def test_ids_are_fresh_and_the_configuration_comes_back(tmp_path: Path) -> None:
    folders = [new_folder(tmp_path) for _ in range(5)]
    assert len({f.id for f in folders}) == 5
    assert folders[0].config().training == RunConfig.demo().training


def test_events_are_numbered_across_writers_and_read_from_a_cursor(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    for text in ("one", "two"):
        with RunWriter(folder) as write:
            write(Message(text))
    found = list(folder.events())
    assert [e["seq"] for _, e in found] == [1, 2, 3, 4]
    assert [e.get("text", e.get("events_version")) for _, e in found] == [EVENTS_VERSION, "one", EVENTS_VERSION, "two"]
    assert [e.get("text") for _, e in folder.events(found[2][0])] == ["two"]


def test_a_half_written_line_is_not_read_and_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    with RunWriter(folder) as write:
        write(Message("whole"))
    with folder.events_path.open("a", encoding="utf-8") as file:
        file.write('{"seq": 2, "type": "Mess')
    assert len(list(folder.events())) == 2
    with RunWriter(folder) as write:
        write(Message("after"))
    assert [e["seq"] for _, e in folder.events()] == [1, 2, 3, 4]


def test_what_is_not_a_number_travels_as_nothing(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    with RunWriter(folder) as write:
        write(Evaluated(1, 0, float("nan"), float("inf"), 3, 4, 0.5))
    assert "NaN" not in folder.events_path.read_text(encoding="utf-8")
    _, (_, event) = folder.events()
    assert event["eval_loss"] is None and event["exact_match"] is None
    replace_json(tmp_path / "r.json", {"a": [float("nan"), 1.0]})
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == {"a": [None, 1.0]}


def test_the_status_tells_a_living_worker_from_a_stranger_with_its_pid(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    assert folder.status() is None
    with RunWriter(folder) as write:
        write(PhaseChanged("training"))
        status = folder.status()
        assert status and status.alive and status.phase == "training" and status.pid == os.getpid()
    replace_json(folder.path / "status.json", {**status.__dict__, "pid_started": 1.0})
    assert not folder.status().alive


def test_a_dead_worker_is_marked_and_an_end_is_never_overwritten(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    mark_interrupted(folder, "gone")
    assert (folder.status().phase, folder.status().end, folder.status().reason) == (
        "interrupted",
        "interrupted",
        "gone",
    )
    with RunWriter(folder) as write:
        write(RunEnded("complete", "done", {}))
    mark_interrupted(folder, "again")
    assert folder.status().end == "complete"


def test_a_complete_run_is_never_written_again(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    with RunWriter(folder) as write:
        write(RunEnded("complete", "done", {}))
    before = folder.events_path.read_bytes()
    with pytest.raises(RunError, match=r"is complete: there is nothing to resume\. Its model is in"):
        RunWriter(folder).__enter__()
    assert folder.events_path.read_bytes() == before


def test_a_stop_request_is_taken_back_when_the_run_goes_on(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    folder.request_stop()
    folder.request_stop()
    with RunWriter(folder):
        assert folder.stop_path.exists()  # whoever asked before the worker's first word is heard
    folder.clear_stop()
    assert not folder.stop_path.exists()


def test_folders_that_cannot_be_made_or_are_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RunError) as caught:
        new_folder(tmp_path / "file")
    assert caught.value.field == "output_dir"
    with pytest.raises(RunError, match="There is no run"):
        RunFolder.open(tmp_path)


def test_hundreds_of_runs_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    config = RunConfig.demo()
    config.output_dir = str(tmp_path)
    assert len({RunFolder.create(config).id for _ in range(600)}) == 600 == len(list(tmp_path.iterdir()))
