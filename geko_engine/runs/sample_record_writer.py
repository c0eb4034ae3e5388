"""What a run keeps of its samples while it goes on: their texts, their record and its history. Knows no page.

A disk that is full costs the view of the samples, not the training.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa
from safetensors import SafetensorError

from geko_engine.data.preparation import PreparedDataset
from geko_engine.reporting.events import CheckpointSaved, EpochEnded, Event, Message, PhaseChanged
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.sample_texts import write_sample_texts
from geko_engine.storage.atomic_files import replace_file

if TYPE_CHECKING:
    from geko_engine.training.trainer import GEKOTrainer

FAILURES = (OSError, SafetensorError, pa.ArrowException)
Emit = Callable[[Event], None]


class RecordKeeper:
    """An on_event that passes events on, and writes record and history beside the run whenever there is news.

    That is after every epoch and at every checkpoint, the one of a stop included.
    """

    def __init__(self, folder: RunFolder, trainer: GEKOTrainer, emit: Emit) -> None:
        self._folder, self._trainer, self._emit, self._warned = folder, trainer, emit, False

    def __call__(self, event: Event) -> None:
        self._emit(event)
        if isinstance(event, EpochEnded | CheckpointSaved):
            self.keep()

    def keep(self) -> None:
        """Replace both files, each whole or not at all."""
        try:
            replace_file(self._folder.samples_path, self._trainer.states.save)
            replace_file(self._folder.history_path, self._trainer.history.save)
        except FAILURES as error:
            if not self._warned:
                self._emit(Message(f"The record of the samples cannot be written: {error}.", "warning"))
            self._warned = True


def keep_rows(
    folder: RunFolder,
    part: PreparedDataset,
    emit: Emit,
    should_stop: Callable[[], bool],
) -> None:
    """Write the texts of the training samples, unless this run has them already. Raises Stopped."""
    if folder.rows_path.exists():
        return
    show = functools.partial(_shown, emit)
    try:
        write_sample_texts(folder.path, part.rendered, part.data, should_stop=should_stop, on_progress=show)
    except FAILURES as error:
        emit(Message(f"The texts of the samples cannot be kept beside the run: {error}.", "warning"))


def _shown(emit: Emit, done: int, total: int) -> None:
    emit(PhaseChanged("tokenising", "keeping the texts", done, total))
