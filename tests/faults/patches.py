"""What is changed in a forked child, so that a fault happens at a micro-batch, an event or a step. Never in the tests' process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from geko_engine.runs.folder import RunFolder
from geko_engine.runs.stop_flag import StopFlag
from geko_engine.runs.writer import RunWriter


def count_stop_requests() -> list[int]:
    """How often the run has asked whether to stop: a list of one number."""
    asked = [0]
    ask = StopFlag.__call__

    def counted(flag: StopFlag) -> bool:
        asked[0] += 1
        return ask(flag)

    StopFlag.__call__ = counted  # type: ignore[method-assign]
    return asked


def at_stop_request(at: int, how: Callable[[RunFolder], None]) -> None:
    """Ask for a stop when the run looks for one the `at`-th time."""
    asked = [0]
    ask = StopFlag.__call__

    def asking(flag: StopFlag) -> bool:
        asked[0] += 1
        if asked[0] == at:
            how(RunFolder(flag._path.parent))
        return ask(flag)

    StopFlag.__call__ = asking  # type: ignore[method-assign]


def terminate(folder: RunFolder) -> None:
    """SIGTERM."""
    os.kill(os.getpid(), signal.SIGTERM)


def kill(folder: RunFolder) -> None:
    """SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def join(rank: int, port: int) -> None:
    """Be one of two processes, as a launcher says it."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")


def ask_for_stop(folder: RunFolder) -> None:
    """The `stop` file, as the page writes it."""
    folder.request_stop()


def kill_at_event(kind: str, step: int) -> None:
    """SIGKILL right after an event was written."""
    write = RunWriter.__call__

    def writing(writer: RunWriter, event: Any) -> None:
        write(writer, event)
        if type(event).__name__ == kind and event.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    RunWriter.__call__ = writing  # type: ignore[method-assign]


def spoil(value: float, where: str, step: int) -> None:
    """Make the loss or the gradient of one step NaN or infinite."""
    from geko_engine.training.engine import TrainingEngine

    done = [0]
    update, backward = TrainingEngine.update, TrainingEngine.backward

    def spoilt_update(engine: TrainingEngine, *arguments: Any) -> Any:
        done[0] += 1
        if where == "gradient" and done[0] == step:
            next(p.grad for p in engine.model.parameters() if p.grad is not None).flatten()[0] = value
        return update(engine, *arguments)

    def spoilt_backward(engine: TrainingEngine, *arguments: Any, **options: Any) -> Any:
        if where != "loss" or done[0] != step - 1:
            return backward(engine, *arguments, **options)
        weight = next(engine.model.parameters()).data
        kept = weight.clone()
        weight.fill_(value)
        try:
            return backward(engine, *arguments, **options)
        finally:
            weight.copy_(kept)

    TrainingEngine.update, TrainingEngine.backward = spoilt_update, spoilt_backward  # type: ignore[method-assign]


def wait_before_lock(arrived: tuple[int, int], barrier: tuple[int, int]) -> None:
    """Take the lock on the run only when the parent, who hears of it through `arrived`, has closed the barrier."""
    enter = RunWriter.__enter__
    os.close(barrier[1])

    def waiting(writer: RunWriter) -> RunWriter:
        os.write(arrived[1], b"!")
        os.read(barrier[0], 1)
        return enter(writer)

    RunWriter.__enter__ = waiting  # type: ignore[method-assign]


def set_clock_back(seconds: float) -> None:
    """The time of day, as Python reads it, is that of `seconds` ago."""
    now = time.time
    time.time = lambda: now() - seconds
