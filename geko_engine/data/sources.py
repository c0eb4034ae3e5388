"""Where rows come from: local files, the Hub, the demo.

Torch-free, so that the page can check a form with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from geko_engine.config.sections import DEMO, DataConfig
from geko_engine.data.json_rows import DoubleKeys
from geko_engine.data.local_files import file_rows, find_files, is_local
from geko_engine.data.row_names import LoadedRows, Origin
from geko_engine.data.text_files import reading_notes
from geko_engine.demo import demo_path
from geko_engine.exceptions import DataError, Stopped
from geko_engine.hub.client import hub_rows
from geko_engine.hub.downloads import DownloadProgress, OnProgress, ShouldStop, run_cancellable
from geko_engine.storage.user_paths import shown_path

PROBLEMS_REPORTED = 5  # files that cannot be read, at once
ROWS_TRIED = 1000
ROWS_BETWEEN_STOPS = 1000


def load_rows(
    config: DataConfig,
    *,
    evaluation: bool = False,
    should_stop: ShouldStop | None = None,
    on_progress: OnProgress | None = None,
) -> LoadedRows:
    """The rows of the training or the evaluation data, at most as many as the settings ask for.

    Args:
        config: names the data and how many of its rows are wanted.
        evaluation: the evaluation data instead of the training data.
        should_stop: asked while rows arrive.
        on_progress: called with the rows that have arrived from the Hub and the rows wanted (0 = all).

    Raises:
        DataError: at the field data.train or data.eval, or at its split or configuration.
        Stopped: when should_stop says so.
    """
    name = (config.eval or "") if evaluation else config.train
    field = "data.eval" if evaluation else "data.train"
    count = config.eval_count if evaluation else config.sample_count
    split = config.eval_split if evaluation else config.train_split
    try:
        if name == DEMO or is_local(name):
            _refuse_slice(split, evaluation)
            path = str(demo_path("eval.jsonl" if evaluation else "train.jsonl")) if name == DEMO else name
            taken = _local(path, split, count, should_stop or (lambda: False))
        else:
            progress = DownloadProgress(total=count or 0)
            rows = itertools.islice(hub_rows(name, config, evaluation), count)
            taken = LoadedRows(
                run_cancellable(lambda: list(_counted(rows, progress)), should_stop, progress, on_progress)
            )
    except DataError as error:
        raise DataError(str(error), error.field or field) from error
    if not taken:
        raise DataError(f"{shown_path(name)} holds no rows.", field)
    return taken


def _refuse_slice(split: str, evaluation: bool) -> None:
    part, count = ("eval", "eval_count") if evaluation else ("train", "sample_count")
    if "[" in split:
        raise DataError(
            f"A slice such as {split!r} works for datasets on the Hub only: name the split alone, and set data.{count}.",
            f"data.{part}_split",
        )


def _local(name: str, split: str, count: int | None, should_stop: ShouldStop) -> LoadedRows:
    """The first `count` rows of a file or a folder. Files that cannot be read are reported together."""
    files = find_files(name, split)
    found = LoadedRows(origin=Origin(unread=files.unread))
    problems: list[str] = []
    for path in files.read:
        begin = len(found)
        left = None if count is None else count - begin
        if left == 0 and not problems:
            break
        try:
            # After a problem there will be no run: of the other files only the beginning is tried.
            for row in itertools.islice(file_rows(path), ROWS_TRIED if problems else left):
                if isinstance(row, DoubleKeys):
                    found.origin.double_keys.append(len(found))
                found.append(row)
                if len(found) % ROWS_BETWEEN_STOPS == 0 and should_stop():
                    raise Stopped
        except DataError as error:
            problems.append(str(error))
        if len(problems) == PROBLEMS_REPORTED:
            break
        found.origin.files.append((files.name_of(path), len(found) - begin))
        if not problems:
            found.origin.notes += reading_notes(path)
    if problems:
        raise DataError("\n".join(problems))
    found.origin.is_cut = len(found) == count
    return found


def _counted(rows: Iterator[dict[str, Any]], progress: DownloadProgress) -> Iterator[dict[str, Any]]:
    for row in rows:
        progress.done += 1
        yield row
