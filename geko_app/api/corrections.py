"""What a program may do about wrong samples: decide, undo, read what was decided, take the dataset, and train again with it.

The same functions as those behind the page. Plain values in, plain values out, but for a file: knows no request and no torch.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from geko_app.api.operations import MOST_SAMPLES, RunOperations, check_choice, check_sample
from geko_app.form.rerun_options import CORE_SET, RANDOM_SET, SUBSETS
from geko_app.samples import core_set as core_sets
from geko_app.samples.correction_log import own_decisions
from geko_app.samples.corrections import changes, decide
from geko_app.samples.exclusions import dataset_name, write_dataset
from geko_app.samples.reruns import run_again
from geko_app.samples.store import Samples
from geko_app.samples.suggested_answers import accept, new_answers
from geko_app.views.core_set import file_name, overview
from geko_app.views.corrections import decided_of
from geko_app.views.review import ACCEPT
from geko_engine.config.declaration import shown
from geko_engine.data.corrections import DELETE, KEEP, REPLACE, UNDO
from geko_engine.exceptions import ConfigError, RunError

MOST_DECIDED = 100_000  # samples that one call may name
NAMED = 10  # samples in a sentence
NOTHING_LEFT = "No row is left: all are flagged, deleted or not kept. Undo some of these decisions first."
ACTIONS = (KEEP, REPLACE, ACCEPT, DELETE, UNDO)
CORRECTED = "corrected"
DATASETS = (CORRECTED, CORE_SET)
# What a run again is trained on -> the variant of geko_app.form.rerun_options.
RETRAININGS = {"changed": "corrected", CORRECTED: "corrected_anew", CORE_SET: CORE_SET, RANDOM_SET: RANDOM_SET}


@dataclass(frozen=True)
class Dataset:
    """A dataset as JSONL.

    Attributes:
        name: for its file. file: its content, open at the beginning; it is gone when it is closed. size: bytes.
        left_out: samples that are missing because the run has not kept their whole text.
    """

    name: str
    file: BinaryIO
    size: int
    left_out: int


class CorrectionOperations:
    """The operations on what was decided about the samples of a run.

    Args:
        runs: the operations on the same runs.
    """

    def __init__(self, runs: RunOperations) -> None:
        self._runs = runs

    def decide(
        self, run_id: str, ids: Sequence[int], action: str, *, prompt: str | None = None, answer: str | None = None
    ) -> dict[str, Any]:
        """Decide samples alike. A decision holds for a whole row, so of a row with several samples one is enough.

        Args:
            run_id: of the run.
            ids: of the samples.
            action: one of ACTIONS; `undo` takes back the last decision on each.
            prompt, answer: the new texts of `replace`; None for what stays.

        Returns:
            rows: how many rows were decided. log: how many rows are kept, edited and deleted now.

        Raises:
            NotFound: there is no such run or sample.
            GekoError: the decision is not possible; its field is the argument to change.
        """
        check_choice("action", action, ACTIONS)
        _check_texts(action, prompt, answer)
        samples = self._runs.samples_of(run_id)
        for index in ids:
            check_sample(samples, index, "samples")
        if not ids:
            raise ConfigError("No sample is given: give the ids of those to decide.", "samples")
        if action == REPLACE and len(set(ids)) > 1:
            raise ConfigError(
                f"{len(set(ids)):,} samples would get the same text: give one to replace, or accept what is suggested.",
                "samples",
            )
        rows = _decided(samples, ids, action, prompt, answer)
        return {"rows": rows, "log": _log(samples)}

    def decisions(self, run_id: str, *, limit: int = 50, offset: int = 0) -> dict[str, Any]:
        """What was decided about the rows of a run, in the order of the source, with the texts before and after.

        Args:
            limit: at most so many, up to MOST_SAMPLES.
            offset: how many to leave out.

        Raises:
            NotFound: there is no such run. GekoError: there are no samples yet, or the log is damaged.
        """
        samples = self._runs.samples_of(run_id)
        begin, log = max(0, offset), _log(samples)
        chosen = changes(samples, slice(begin, begin + min(max(1, limit), MOST_SAMPLES)))
        decisions = [{"sample": samples.first_of_row[change["row"]], **change} for change in chosen]
        return {"total": sum(log.values()), "log": log, "decisions": decisions}

    def dataset(self, run_id: str, rows: str = CORRECTED, share: float | None = None) -> Dataset:
        """The samples that a next run is to learn, as they were corrected.

        Args:
            rows: `corrected` for all that are neither flagged nor deleted, or `core_set`.
            share: size of the core set, in (0, 1]; None for the rows that carried the training.

        Raises:
            NotFound: there is no such run. GekoError: there is nothing to write, or the disk refuses.
        """
        check_choice("rows", rows, DATASETS)
        _check_share(rows, share)
        samples = self._runs.samples_of(run_id)
        if rows == CORRECTED:
            return _written(dataset_name(samples.folder), lambda path: write_dataset(samples, path))
        chosen = core_sets.core_set(samples, share)
        return _written(file_name(samples, chosen), lambda path: core_sets.write_core_set(samples, chosen, path))

    def core_set(
        self, run_id: str, share: float | None = None, *, limit: int | None = None, offset: int = 0
    ) -> dict[str, Any]:
        """The rows that carried the training, and what runs on them have shown.

        Args:
            share: size of the set, in (0, 1]; None for the rows that carried the training.
            limit: at most so many row numbers, None for all. offset: how many to leave out.

        Raises:
            NotFound: there is no such run. GekoError: no core set can be chosen; the message says why.
        """
        samples = self._runs.samples_of(run_id)
        chosen = core_sets.core_set(samples, share)
        rows = sorted(core_sets.rows_of_set(samples, chosen, CORE_SET))
        file, card = core_sets.subset_file(samples, set(rows), CORE_SET), overview(samples, chosen)
        begin = max(0, offset)
        return {
            "kept": file.kept,
            "of": file.of,
            "share": file.share,
            "about": card["size"],
            "checked": card["checked"],
            "verdict": card["verdict"],
            "rows": rows[begin : None if limit is None else begin + max(1, limit)],
        }

    def retrain(
        self,
        run_id: str,
        rows: str,
        *,
        share: float | None = None,
        changes: Mapping[str, Any] | None = None,
        hub_token: str = "",
    ) -> dict[str, Any]:
        """Start the run that the page would start with what was decided, or queue it; returns its state.

        Args:
            rows: one of RETRAININGS: `changed` goes on from the run's model with what was edited; `corrected` is the same run
                from its base model on the corrected rows; `core_set` and `random_set` are the same run on these rows.
            share: size of either set, in (0, 1]; None for the rows that carried the training.
            changes: settings to change besides, by section.
            hub_token: of the Hugging Face Hub; passed to the worker, written nowhere.

        Raises:
            NotFound: there is no such run.
            GekoError: the run cannot be trained again in this way, or a setting is wrong.
        """
        check_choice("rows", rows, RETRAININGS)
        _check_share(rows, share)
        folder = self._runs.folder(run_id)
        subset = core_sets.choose_subset(self._runs.samples_of(run_id), rows, share) if rows in SUBSETS else None
        config = run_again(folder, RETRAININGS[rows], subset)
        return self._runs.begin(config.to_dict(), changes or {}, hub_token)


def _check_texts(action: str, prompt: str | None, answer: str | None) -> None:
    if action == REPLACE and prompt is None and answer is None:
        raise ConfigError("replace needs a new text: give answer, prompt or both.", "answer")
    for field, text in (("prompt", prompt), ("answer", answer)):
        if text is not None and action != REPLACE:
            raise ConfigError(f"{shown(text)} is a new text, which {action} has no use for: leave it out.", field)


def _check_share(rows: str, share: float | None) -> None:
    if share is not None and rows not in SUBSETS:
        raise ConfigError(f"{share:g} is the share of a core set: leave it out with {rows}.", "share")


def _decided(samples: Samples, ids: Sequence[int], action: str, prompt: str | None, answer: str | None) -> int:
    """Do it; returns how many rows were decided."""
    if action == REPLACE:
        return decide(samples, ids, action, prompt=prompt, answer=answer, origin="program")
    if action == ACCEPT:
        answers = new_answers(samples, ids)
        without = [index for index in dict.fromkeys(ids) if index not in answers]
        if without:
            raise ConfigError(
                f"There is no suggested answer for {_named(without)}: leave them out, or replace their answers.",
                "samples",
            )
        return accept(samples, ids)
    if action == UNDO:
        decided = decided_of(samples)
        without = [index for index in dict.fromkeys(ids) if index not in decided]
        if without:
            raise ConfigError(f"There is no decision to undo on {_named(without)}: leave them out.", "samples")
    return decide(samples, ids, action)


def _named(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return f"sample{'' if len(ids) == 1 else 's'} {', '.join(map(str, ids[:NAMED]))}{more}"


def _log(samples: Samples) -> dict[str, int]:
    """How many rows are kept, edited and deleted."""
    rows = own_decisions(samples.folder).items()
    counts = Counter(made.action for row, made in rows if row in samples.first_of_row)
    return {"kept": counts[KEEP], "edited": counts[REPLACE], "deleted": counts[DELETE]}


def _written(name: str, write: Callable[[Path], tuple[int, int]]) -> Dataset:
    """A dataset in a file that has no name any more, so that nothing is left of it."""
    try:
        with tempfile.TemporaryDirectory(prefix="geko-dataset-") as folder:
            path = Path(folder) / "dataset.jsonl"
            written, left_out = write(path)
            if not written:
                raise RunError(NOTHING_LEFT)
            return Dataset(name, path.open("rb"), path.stat().st_size, left_out)
    except OSError as error:
        raise RunError(f"The dataset cannot be written ({error.strerror}): free some space on the disk.") from error
