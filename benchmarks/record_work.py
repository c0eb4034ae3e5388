"""The work on the record of every sample, one operation at a time, and gekolib's counterpart of each. Prints nothing."""

from __future__ import annotations

import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common import memory_growth
from benchmarks.third_party import make_trainer, silence
from benchmarks.workload import natural_lengths
from geko_engine.config.selection import GEKOConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.batches import TokenizedData
from geko_engine.reporting.events import StepCompleted
from geko_engine.selection.epoch_plan import plan_epoch
from geko_engine.selection.sample_records import SampleStates
from geko_engine.training.checkpoint_files import read_manifest, write_checkpoint
from geko_engine.training.trainer import GEKOTrainer

BATCH = 32
STEPS = 40  # over which the operations "record" and "step" are averaged
TIMES = 3  # calls of an operation on all samples, of which the middle one counts
AT_ONCE = 1 << 16  # samples that are entered together, as a scan does
COMPARED = ("record", "partition", "plan", "save", "load")  # those that gekolib has too
PEAKS = ("partition", "plan", "save", "load", "checkpoint", "resume")
Seconds = dict[str, float]


def timed(work: Callable[[], object], times: int = 1) -> float:
    """Seconds of one call; the median of `times`."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def signals(count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Random (loss, confidence, correct, min_target_probability) of `count` samples; about a fifth of them becomes FREEZE."""
    rng = np.random.default_rng(seed)
    loss = rng.exponential(0.5, count).astype(np.float32)
    confidence = rng.random(count, dtype=np.float32) ** 0.3
    return loss, confidence, rng.random(count) < 0.5, np.exp(-loss)


def visited(count: int) -> SampleStates:
    """The record of `count` samples after one visit of each, entered in parts so that hardly more memory is ever held."""
    states, config = SampleStates(count), GEKOConfig()
    for first in range(0, count, AT_ONCE):
        ids = np.arange(first, min(first + AT_ONCE, count))
        loss, confidence, correct, min_target_probability = signals(len(ids), seed=first)
        states.record(ids, loss, confidence, correct, min_target_probability, step=0, config=config)
    return states


def record_steps(states: SampleStates) -> None:
    """STEPS visits of BATCH samples each, as the trainer records them."""
    config = GEKOConfig()
    loss, confidence, correct, min_target_probability = signals(BATCH)
    for step in range(STEPS):
        ids = np.arange(step * BATCH, (step + 1) * BATCH)
        states.record(ids, loss, confidence, correct, min_target_probability, step=step, config=config)


def work_on(states: SampleStates, folder: Path) -> dict[str, Callable[[], object]]:
    """Each operation on all samples; load and resume read what save and checkpoint have written."""
    config, count, name = GEKOConfig(), states.count, "samples.safetensors"
    lengths = np.resize(natural_lengths(min(count, 100_000)), count)
    checkpoint = folder / "checkpoint-1"

    def resume() -> None:
        read_manifest(checkpoint)  # every byte is checked before it is used
        SampleStates(count).load(checkpoint / name)

    return {
        "partition": lambda: states.partition(config),
        "plan": lambda: plan_epoch(states, lengths, config, epoch=1, seed=0, step_size=BATCH),
        "save": lambda: states.save(folder / name),
        "load": lambda: SampleStates(count).load(folder / name),
        "checkpoint": lambda: write_checkpoint(checkpoint, lambda to: states.save(to / name), {}),
        "resume": resume,
    }


def geko_seconds(count: int) -> Seconds:
    """Seconds of each operation on the record of `count` samples, and of one step of a trainer that holds them."""
    states = visited(count)
    with tempfile.TemporaryDirectory() as folder:
        work = work_on(states, Path(folder))
        return {
            "record": timed(lambda: record_steps(states)) / STEPS,
            **{name: timed(operation, TIMES) for name, operation in work.items()},
            "step": step_seconds(count, folder),
        }


