"""A run waits for room on its disk: before it starts, after a step and before a checkpoint. No real disk, no clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from geko_engine.reporting.events import PAUSED, Event, Message, PhaseChanged, RunEnded
from geko_engine.runs.disk_guard import ROOM, WAIT_SECONDS, DiskGuard, wait_until
from geko_engine.runs.writer import RunWriter
from geko_engine.storage.disk_space import RESERVE
from tests.app.views.test_dashboard import STARTED, step
from tests.engine.runs.test_folder import new_folder

TRAINING, SAVING = PhaseChanged("training", "epoch 1 of 2"), PhaseChanged("saving", "checkpoint")
PLACE = Path("/runs/one")


class Disk:
    """A disk whose free bytes change with every second that is waited."""

    def __init__(self, *free: int) -> None:
        self._free: Iterator[int] = iter(free)
        self.left = next(self._free)
        self.slept: list[float] = []

    def free(self, _folder: Path) -> int:
        return self.left

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.left = next(self._free)


def guard_of(disk: Disk, stops: list[bool] | None = None, **sizes: int) -> tuple[DiskGuard, list[Event]]:
    events: list[Event] = []
    flags = iter(stops or ())
    guard = DiskGuard(PLACE, events.append, lambda: next(flags, False), free=disk.free, sleep=disk.sleep)
    guard.sizes = {name: lambda size=size: size for name, size in sizes.items()}
    return guard, events


def test_with_room_every_event_passes_at_once() -> None:
    disk = Disk(100_000_000)
    guard, events = guard_of(disk, checkpoint=50_000_000, model=20_000_000)
    given = [STARTED, TRAINING, step(1), SAVING, PhaseChanged("saving", "model"), RunEnded("complete", "", {})]
    for event in given:
        guard(event)
    assert events == given and disk.slept == []


def test_a_checkpoint_waits_until_it_fits() -> None:
    disk = Disk(30_000_000, 30_000_000, 50_000_000, 60_000_000)
    guard, events = guard_of(disk, checkpoint=50_000_000)
    guard(TRAINING)
    guard(SAVING)
    paused, said = events[1:3]
    assert isinstance(paused, PhaseChanged) and paused.phase == PAUSED
    assert "has 30.0 MB left, but 51.0 MB are needed for the checkpoint: free some space there" in paused.message
    assert isinstance(said, Message) and events[3:] == [TRAINING, SAVING]
    assert disk.slept == [WAIT_SECONDS] * 3


def test_a_run_waits_before_it_starts_until_checkpoint_and_model_fit() -> None:
    disk = Disk(65_000_000, 71_000_000)
    guard, events = guard_of(disk, checkpoint=50_000_000, model=20_000_000)
    guard(STARTED)
    assert (
        isinstance(events[0], PhaseChanged)
        and "71.0 MB are needed for the checkpoint and the model" in events[0].message
    )
    assert events[-1] == STARTED


def test_a_step_waits_while_its_event_might_not_fit() -> None:
    disk = Disk(ROOM - 1, ROOM)
    guard, events = guard_of(disk, model=1)
    guard(step(7))
    assert [type(event).__name__ for event in events] == ["PhaseChanged", "Message", "StepCompleted"]


def test_a_stop_ends_the_wait_and_the_event_passes() -> None:
    disk = Disk(0, 0, 0)
    guard, events = guard_of(disk, [False, False, True], checkpoint=1)
    guard(SAVING)
    assert [getattr(event, "phase", "") for event in events] == [PAUSED, "saving"] and len(disk.slept) == 1
    guard, events = guard_of(Disk(0), [True], checkpoint=1)  # it was there before
    guard(SAVING)
    assert events == [SAVING]


def test_without_sizes_it_waits_for_nothing() -> None:
    guard, events = guard_of(Disk(0))
    for event in (STARTED, step(1), SAVING):
        guard(event)
    assert events == [STARTED, step(1), SAVING]


def test_other_phases_and_events_need_no_room() -> None:
    guard, events = guard_of(Disk(0), checkpoint=10, model=10)
    given = [TRAINING, PhaseChanged("saving", "something else"), Message("One."), RunEnded("failed", "", {})]
    for event in given:
        guard(event)
    assert events == given


@pytest.mark.parametrize(("ready", "stops", "slept"), [([True], [], 0), ([False, False, True], [False] * 3, 2)])
def test_waiting_ends_when_it_is_ready(ready: list[bool], stops: list[bool], slept: int) -> None:
    looks, flags, seconds = iter(ready), iter(stops), []
    assert wait_until(lambda: next(looks), lambda: next(flags), seconds.append)
    assert seconds == [WAIT_SECONDS] * slept


def test_a_paused_run_gives_its_reserve_to_the_event_that_says_so(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    with RunWriter(folder) as write:
        assert (folder.path / RESERVE).exists()
        write(PhaseChanged(PAUSED, "The disk is full."))
        assert not (folder.path / RESERVE).exists()
        status = folder.status()
        assert status is not None and (status.phase, status.end) == (PAUSED, "")
        write(TRAINING)
        assert (folder.path / RESERVE).exists()


def test_the_expected_bytes_are_those_that_are_written(tmp_path: Path) -> None:
    from geko_engine import GEKOTrainer, GEKOTrainingArgs
    from geko_engine.models.saving import saved_bytes
    from geko_engine.training.checkpoint import expected_bytes
    from tests.engine.conftest import small_llama

    samples = [{"input_ids": list(range(2, 10 + number))} for number in range(8)]
    args = GEKOTrainingArgs(num_epochs=1, batch_size=4, output_dir=str(tmp_path), save_at_end=False)
    trainer = GEKOTrainer(small_llama(), samples, args=args, on_event=lambda event: None)
    before = expected_bytes(trainer.model, trainer.engine, trainer.policy)
    trainer.train()
    after = expected_bytes(trainer.model, trainer.engine, trainer.policy)
    trainer.save_checkpoint(tmp_path / "checkpoint-2")
    trainer.save_model(tmp_path / "model")
    written = sum(file.stat().st_size for file in (tmp_path / "checkpoint-2").iterdir())
    assert after <= written < after + 100_000 and before == pytest.approx(after, rel=0.05)
    weights = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert saved_bytes(trainer.model) == pytest.approx(weights, rel=0.05)
    assert saved_bytes(trainer.model, torch.bfloat16) == saved_bytes(trainer.model) / 2
