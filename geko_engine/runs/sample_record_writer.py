"""Writes the sample record, its history, the last evaluation and the sample texts into the run folder. Knows no trainer and no page.

If the disk is full, the page cannot show the samples, but training continues.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from safetensors import SafetensorError

from geko_engine.data.held_out import write_held_out
from geko_engine.data.preparation import PreparedDataset
from geko_engine.reporting.events import CheckpointSaved, EpochEnded, Evaluated, Event, Message, PhaseChanged
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.sample_slices import write_slices
from geko_engine.runs.sample_texts import write_sample_texts
from geko_engine.storage.atomic_files import replace_file, replace_json
from geko_engine.storage.disk_space import try_twice

FAILURES = (OSError, SafetensorError, pa.ArrowException)
Emit = Callable[[Event], None]
Save = Callable[[Path], None]


class SampleRecordWriter:
    """A listener that writes record and history into the run folder after every epoch and checkpoint, and each evaluation at once.

    Args:
        folder: of the run.
        save_record, save_history: called with the path of a file to write.
        emit: receives one warning if the files cannot be written.
        save_evaluation: gives a function that writes the scores of the last evaluation, None while there is none.
    """

    def __init__(
        self,
        folder: RunFolder,
        save_record: Save,
        save_history: Save,
        emit: Emit,
        save_evaluation: Callable[[], Save | None] = lambda: None,
    ) -> None:
        self._folder, self._save_record, self._save_history, self._emit = folder, save_record, save_history, emit
        self._save_evaluation, self._warned = save_evaluation, False

    def __call__(self, event: Event) -> None:
        if isinstance(event, Evaluated):  # before the checkpoint: a run that is resumed from it does not evaluate again
            self._write(self._folder.evaluation_path, self._save_evaluation())
        elif isinstance(event, EpochEnded | CheckpointSaved):
            self.flush()

    def flush(self) -> None:
        """Replace record and history, each atomically."""
        self._write(self._folder.samples_path, self._save_record)
        self._write(self._folder.history_path, self._save_history)

    def _write(self, path: Path, save: Save | None) -> None:
        try:
            if save is not None:
                try_twice(lambda: replace_file(path, save), FAILURES)
        except FAILURES as error:
            if not self._warned:
                self._emit(Message(f"The sample record cannot be written: {error}.", "warning"))
            self._warned = True


def write_held_out_rows(folder: RunFolder, parts: Sequence[PreparedDataset], emit: Emit) -> None:
    """Write down which rows of the training data a run holds out; nothing for one with evaluation data of its own.

    Args:
        folder: of the run.
        parts: the training data and, if there is any, the evaluation data.
        emit: receives a warning if the file cannot be written.
    """
    if len(parts) < 2 or parts[1].rendered is not parts[0].rendered:
        return
    try:
        try_twice(lambda: write_held_out(folder.path, parts[0].rendered, parts[1].data), FAILURES)
    except FAILURES as error:
        emit(Message(f"The rows that are held out cannot be written down: {error}.", "warning"))


def write_applied_corrections(folder: RunFolder, parts: Sequence[PreparedDataset], emit: Emit) -> None:
    """Write down which corrections a run is trained with: not those of rows that have another text, or are held out.

    Args:
        folder: of the run; nothing is written for one that was started without corrections.
        parts: the training data and, if there is any, the evaluation data.
        emit: receives a warning if the file cannot be written.
    """
    if not folder.used_corrections_path.is_file():
        return
    rendered = parts[0].rendered
    held = parts[1].data.rows.tolist() if len(parts) > 1 and parts[1].rendered is rendered else []
    rows = sorted(number + 1 for number in (rendered.corrected - set(held)) | rendered.deleted)
    try:
        try_twice(lambda: replace_json(folder.applied_corrections_path, {"rows": rows}), FAILURES)
    except FAILURES as error:
        emit(Message(f"The corrections that were applied cannot be written down: {error}.", "warning"))


def write_sample_texts_once(
    folder: RunFolder, part: PreparedDataset, emit: Emit, should_stop: Callable[[], bool]
) -> None:
    """Write the texts of the training samples into the run folder, unless they are there already.

    Args:
        folder: of the run.
        part: the training data.
        emit: receives progress, and a warning if the texts cannot be written.
        should_stop: called between batches of samples.

    Raises:
        Stopped: if should_stop returned True.
    """
    if folder.rows_path.exists():
        return
    show = functools.partial(_report_progress, emit)
    # The file of rows comes last: once it is there, a run that is resumed takes all of them as written.
    try:
        write = functools.partial(write_sample_texts, folder.path, part.rendered, part.data)
        try_twice(lambda: write_slices(folder.slices_path, part.rendered, part.data), FAILURES)
        try_twice(lambda: write(should_stop=should_stop, on_progress=show), FAILURES)
    except FAILURES as error:
        emit(Message(f"The texts of the samples cannot be written: {error}.", "warning"))


def _report_progress(emit: Emit, done: int, total: int) -> None:
    emit(PhaseChanged("tokenising", "writing the sample texts", done, total))
