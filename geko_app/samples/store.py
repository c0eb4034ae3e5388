"""What a run keeps of its samples, as arrays and texts. Reads files only when they have changed; knows no page.

The record and its history are replaced after every epoch, the texts are written once: see geko_engine/texts.py.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.config.selection import GEKOConfig
from geko_engine.data.excluded_rows import NEVER_FREEZE, flagged_rows
from geko_engine.exceptions import GekoError, RunError
from geko_engine.runs.folder import RunFolder
from geko_engine.selection.sample_records import SampleStates

RUNS_HELD = 3
SEARCHES_HELD = 8
BEGINNING = 160  # characters of a text that a line of the table may show
NOT_KEPT = "This run kept no texts and no history of its samples: it was made by an earlier version of GEKO."
NEVER_READ = "This run ended before its samples were read, so there are none to show."
NOT_YET = "The samples of this run show up here as soon as they are read."


def changed(path: Path) -> str:
    """Another text whenever the file at `path` is another one; "0" while there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return "0"
    return f"{found.st_mtime_ns}.{found.st_ino}.{found.st_size}"


class Texts:
    """The texts of one run; the beginnings are held, whole texts are read when they are asked for."""

    def __init__(self, path: Path) -> None:
        self._file = parquet.ParquetFile(path)
        self.layout = (self._file.metadata.metadata or {}).get(b"layout", b"pair").decode()
        self._starts = np.cumsum([0, *(self._file.metadata.row_group(i).num_rows for i in range(self._groups))])
        self._searches: OrderedDict[str, NDArray] = OrderedDict()
        self._lock = threading.Lock()  # a ParquetFile is read by one thread at a time

    @property
    def _groups(self) -> int:
        return int(self._file.metadata.num_row_groups)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    @cached_property
    def _beginnings(self) -> pa.Array:
        with self._lock:
            parts = [
                compute.utf8_slice_codeunits(batch.column(0), 0, BEGINNING)
                for batch in self._file.iter_batches(10_000, columns=["text"])
            ]
        return pa.chunked_array(parts, pa.string()).combine_chunks()

    def beginnings(self, ids: NDArray) -> list[str]:
        """The first characters of each of `ids`."""
        found: list[str] = self._beginnings.take(pa.array(ids)).to_pylist()
        return found

    def one(self, index: int) -> dict[str, Any]:
        """All columns of one sample."""
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        with self._lock:
            table = self._file.read_row_group(group)
        values: dict[str, Any] = table.slice(index - int(self._starts[group]), 1).to_pylist()[0]
        return values

    def batches(self, size: int = 1000) -> Any:
        """All columns as dictionaries, many rows at a time; for whoever has opened the texts for itself."""
        return (batch.to_pylist() for batch in self._file.iter_batches(size))

    def containing(self, needle: str) -> NDArray:
        """Mask [count] of the samples whose text contains `needle`, whatever its case."""
        with self._lock:
            if needle not in self._searches:
                parts = [
                    compute.match_substring(batch.column(0), needle, ignore_case=True).to_numpy(zero_copy_only=False)
                    for batch in self._file.iter_batches(10_000, columns=["text"])
                ]
                self._searches[needle] = np.concatenate(parts) if parts else np.zeros(0, bool)
                if len(self._searches) > SEARCHES_HELD:
                    self._searches.popitem(last=False)
            return self._searches[needle]


@dataclass(frozen=True)
class Samples:
    """All that is known of the samples of one run; every array is [count].

    Attributes:
        facts: row, tokens, targets, truncated, equal_to, contradicts (see geko_engine/texts.py).
        history: loss, confidence, correct, bucket [epochs, count]; epochs, steps [epochs].
        version: changes whenever a file does.
    """

    folder: RunFolder
    version: str
    config: RunConfig
    states: SampleStates
    facts: dict[str, NDArray]
    history: dict[str, NDArray]
    texts: Texts

    @property
    def count(self) -> int:
        return self.states.count

    @property
    def rule(self) -> GEKOConfig:
        return self.config.geko

    @cached_property
    def never_freeze(self) -> set[int]:
        """Row numbers that were marked so for this run; none where that cannot be read any more."""
        try:
            return {row + 1 for row in flagged_rows(self.folder.config_with_saved_flags().data, NEVER_FREEZE)}
        except GekoError:
            return set()

    @cached_property
    def visited(self) -> NDArray:
        mask: NDArray = self.states.visits() > 0
        return mask

    @cached_property
    def q(self) -> NDArray:
        return self.states.q_value(slice(None), self.rule)

    @cached_property
    def suspects(self) -> NDArray:
        return self.states.suspects()

    @cached_property
    def ids_by_row(self) -> dict[int, int]:
        """Sample id by row number in the source."""
        return {row: index for index, row in enumerate(self.facts["row"].tolist())}


class SampleStore:
    """The samples of the runs of `store`; those looked at last are held."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._held: OrderedDict[str, Samples] = OrderedDict()
        self._texts: OrderedDict[str, Texts] = OrderedDict()
        self._lock = threading.Lock()

    def folder(self, run_id: str) -> RunFolder:
        """The run named `run_id`. Raises RunError for anything else."""
        return self._store.folder(run_id)

    def version(self, run_id: str) -> str:
        """Changes with every file that is read here; asking costs three looks at the disk. Raises RunError."""
        folder = self.folder(run_id)
        paths = (folder.rows_path, folder.samples_path, folder.history_path)
        return "-".join(map(changed, paths))

    def samples(self, run_id: str) -> Samples:
        """The samples as the files stand now.

        Raises:
            RunError: with the sentence for the user where there is nothing to show (yet).
        """
        version = self.version(run_id)
        with self._lock:
            held = self._held.pop(run_id, None)
            if held is None or held.version != version:
                held = self._read(run_id, version)
            self._held[run_id] = held
            if len(self._held) > RUNS_HELD:
                self._held.popitem(last=False)
            return held

    def _read(self, run_id: str, version: str) -> Samples:
        folder = self.folder(run_id)
        if not folder.rows_path.exists():
            ended = (status := folder.status()) is not None and bool(status.end)
            raise RunError(NOT_KEPT if folder.samples_path.exists() else NEVER_READ if ended else NOT_YET)
        try:
            facts = load_file(folder.rows_path)
            states = SampleStates(len(facts["row"]))
            if folder.samples_path.exists():
                states.load(folder.samples_path)
            history = load_file(folder.history_path) if folder.history_path.exists() else _no_history(states.count)
            texts = self._texts_of(run_id, folder)
        except (OSError, SafetensorError, pa.ArrowException, GekoError) as error:
            raise RunError(f"The files of the samples in {folder.id} cannot be read: {error}") from error
        if len(texts) != states.count or history["loss"].shape[1] != states.count:
            raise RunError(f"The files of the samples in {folder.id} do not belong together.")
        return Samples(folder, version, folder.config(), states, facts, history, texts)

    def _texts_of(self, run_id: str, folder: RunFolder) -> Texts:
        """Written once, so read once."""
        key = f"{run_id} {changed(folder.texts_path)}"
        if key not in self._texts:
            self._texts[key] = Texts(folder.texts_path)
            if len(self._texts) > RUNS_HELD:
                self._texts.popitem(last=False)
        return self._texts[key]


def _no_history(count: int) -> dict[str, NDArray]:
    none = np.zeros((0, count), np.float16)
    steps = np.zeros(0, np.int32)
    return {"loss": none, "confidence": none, "correct": none, "bucket": none, "epochs": steps, "steps": steps}
