"""Where rows come from: local files, the Hub, the demo.

Torch-free, so that the page can check a form with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from geko_engine.config.sections import DEMO, DataConfig
from geko_engine.data.local_files import is_local, local_rows
from geko_engine.demo import demo_path
from geko_engine.exceptions import DataError
from geko_engine.hub.client import hub_rows
from geko_engine.hub.downloads import DownloadProgress, OnProgress, ShouldStop, run_cancellable


def load_rows(
    config: DataConfig,
    *,
    evaluation: bool = False,
    should_stop: ShouldStop | None = None,
    on_progress: OnProgress | None = None,
) -> list[dict[str, Any]]:
    """The rows of the training or the evaluation data, at most as many as the settings ask for.

    Args:
        config: names the data and how many of its rows are wanted.
        evaluation: the evaluation data instead of the training data.
        should_stop: asked while rows arrive from the Hub.
        on_progress: called with the rows that have arrived from the Hub and the rows wanted (0 = all).

    Raises:
        DataError: at the field data.train or data.eval, or at its split or configuration.
        Stopped: when should_stop says so while rows come from the Hub.
    """
    name = (config.eval or "") if evaluation else config.train
    field = "data.eval" if evaluation else "data.train"
    count = config.eval_count if evaluation else config.sample_count
    try:
        if name == DEMO:
            rows = local_rows(str(demo_path("eval.jsonl" if evaluation else "train.jsonl")))
            taken = list(itertools.islice(rows, count))
        elif is_local(name):
            taken = list(itertools.islice(local_rows(name), count))
        else:
            progress = DownloadProgress(total=count or 0)
            rows = itertools.islice(hub_rows(name, config, evaluation), count)
            taken = run_cancellable(lambda: list(_counted(rows, progress)), should_stop, progress, on_progress)
    except DataError as error:
        raise DataError(str(error), error.field or field) from error
    if not taken:
        raise DataError(f"{name!r} holds no rows.", field)
    return taken


def _counted(rows: Iterator[dict[str, Any]], progress: DownloadProgress) -> Iterator[dict[str, Any]]:
    for row in rows:
        progress.done += 1
        yield row
