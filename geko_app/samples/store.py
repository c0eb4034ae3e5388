"""What a run keeps of its samples, as arrays and texts, read again only when the files change. Knows no page.

The record and its history are replaced after every epoch; the texts are written once (geko_engine/runs/sample_texts.py).
"""

from __future__ import annotations

import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
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
from geko_app.samples.correction_log import file_version, log_of, own_decisions, version
from geko_app.samples.issues import SampleIssues
from geko_engine.config.run_config import RunConfig
from geko_engine.config.selection import GEKOConfig
from geko_engine.data.corrections import KEEP, current
from geko_engine.data.earlier_run import text_digest
from geko_engine.data.excluded_rows import NEVER_FREEZE, flagged_rows
from geko_engine.exceptions import GekoError, RunError
from geko_engine.quality.issues import MOST_ROWS, without_frame
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.issue_check import StoredIssues, issues_path, read_issues
from geko_engine.runs.sample_pairs import COLUMNS as PAIR_COLUMNS
from geko_engine.runs.sample_pairs import prompt_and_answer, read_pairs
from geko_engine.selection.sample_records import SampleStates

MAX_RUNS = 3
MAX_SEARCHES = 8
BEGINNING = 160  # characters of a prompt or an answer in the table
NOT_KEPT = "This run has no sample texts and no history: it was made by an earlier version of GEKO."
NEVER_READ = "This run ended before its samples were read, so there is nothing to show."
NOT_YET = "The samples of this run will appear here as soon as they are read."


