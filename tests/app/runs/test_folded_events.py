"""The index of a run's events: it gives the state that events.jsonl gives, and is dropped whenever it does not fit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geko_app.runs.folded_events import INDEX, FoldedEvents
from geko_app.runs.live_state import RunState
from geko_engine.reporting.events import (
    EpochEnded,
    Evaluated,
    Event,
    LogOpened,
    Message,
    Partitioned,
    PhaseChanged,
    RunEnded,
    RunStarted,
    StepCompleted,
)
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import finite

STARTED = RunStarted("m", 40, 10, 2, 5000, 8, 1000, 400, 2_000_000, 1_000_000, "cpu", "fp32")
STEPS = 4_000
EVERY = 50_000  # bytes


def step(number: int) -> StepCompleted:
    """A step of a run whose losses go up and down, one in 700 without a number."""
    loss = float("nan") if number % 700 == 0 else 2.0 + (37 * number % 101) / 101
    tokens, phase = 80 * number, "warmup" if number < 100 else "ascent"
    counts = (number % 11, 10, 5, 5, 20 - number % 11)
    return StepCompleted(
        number, 0, 0.5, 10_000, loss, 1e-3, phase, 8, tokens, tokens, 100 * number, 0.2, 0.7 * number, 0.3 * number, *counts
    )  # fmt: skip


def history(first: int = 1, last: int = STEPS) -> list[Event]:
    events: list[Event] = [
        LogOpened(),
        PhaseChanged("training"),
        dataclasses.replace(STARTED, resumed_from_step=first - 1),
    ]
    events.append(Partitioned(0, 0, 0, 10, 5, 5, 20, 40, 0, 0, 0))
    for number in range(first, last + 1):
        events.append(step(number))
        if number % 500 == 0:
            events += [Evaluated(number, 0, 1.0 / number, 0.5, 10, 80 * number, 0.1), Message(f"At {number}.")]
    return [*events, EpochEnded(1, last, 1.5, 3, 2, 1, "What is learned.")]


def lines(events: Iterable[Event], seq: int = 1) -> bytes:
    written = [{"seq": seq + i, "time": 1000.0 + seq + i, **event.to_dict()} for i, event in enumerate(events)]
    return b"".join(json.dumps(finite(values)).encode() + b"\n" for values in written)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def append(folder: RunFolder, data: bytes) -> None:
    with folder.events_path.open("ab") as file:
        file.write(data)


def from_scratch(folder: RunFolder) -> RunState:
    state = RunState()
    for _, event in folder.events():
        state.apply(event)
    return state


def read(folder: RunFolder) -> FoldedEvents:
    events = FoldedEvents(folder, EVERY)
    events.read()
    return events


def assert_as_from_scratch(events: FoldedEvents) -> None:
    """All of it is the same: points, last values, counters, evaluations, log, and what later events build upon."""
    whole = from_scratch(events.folder)
    assert events.state.to_json() == whole.to_json()
    assert events.state.snapshot() == whole.snapshot()


def test_the_state_from_the_index_is_the_state_from_the_events(folder: RunFolder) -> None:
    append(folder, lines(history()))
    read(folder)
    assert (folder.path / INDEX).stat().st_size < folder.events_path.stat().st_size / 4
    append(folder, lines([step(STEPS + 1), Evaluated(STEPS + 1, 0, 0.25, 0.5, 10, 80, 0.1)], seq=5000))
    again = read(folder)
    assert_as_from_scratch(again)
    assert again.state.snapshot().step == STEPS + 1 and again.state.evaluations[-1].loss == 0.25
    assert [e.step for e in again.state.evaluations] == [*range(500, STEPS + 1, 500), STEPS + 1]


def test_the_index_is_read_instead_of_the_events(folder: RunFolder) -> None:
    append(folder, lines(history()))
    read(folder)
    offsets = []

    class Counted(RunFolder):
        def events(self, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
            offsets.append(offset)
            return super().events(offset)

    FoldedEvents(Counted(folder.path), EVERY).read()
    assert offsets == [folder.events_path.stat().st_size]


def test_however_the_events_come_the_state_is_the_same(folder: RunFolder) -> None:
    data = lines(history(last=1_500))
    events = FoldedEvents(folder, EVERY)
    for begin in range(0, len(data), 17_777):  # mid-line
        append(folder, data[begin : begin + 17_777])
        events.read()
    assert not events.read()
    assert_as_from_scratch(events)
    assert_as_from_scratch(read(folder))


def test_a_resumed_run_is_the_same_from_the_index(folder: RunFolder) -> None:
    append(folder, lines(history()))
    read(folder)
    append(
        folder, lines([*history(first=2_001, last=2_600), RunEnded("complete", "Done.", {"end": "complete"})], 9_000)
    )
    again = read(folder)
    assert_as_from_scratch(again)
    assert again.state.generation == 1 and again.state.snapshot().end == "complete"


def cut_last_line(data: bytes) -> bytes:
    return data[: data.rstrip(b"\n").rfind(b"\n") + 1]


def another_loss(data: bytes) -> bytes:
    """The same length, another figure, far from both ends."""
    middle = data.index(b'"loss": 2.', len(data) // 2)
    return data[: middle + 10] + (b"9" if data[middle + 10 : middle + 11] != b"9" else b"8") + data[middle + 11 :]


@pytest.mark.parametrize(
    "rewrite",
    [
        cut_last_line,
        another_loss,
        lambda data: data[: data.index(b"\n", len(data) // 3) + 1],
        lambda data: data[data.index(b"\n") + 1 :],
        lambda data: lines(history(last=9_000), seq=77),
        lambda data: b"",
    ],
)
def test_an_index_of_other_events_is_not_used(folder: RunFolder, rewrite: Callable[[bytes], bytes]) -> None:
    append(folder, lines(history()))
    read(folder)
    folder.events_path.write_bytes(rewrite(folder.events_path.read_bytes()))
    assert_as_from_scratch(read(folder))


@pytest.mark.parametrize("grown", [False, True])
def test_a_file_that_is_cut_while_it_is_followed_is_folded_anew(folder: RunFolder, grown: bool) -> None:
    append(folder, lines(history(last=300)))
    events = read(folder)
    data = folder.events_path.read_bytes()
    folder.events_path.write_bytes(data[: data.index(b"\n", len(data) // 2) + 1])
    if grown:  # beyond its old length, before anybody looked
        append(folder, lines(history(first=151, last=900), seq=160))
    assert events.read() and events.rewritten == 1
    assert_as_from_scratch(events)
    assert not events.read()


def test_a_removed_file_is_an_empty_one(folder: RunFolder) -> None:
    append(folder, lines(history(last=10)))
    events = read(folder)
    folder.events_path.unlink()
    assert events.read() and events.state.to_json() == RunState().to_json()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"\x00" * len(data),
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'"logged": ', b'"logged": 1'),  # would count ten times as many lines
        lambda data: data.replace(b'"version": "', b'"version": "0.'),
        lambda data: b"[1, 2]\n{}",
        lambda data: b'{"version": 1}\n{}',
    ],
)
def test_a_damaged_index_is_not_used_and_replaced(folder: RunFolder, damage: Callable[[bytes], bytes]) -> None:
    append(folder, lines(history()))
    read(folder)
    whole = (folder.path / INDEX).read_bytes()
    (folder.path / INDEX).write_bytes(damage(whole))
    assert_as_from_scratch(read(folder))
    assert (folder.path / INDEX).read_bytes() == whole


def test_without_room_for_an_index_the_run_is_shown_all_the_same(folder: RunFolder) -> None:
    (folder.path / INDEX).mkdir()  # so that no file can take its place
    append(folder, lines(history()))
    assert_as_from_scratch(read(folder))
    assert not list(folder.path.glob(".*"))


def test_a_short_run_needs_no_index(folder: RunFolder) -> None:
    append(folder, lines(history(last=50)))
    assert_as_from_scratch(read(folder))
    assert not (folder.path / INDEX).exists()
