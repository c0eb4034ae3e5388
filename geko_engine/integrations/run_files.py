"""The run folder of another trainer's training, and GEKO's part of its checkpoints. Knows the session and no loop."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from geko_engine.config.selection import GEKOConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import CheckpointError
from geko_engine.integrations.samples import write_texts
from geko_engine.integrations.session import Session
from geko_engine.integrations.settings import run_config
from geko_engine.integrations.support import trainer_name
from geko_engine.reporting.events import CheckpointSaved, Event, Message, PhaseChanged, RunEnded
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.sample_record_writer import FAILURES, SampleRecordWriter
from geko_engine.runs.writer import RunWriter
from geko_engine.storage.array_files import load_arrays, save_arrays
from geko_engine.storage.atomic_files import replace_file, replace_json
from geko_engine.training.checkpoint import fingerprint
from geko_engine.training.state import TrainerState

FORMAT = 1
STATE, POLICY = "geko_state.json", "geko_policy.safetensors"  # beside the trainer's own files
Report = dict[str, Any]


class RunFiles:
    """Creates the run folder and writes it while the trainer trains.

    Args:
        root: folder of all runs; None for no run folder.
        settings: the trainer's arguments. unlisted: what config.yaml cannot say of them.
    """

    def __init__(
        self, root: str | Path | None, trainer: Any, settings: GEKOTrainingArgs, config: GEKOConfig, unlisted: list[str]
    ) -> None:
        self._config = None if root is None else run_config(trainer, settings, config, str(root))
        self._trainer, self._unlisted = trainer, unlisted
        self._tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
        self.folder: RunFolder | None = None
        self._listeners: list[Callable[[Event], None]] = []

    def emit(self, event: Event) -> None:
        """Write an event into the run folder, if there is one."""
        for listener in self._listeners:
            listener(event)

    def stop_requested(self) -> bool:
        """Whether the page asked for a stop."""
        return self.folder is not None and self.folder.stop_path.exists()

    def resume(self, path: str) -> None:
        """Go on with the run folder at `path`, if there is one there and its run is not complete."""
        folder = RunFolder(path)
        status = folder.status() if path and self._config is not None else None
        if status is not None and status.end != "complete":
            self.folder = folder

    @contextlib.contextmanager
    def run(self, session: Session) -> Iterator[None]:
        """The training itself; its end and its report are written when it is over."""
        if self._config is None:
            yield
            return
        folder = self.folder = self.folder or RunFolder.create(self._config)
        with RunWriter(folder, clear_stop=True) as write:
            policy = session.policy
            record = SampleRecordWriter(folder, policy.states.save, policy.history.save, write)
            self._listeners = [write, record]
            try:
                self._describe(session)
                yield
            except BaseException as error:
                end = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
                self._end(folder, {"end": end, "reason": reason, "seconds": session.state.seconds})
                raise
            finally:
                session.loader.end()
            record.flush()
            found = session.report()
            if found["end"] == "stopped":
                asked = self.stop_requested()
                found["reason"] = "Stopped by user." if asked else "The trainer ended before all epochs were done."
            self._end(folder, found)

    def _describe(self, session: Session) -> None:
        self.emit(Message(f"Trained by {trainer_name(self._trainer)} with GekoMixin."))
        if self._unlisted:
            self.emit(
                Message(f"config.yaml has other values than the trainer: {', '.join(self._unlisted)}.", "warning")
            )
        assert self.folder is not None, "it was just created"
        if self._tokenizer is None or self.folder.rows_path.exists():
            return

        def show(done: int, total: int) -> None:
            self.emit(PhaseChanged("tokenising", "writing the sample texts", done, total))

        try:
            write_texts(self.folder.path, session.samples, self._tokenizer, show)
        except FAILURES as error:
            self.emit(Message(f"The texts of the samples cannot be written: {error}.", "warning"))

    def _end(self, folder: RunFolder, report: Report) -> None:
        with contextlib.suppress(OSError):  # RunEnded has the report too
            replace_json(folder.report_path, report)
        self.emit(RunEnded(report["end"], report["reason"], report))

    def save_state(self, session: Session, checkpoint: Path, began: float) -> None:
        """Add GEKO's part to a checkpoint that the trainer has just written; `began`: when, in monotonic seconds."""
        session.state.events = self.folder.last_seq() if self.folder else None
        policy = session.policy.state_dict()
        arrays = {name: value for name, value in policy.items() if isinstance(value, np.ndarray)}
        replace_file(checkpoint / POLICY, lambda path: save_arrays(arrays, path))
        values = {
            "format": FORMAT,
            "run_folder": str(self.folder.path.resolve()) if self.folder else "",
            "identity": identity(session),
            "state": asdict(session.state),
            "policy": {name: value for name, value in policy.items() if name not in arrays},
        }
        replace_json(checkpoint / STATE, values)
        self.emit(CheckpointSaved(session.state.step, str(checkpoint), time.monotonic() - began))


def load_state(session: Session, checkpoint: Path) -> str:
    """Bring the session to where the checkpoint was written.

    Returns:
        Path of the run folder that it was written from, or "".

    Raises:
        CheckpointError: when GEKO's part is missing, damaged or of another run (what differs is named).
    """
    try:
        values = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        arrays = load_arrays(checkpoint / POLICY)
        there = values["identity"]
        policy, folder = values["policy"] | arrays, str(values["run_folder"])
        state = TrainerState.from_dict(values["state"])
    except FileNotFoundError as error:
        raise CheckpointError(
            f"The checkpoint {str(checkpoint)!r} has no {Path(error.filename or STATE).name}, so GEKO's record is not in it: it "
            "was written without GekoMixin, or cut off. Resume from another one, or without GekoMixin."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"GEKO's part of the checkpoint {str(checkpoint)!r} cannot be read ({error}): resume from another one."
        ) from error
    here = identity(session)
    different = [f"{name} is {value!r} here and {there.get(name)!r} there" for name, value in here.items()]
    different = [text for text, (name, value) in zip(different, here.items(), strict=True) if there.get(name) != value]
    if different:
        raise CheckpointError(f"The checkpoint {str(checkpoint)!r} is of another run: {'; '.join(different)}.")
    session.policy.load_state_dict(policy)
    session.state = state
    session.state.reason = ""
    return folder


def identity(session: Session) -> dict[str, Any]:
    """What must be the same for a resume to go on with the same run."""
    view = session.samples.view
    return {
        "samples": len(view),
        "data_fingerprint": fingerprint(view),
        "target_fingerprint": fingerprint(view, "labels"),
        "num_epochs": session.info.epochs,
        "max_steps": session.max_steps,
        "samples_per_step": session.step_size,
        "seed": session.seed,
    }