def peak_bytes(operation: str, count: int, folder: str) -> int:
    """Peak memory of one operation above the record itself; in a fresh process. Files stay in `folder` for the next."""
    work = work_on(visited(count), Path(folder))
    return memory_growth(work[operation])


class _Trivial(nn.Module):
    """A module that costs nothing: one weight, one loss per sample."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        return SimpleNamespace(loss=self.weight * input_ids.float().mean(1))


def step_seconds(count: int, folder: str) -> float:
    """Median seconds of a step of GEKOTrainer beside the model: loading, recording, reporting, with `count` samples."""
    data = TokenizedData(
        tokens=np.ones(4 * count, np.int32),
        learnt=np.ones(4 * count, bool),
        offsets=np.arange(count + 1, dtype=np.int64) * 4,
        rows=np.arange(count, dtype=np.int32),
        parts=np.zeros(count, np.int32),
        digests=np.arange(count, dtype=np.uint64),
    )
    ends: list[float] = []

    def on_event(event: object) -> None:
        if isinstance(event, StepCompleted):
            ends.append(time.perf_counter())

    args = GEKOTrainingArgs(output_dir=folder, num_epochs=1, batch_size=BATCH, save_steps=0, dataloader_num_workers=0)
    trainer = GEKOTrainer(_Trivial(), data, args=args, on_event=on_event, should_stop=lambda: len(ends) >= STEPS)
    trainer.train()
    return statistics.median(np.diff(ends)[2:])


def geko_bytes(count: int) -> dict[str, float]:
    """Bytes per sample in memory after one pass (as counted by tracemalloc) and on disk."""
    tracemalloc.start()
    states = visited(count)
    memory = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.safetensors"
        states.save(path)
        return {"memory": round(memory, 1), "file": round(path.stat().st_size / count, 1)}


class _NoRows:
    """A dataset of so many rows that are never read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return {"input_ids": [1]}


def peer_record(trainer: Any, found: tuple[torch.Tensor, ...], batches: int) -> None:
    """Visits of `batches` x BATCH samples through the peer's own method."""
    for step in range(batches):
        part = slice(step * BATCH, (step + 1) * BATCH)
        ids = [str(i) for i in range(len(trainer.sample_states))[part]]
        trainer._update_sample_states(ids, *(column[part] for column in found))


def peer_trainer(module: Any, count: int, folder: str) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """The peer's trainer with `count` samples, and the signals of all of them."""
    loss, confidence, correct, _ = (torch.from_numpy(column) for column in signals(count))
    return make_trainer(module, nn.Linear(1, 1), _NoRows(count), BATCH, folder), (loss, confidence, correct)


def peer_seconds(module: Any, count: int) -> Seconds:
    """Seconds of the peer's own counterpart of each operation."""
    with tempfile.TemporaryDirectory() as folder, silence():
        trainer, found = peer_trainer(module, count, folder)
        peer_record(trainer, found, -(-count // BATCH))
        return {
            "record": timed(lambda: peer_record(trainer, found, STEPS)) / STEPS,
            "partition": timed(trainer.partition_samples),
            "plan": timed(lambda: list(trainer._create_dataloader().sampler)),
            "save": timed(lambda: trainer.save_checkpoint(folder)),
            "load": timed(lambda: trainer.load_checkpoint(folder)),
        }


def peer_bytes(module: Any, count: int) -> dict[str, float]:
    """Bytes per sample of the peer's objects after one pass, in memory and on disk."""
    with tempfile.TemporaryDirectory() as folder, silence():
        tracemalloc.start()
        trainer, found = peer_trainer(module, count, folder)
        peer_record(trainer, found, -(-count // BATCH))
        memory = (tracemalloc.get_traced_memory()[0] - sum(column.nbytes for column in found)) / count
        tracemalloc.stop()
        trainer.save_checkpoint(folder)
        return {"memory": round(memory, 1), "file": round((Path(folder) / "geko_state.json").stat().st_size / count, 1)}