class Texts:
    """The texts of a run's samples, read on demand: a row group is quickly read, and all texts would fill the memory.

    Args:
        path: of the Parquet file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, parquet.ParquetFile(path)
        self.layout = (self._file.metadata.metadata or {}).get(b"layout", b"pair").decode()
        self._starts = np.cumsum([0, *(self._file.metadata.row_group(i).num_rows for i in range(self._groups))])
        self._searches: OrderedDict[str, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()  # only one thread at a time may read a ParquetFile

    @property
    def _groups(self) -> int:
        return int(self._file.metadata.num_row_groups)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def pairs(self, ids: NDArray[Any]) -> list[tuple[str, str]]:
        """The first characters of the prompts and answers of some samples; `ids` is [n]."""
        shown = (prompt_and_answer(values, self.layout) for values in self.many(ids.tolist()))
        return [(prompt[:BEGINNING], answer[:BEGINNING]) for prompt, answer in shown]

    def one(self, index: int) -> dict[str, Any]:
        """All columns of one sample, by name."""
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        with self._lock:
            table = self._file.read_row_group(group)
        values: dict[str, Any] = table.slice(index - int(self._starts[group]), 1).to_pylist()[0]
        return values

    def many(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """The columns `text`, `learnt`, `messages` and `cut` of some samples, in the order of `ids`."""
        groups = np.searchsorted(self._starts, ids, side="right") - 1
        found: list[dict[str, Any]] = [{}] * len(ids)
        for group in np.unique(groups).tolist():
            with self._lock:
                table = self._file.read_row_group(group, columns=[*PAIR_COLUMNS, "cut"])
            for place in np.flatnonzero(groups == group).tolist():
                found[place] = table.slice(int(ids[place] - self._starts[group]), 1).to_pylist()[0]
        return found

    @cached_property
    def labels(self) -> dict[str, str]:
        """Answer as the label check names it -> the whole answer of the rows that have it, the most frequent one."""
        answers = [answer for _, answer in read_pairs(self._path)][:MOST_ROWS]
        found: dict[str, Counter[str]] = {}
        for label, answer in zip(without_frame(answers), answers, strict=True):
            found.setdefault(" ".join(label.split()), Counter())[answer] += 1
        return {label: counts.most_common(1)[0][0] for label, counts in found.items()}

    def batches(self, size: int = 1000) -> Iterator[list[dict[str, Any]]]:
        """All columns of all samples, in batches; not locked, so only for texts that nobody else reads."""
        return (batch.to_pylist() for batch in self._file.iter_batches(size))

    def containing(self, needle: str) -> NDArray[Any]:
        """Mask [count] of the samples whose text contains `needle`, in any case."""
        with self._lock:
            if needle not in self._searches:
                parts = [
                    compute.match_substring(batch.column(0), needle, ignore_case=True).to_numpy(zero_copy_only=False)
                    for batch in self._file.iter_batches(10_000, columns=["text"])
                ]
                self._searches[needle] = np.concatenate(parts) if parts else np.zeros(0, bool)
                if len(self._searches) > MAX_SEARCHES:
                    self._searches.popitem(last=False)
            return self._searches[needle]


@dataclass(frozen=True)
class Samples:
    """Everything known about the samples of a run.

    Attributes:
        folder: the run.
        version: changes whenever a file does.
        config: of the run.
        states: the sample record.
        facts: row, tokens, targets, truncated, equal_to, contradicts; each [count].
        history: loss, confidence, correct, bucket, each [epochs, count]; epochs and steps, each [epochs].
        texts: of the samples.
        checked: what the checks of the texts found; None before they have run.
    """

    folder: RunFolder
    version: str
    config: RunConfig
    states: SampleStates
    facts: dict[str, NDArray[Any]]
    history: dict[str, NDArray[Any]]
    texts: Texts
    checked: StoredIssues | None

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.states.count

    @property
    def geko(self) -> GEKOConfig:
        """The thresholds of the run."""
        return self.config.geko

    @cached_property
    def never_freeze(self) -> set[int]:
        """Row numbers flagged to never freeze in this run; none if that cannot be read any more."""
        try:
            return {row + 1 for row in flagged_rows(self.folder.config_with_saved_flags().data, NEVER_FREEZE)}
        except GekoError:
            return set()

    @cached_property
    def visited(self) -> NDArray[Any]:
        """Mask [count] of the samples that were trained on or scored."""
        mask: NDArray[Any] = self.states.visits() > 0
        return mask

    @cached_property
    def q(self) -> NDArray[Any]:
        """Q-values, [count]."""
        return self.states.q_value(slice(None), self.geko)

    @cached_property
    def suspects(self) -> NDArray[Any]:
        """Mask [count] of the samples that are probably mislabeled."""
        return self.states.suspects()

    @cached_property
    def first_of_row(self) -> dict[int, int]:
        """Number of each row -> id of its first sample."""
        return {row: index for index, row in reversed(list(enumerate(self.facts["row"].tolist())))}

    @cached_property
    def slices(self) -> dict[str, tuple[list[str], NDArray[Any]]]:
        """Name of each slicing -> (its values, place of each sample's value among them, [count]); {} in older runs."""
        try:
            table = parquet.read_table(self.folder.slices_path)
            names = json.loads((table.schema.metadata or {}).get(b"slices", b"[]"))
            columns = {name: table.column(name).combine_chunks().dictionary_encode() for name in names}
        except (OSError, ValueError, KeyError, pa.ArrowException):
            return {}
        found = {name: (c.dictionary.to_pylist(), c.indices.to_numpy()) for name, c in columns.items()}
        return found if table.num_rows == self.count else {}

    @cached_property
    def issues(self) -> SampleIssues:
        """What a person should look at."""
        return SampleIssues(self.facts, self.suspects, self.checked, self.kept)

    @cached_property
    def all_issues(self) -> SampleIssues:
        """The issues as if no sample had been kept by a person."""
        return SampleIssues(self.facts, self.suspects, self.checked)

    @cached_property
    def kept(self) -> NDArray[Any]:
        """Mask [count] of the samples that a person has kept as they are, in this run or before it, and that still are."""
        found = current(log_of(self.folder)).items()
        kept = {row: decision.digest for row, decision in found if decision.action == KEEP}
        own = own_decisions(self.folder).items()
        kept_after_edit = {row for row, decision in own if decision.action == KEEP} - set(kept)
        ids = np.flatnonzero(np.isin(self.facts["row"], list(kept))) if kept else np.zeros(0, np.int64)
        texts = zip(ids.tolist(), self.texts.many(ids.tolist()), strict=True)
        same = [i for i, row in enumerate(self.facts["row"].tolist()) if row in kept_after_edit]
        same += [i for i, values in texts if text_digest(values["text"]).hex() == kept[int(self.facts["row"][i])]]
        return np.isin(np.arange(self.count), same)


class SampleStore:
    """The samples of the runs of a store; those of the last few runs are kept in memory.

    Args:
        store: the runs.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._held: OrderedDict[str, Samples] = OrderedDict()
        self._texts: OrderedDict[str, Texts] = OrderedDict()
        self._lock = threading.Lock()

    def folder(self, run_id: str) -> RunFolder:
        """The folder of a run. Raises RunError if there is none."""
        return self._store.folder(run_id)

    def version(self, run_id: str) -> str:
        """A text that changes with the files of a run's samples. Raises RunError if there is no such run."""
        folder = self.folder(run_id)
        paths = (folder.rows_path, folder.samples_path, folder.history_path, issues_path(folder))
        return "-".join([*map(file_version, paths), version(folder)])

    def samples(self, run_id: str) -> Samples:
        """The samples of a run, as the files are now.

        Raises:
            RunError: there is nothing to show, or not yet; the message says why.
        """
        version = self.version(run_id)
        with self._lock:
            held = self._held.pop(run_id, None)
            if held is None or held.version != version:
                held = self._read(run_id, version)
            self._held[run_id] = held
            if len(self._held) > MAX_RUNS:
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
            raise RunError(f"The sample files of {folder.id} cannot be read: {error}") from error
        if len(texts) != states.count or history["loss"].shape[1] != states.count:
            raise RunError(f"The sample files of {folder.id} do not belong together.")
        checked = read_issues(folder, states.count)
        return Samples(folder, version, folder.config(), states, facts, history, texts, checked)

    def _texts_of(self, run_id: str, folder: RunFolder) -> Texts:
        """The texts of a run; written once, so read once."""
        key = f"{run_id} {file_version(folder.texts_path)}"
        if key not in self._texts:
            self._texts[key] = Texts(folder.texts_path)
            if len(self._texts) > MAX_RUNS:
                self._texts.popitem(last=False)
        return self._texts[key]


def _no_history(count: int) -> dict[str, NDArray[Any]]:
    none = np.zeros((0, count), np.float16)
    steps = np.zeros(0, np.int32)
    return {"loss": none, "confidence": none, "correct": none, "bucket": none, "epochs": steps, "steps": steps}
