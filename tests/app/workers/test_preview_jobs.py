"""Previews before a start: real child processes, and the card that the page draws of their events."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from geko_app.formatting import format_estimated_duration
from geko_app.views.preview import card
from geko_app.workers import preview_jobs
from geko_app.workers.form_checks import CHECK_COMMAND
from geko_app.workers.inference_jobs import INFERENCE_COMMAND
from geko_app.workers.preview_jobs import MAX_ACTIVE, PreviewJob, PreviewJobs
from geko_app.workers.supervisor import TRAINING_COMMAND
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.reporting.events import DataChecked, DataPreviewed, Message, PhaseChanged, RunEnded, StepEstimated
from tests.app.workers.test_supervisor import wait_for

EVENTS = [
    PhaseChanged("tokenising", "training rows", 2000, 10000),
    DataPreviewed(["prompt", "completion"], "Prompt in 'prompt'.", [[("a\n", False), ("b", True)]]),
    DataChecked(
        "training", "x.jsonl", 100, 98, 5000, 1000, 99, [(50, 90), (100, 8)],
        [{"kind": "empty", "count": 2, "rows": [3, 7], "sentence": "2 rows without anything to learn, left out: 3, 7"}],
    ),
    Message("The tokenizer has no chat template."),
    StepEstimated(
        1_000_000, 2000, {"weights": 4_000_000, "gradients": 0, "optimizer": 0, "activations": 4_000_000, "logits": 0},
        8_800_000, 10**10, 2 * 10**10, 60, 200.0, "fits", "It fits.",
    ),
    RunEnded("complete", "Everything was checked.", {}),
]  # fmt: skip


@pytest.fixture
def previews(worker_command: Callable[[str], tuple[str, ...]]) -> Iterator[PreviewJobs]:
    made = PreviewJobs(worker_command("wait"))
    yield made
    made.shutdown()


def wait_for_end(previews: PreviewJobs, key: str) -> list[dict]:
    previews._jobs[key].process.wait(60)
    events = previews.events(key)
    assert events is not None
    return events


def test_the_card_fills_as_the_preview_goes_on() -> None:
    events = [event.to_dict() for event in EVENTS]
    early = card(events[:1])
    assert early["status"] == "Tokenizing · 2,000 of 10,000" and early["running"] and early["figures"] == []
    preview = card(events[:2])
    assert preview["samples"] == [[("a\n", False), ("b", True)]] and preview["shape"] == "Prompt in 'prompt'."
    whole = card(events)
    assert not whole["running"] and whole["status"] == "" and whole["error"] == ""
    assert {figure["name"]: figure["value"] for figure in whole["figures"]} == {
        "Samples": "98", "Trained tokens": "20.0 %", "Longest sample": "99", "Evaluation": "–",
        "Memory": "≈ 9 MB", "Time": "≈ 3 min",
    }  # fmt: skip
    assert whole["findings"] == [
        "Training: 2 rows without anything to learn, left out: 3, 7", "The tokenizer has no chat template.",
    ]  # fmt: skip
    assert [part["share"] for part in whole["memory"]["parts"]] == [0.5, 0, 0, 0.5, 0]
    assert "1 M parameters, 2 k trained" in whole["memory"]["note"]


def test_what_changes_more_than_a_tenth_of_the_rows_is_said_beside_start() -> None:
    def warned(kind: str, count: int, name: str = "training") -> list[str]:
        found = [{"kind": kind, "count": count, "rows": [1], "sentence": f"{count} rows"}]
        return card([DataChecked(name, "x.jsonl", 100, 98, 5000, 1000, 99, [(50, 90)], found).to_dict()])["warnings"]

    assert warned("changed", 11) == warned("truncated", 11) == warned("unusable", 11) == ["11 rows"]
    assert warned("changed", 10) == [], "a tenth is not more"
    assert warned("duplicate", 90) == warned("remark", 90) == [], "they are learned as they are"
    assert warned("empty", 90, "evaluation") == []


def test_a_failed_preview_says_where(config: RunConfig) -> None:
    failed = card([RunEnded("failed", "There is no file.", {}, "data.train").to_dict()])
    assert (failed["error"], failed["field"]) == ("Training data: There is no file.", "data.train")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "≈ 1 s"), (59, "≈ 59 s"), (90, "≈ 1.5 min"), (4000, "≈ 1.1 h"), (11_000, "≈ 3 h")]
)
def test_an_estimated_time_is_one_figure(seconds: float, text: str) -> None:
    assert format_estimated_duration(seconds) == text


def test_the_same_configuration_is_previewed_once_and_few_at_a_time(previews: PreviewJobs, config: RunConfig) -> None:
    first = previews.start(config)
    assert previews.start(RunConfig.from_dict(config.to_dict())) == first
    process, folder = previews._jobs[first].process, previews._jobs[first].folder.path
    for seed in range(MAX_ACTIVE):
        other = RunConfig.from_dict(config.to_dict())
        other.training.seed = seed
        previews.start(other)
    assert previews.events(first) is None
    wait_for(lambda: process.poll() is not None and not Path(folder).exists(), "the end of the first one")


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    other = RunConfig.from_dict(config.to_dict())
    other.training.seed = seed
    return other


def test_there_are_never_more_processes_than_that(
    worker_command: Callable[[str], tuple[str, ...]], config: RunConfig
) -> None:
    previews, begun = PreviewJobs(worker_command("ignore-all")), list[PreviewJob]()
    for seed in range(8):
        key = previews.start(with_seed(config, seed))
        begun.append(previews._jobs[key])
        if not seed:
            wait_for(lambda key=key: bool(previews.events(key)), "its first event")  # from then on it ignores SIGTERM
        assert sum(job.alive for job in begun) <= MAX_ACTIVE
    previews.shutdown()
    assert not any(job.alive or job.folder.path.exists() for job in begun)


def test_only_a_new_preview_waits_for_one_that_does_not_end(
    previews: PreviewJobs, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_disk, waits, end = threading.Event(), threading.Event(), PreviewJob.end

    def hang(job: PreviewJob) -> None:
        waits.set()
        dead_disk.wait()
        end(job)

    monkeypatch.setattr(PreviewJob, "end", hang)
    monkeypatch.setattr(preview_jobs, "STOP_SECONDS", 600.0)
    kept = [previews.start(with_seed(config, seed)) for seed in range(MAX_ACTIVE)][-1]
    further = threading.Thread(target=previews.start, args=(with_seed(config, 8),))
    further.start()
    assert waits.wait(60) and previews.events(kept) is not None and len(previews._jobs) == MAX_ACTIVE - 1
    dead_disk.set()
    further.join()
    assert len(previews._jobs) == MAX_ACTIVE
    dead_disk.clear()
    monkeypatch.setattr(preview_jobs, "STOP_SECONDS", 0.0)
    with pytest.raises(RunError, match="try again in a moment"):
        previews.start(with_seed(config, 9))
    dead_disk.set()


@pytest.mark.parametrize(
    ("number", "hint"), [(signal.SIGKILL, "memory ran out"), (signal.SIGSEGV, "a damaged data file, most often")]
)
def test_a_preview_whose_process_dies_says_so(
    number: signal.Signals, hint: str, previews: PreviewJobs, config: RunConfig
) -> None:
    key = previews.start(config)
    os.kill(previews._jobs[key].process.pid, number)
    events = wait_for_end(previews, key)
    error = card(events)["error"]
    assert number.name in error and hint in error and previews.events("nothing") is None
    assert previews.start(config) != key, "what failed is tried again"


def test_a_preview_that_takes_too_long_is_ended(previews: PreviewJobs, config: RunConfig) -> None:
    key = previews.start(config)
    assert not card(previews.events(key) or [])["error"]
    previews._jobs[key].ends_at = 0.0
    assert "took longer than 60 minutes" in card(previews.events(key) or [])["error"]
    assert previews._jobs[key].process.poll() == -signal.SIGKILL


@pytest.mark.parametrize("command", [TRAINING_COMMAND, INFERENCE_COMMAND, CHECK_COMMAND])
def test_no_process_of_the_page_imports_from_the_folder_that_it_is_started_in(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "yaml.py").write_text("raise RuntimeError('not the library')", encoding="utf-8")
    python = command[: command.index("-m")]
    subprocess.run([*python, "-c", "import yaml"], cwd=tmp_path, check=True)


@pytest.mark.slow
def test_a_real_preview_of_the_demo(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started in a folder that holds files of the user's with the names of libraries."""
    (tmp_path / "yaml.py").write_text("raise RuntimeError('not the library')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    previews = PreviewJobs()
    config.data.sample_count = 500
    key = previews.start(config, "hf_unused")
    events = wait_for_end(previews, key)
    shown = card(events)
    assert shown["error"] == "" and shown["memory"]["verdict"] == "fits" and len(shown["samples"]) == 20
    assert previews.start(config) == key, "it is complete, so it is shown again"
    previews.shutdown()
