"""The processes of a run: started where the settings ask for several, and brought together. Imports torch late."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import RunError, Stopped
from geko_engine.launch import GROUP_TIMEOUT, Peers, is_launched, is_main_process, process_count
from geko_engine.reporting.events import Event, Message
from geko_engine.runs.folder import RunFolder


def start_processes(args: GEKOTrainingArgs, emit: Callable[[Event], None], peers: Peers, *, resume: bool) -> None:
    """Start the further processes that the settings ask for, unless a launcher has."""
    if is_launched():
        asked = len(args.gpus) or args.num_processes
        if asked not in (1, process_count()):
            text = f"The settings ask for {asked} processes, but the launcher started {process_count()}: going on with these."
            emit(Message(text, "warning"))
        return
    peers.start(args.process_count(_count_gpus), args.gpus, resume=resume)


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def join_processes(args: GEKOTrainingArgs | None = None) -> None:
    """Meet the other processes of this run, each on a GPU of its own where there are GPUs.

    Args:
        args: of the run, where they are known.

    Raises:
        RunError: when there are fewer GPUs than processes, or not those that are named.
    """
    import torch
    from accelerate import PartialState

    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE") or 1), torch.cuda.device_count()
    if args is not None and args.gpu_ids and gpus < here:
        raise RunError(
            f"gpu_ids is {args.gpu_ids!r}, and {gpus or 'none'} of them can be used here: change it.",
            "training.gpu_ids",
        )
    if 0 < gpus < here:
        raise RunError(
            f"{here} processes need a GPU each, and there are {gpus} here: set training.num_processes to {gpus} (to resume: "
            f"geko-train --resume RUN --set training.num_processes={gpus}).",
            "training.num_processes",
        )
    if process_count() > 1:
        # Without cpu accelerate sees one process on CPUs.
        PartialState(cpu=not torch.cuda.is_available(), timeout=GROUP_TIMEOUT)


@contextlib.contextmanager
def first_process_first(should_stop: Callable[[], bool]) -> Iterator[None]:
    """At once in the first process; in the others when it is done, so that they find in the cache what it has made.

    Raises:
        Stopped: when should_stop says so while a process waits.
    """
    if process_count() == 1:
        yield
        return
    if not is_main_process():
        _meet(should_stop)
    yield
    if is_main_process():
        _meet(should_stop)


def _meet(should_stop: Callable[[], bool]) -> None:
    """Until every process has come here."""
    from torch import cuda, distributed

    gpu = [cuda.current_device()] if cuda.is_available() else None
    meeting = distributed.barrier(device_ids=gpu, async_op=True)
    while not meeting.is_completed():
        if should_stop():
            raise Stopped
        time.sleep(0.05)


def share_folder(folder: RunFolder | None, problem: str = "") -> RunFolder:
    """Share the run folder of the first process with all processes, which may be on several hosts.

    Args:
        folder: of the run in the first process; what the others have is not used.
        problem: why this process cannot begin, "" if it can: one that just ended would leave the others waiting.

    Returns:
        The folder, by its absolute path.

    Raises:
        RunError: in all processes, when one of them has a problem or does not see the folder.
    """
    from accelerate.utils import broadcast_object_list

    join_processes()
    _raise_for_all(problem)
    first = folder if is_main_process() else None
    mark = first.path.absolute() / f".shared-{secrets.token_hex(8)}" if first else Path()
    if first:
        mark.touch()
    mark = Path(broadcast_object_list([str(mark)])[0])
    seen = mark.exists()  # not only a folder of that name, which a host may have of its own
    try:
        _raise_for_all("" if seen else f"the run folder {str(mark.parent)!r} is not there, or is another one.")
    finally:
        if first:
            mark.unlink(missing_ok=True)
    return RunFolder(mark.parent)


def _raise_for_all(problem: str) -> None:
    """Raise RunError in every process when one of them has a problem."""
    from accelerate.utils import gather_object

    here = f"Process {os.environ.get('RANK')} on {socket.gethostname()}: {problem}" if problem else ""
    found = [text for text in gather_object([here]) if text]
    if len(found) == process_count():
        raise RunError(problem)
    if found:
        raise RunError(f"{found[0]} Every host must see the same output_dir, model and data at the same paths.")
