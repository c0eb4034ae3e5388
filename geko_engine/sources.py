"""Where rows come from: local files, the Hub, the demo; and what can be said of a name before anything is loaded.

Torch-free, so that the page can check a form with it.
"""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from geko_engine.assets import demo_path
from geko_engine.config import DEMO, DataConfig, RunConfig
from geko_engine.downloads import OnProgress, Progress, ShouldStop, interruptible
from geko_engine.exceptions import ConfigError, DataError
from geko_engine.files import FILE_KINDS, local_rows
from geko_engine.hub import access_error, hub_id_problem, hub_rows
from geko_engine.marks import marks_problem
from geko_engine.settings import Problem, raise_problems


def preflight(config: RunConfig) -> list[Problem]:
    """What is wrong with a run that can be told at once: names, files and folders. Reads one row of each local file."""
    return [
        (name, text)
        for name, text in (
            ("model.name", model_problem(config.model.name)),
            ("data.train", data_problem(config.data.train)),
            ("data.eval", data_problem(config.data.eval) if config.data.eval else ""),
            ("data.marks", marks_problem(config.data.marks)),
            ("output_dir", folder_problem(config.output_dir)),
            ("training.resume_from_checkpoint", checkpoint_problem(config.training.resume_from_checkpoint)),
        )
        if text
    ]


def is_local(name: str) -> bool:
    """Whether `name` can only be a path: it exists, starts like one, ends like a data file or is deeper than a Hub id."""
    looks = name.startswith((".", "~", os.sep)) or name.count("/") > 1 or "\\" in name
    return looks or Path(name).suffix.lower() in FILE_KINDS or Path(name).expanduser().exists()


def model_problem(name: str) -> str:
    """Why `name` cannot be a model, or ""."""
    if not name.strip():
        return "No model is named: give a Hub id, a local folder, or 'demo'."
    if name == DEMO:
        return ""
    if not is_local(name):
        return hub_id_problem(name, "model")
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return "A GGUF file cannot be fine-tuned and saved again: give the original model's Hub id or folder."
    if not path.is_dir():
        return f"There is no folder {name!r}: give a model's folder, a Hub id such as 'HuggingFaceTB/SmolLM2-135M', or 'demo'."
    if not (path / "config.json").is_file():
        return (
            f"The folder {name!r} holds no config.json, so it is no model: give the folder that save_pretrained wrote."
        )
    return ""


def data_problem(name: str) -> str:
    """Why `name` cannot be a dataset, or ""; a local file is opened and its first row read."""
    if not name.strip():
        return "No data is named: give a Hub id, a local file, or 'demo'."
    if name == DEMO:
        return ""
    if not is_local(name):
        return hub_id_problem(name, "dataset")
    try:
        next(iter(local_rows(name)), None)
    except DataError as error:
        return str(error)
    return ""


def folder_problem(name: str) -> str:
    """Why runs cannot be written below the folder `name`, or ""."""
    if not name.strip():
        return "No output folder is named."
    path = Path(name).expanduser().absolute()
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not existing.is_dir():
        return f"{str(existing)!r} is a file, not a folder: choose another output folder."
    try:
        tempfile.TemporaryFile(
            dir=existing
        ).close()  # asking for permission bits is not enough: root, full disks, /proc
    except OSError as error:
        return f"The folder {str(existing)!r} cannot be written ({error.strerror}): choose another output folder."
    return ""


def checkpoint_problem(name: str | None) -> str:
    """Why the folder `name` is no checkpoint to go on from, or ""."""
    if not name:
        return ""
    path = Path(name).expanduser()
    if (path / "manifest.json").is_file():
        return ""
    inside = sorted(p.parent.name for p in path.glob("**/manifest.json"))[:3]
    hint = (
        f" It holds {', '.join(inside)}: give one of them."
        if inside
        else " It looks like runs/<id>/checkpoints/checkpoint-1000."
    )
    return f"{name!r} is no whole checkpoint.{hint}"


def hub_problems(config: RunConfig) -> list[Problem]:
    """Which models and datasets of a run the Hub refuses; asks about all of them at once, for some 10 seconds at most."""
    asked = {"data.train": config.data.train, "data.eval": config.data.eval or DEMO}
    if asked["data.eval"] == asked["data.train"]:
        asked.pop("data.eval")
    repos = [("model.name", config.model.name, "model", config.model.revision)]
    repos += [(field, name, "dataset", None) for field, name in asked.items()]
    repos = [repo for repo in repos if repo[1] != DEMO and not is_local(repo[1])]
    with ThreadPoolExecutor(max(1, len(repos))) as pool:
        errors = pool.map(lambda repo: access_error(*repo[1:]), repos)
        return [(error.field or repo[0], str(error)) for repo, error in zip(repos, errors, strict=True) if error]


def ask_the_hub(config: RunConfig, should_stop: ShouldStop) -> None:
    """Before anything is loaded: a gated model is told together with missing data, not after a long download of it."""
    problems = interruptible(functools.partial(hub_problems, config), should_stop)
    if len(problems) == 1:
        field, text = problems[0]
        raise ConfigError(text, field)  # the field stands beside the sentence, not in it
    raise_problems(problems)


def load_rows(
    config: DataConfig,
    *,
    evaluation: bool = False,
    should_stop: ShouldStop | None = None,
    on_progress: OnProgress | None = None,
) -> list[dict[str, Any]]:
    """The rows of the training or the evaluation data, at most as many as asked for.

    Args:
        on_progress: told rows that have come from the Hub, and how many were asked for (0 = all).

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
            progress = Progress(total=count or 0)
            rows = itertools.islice(hub_rows(name, config, evaluation), count)
            taken = interruptible(lambda: list(_counted(rows, progress)), should_stop, progress, on_progress)
    except DataError as error:
        raise DataError(str(error), error.field or field) from error
    if not taken:
        raise DataError(f"{name!r} holds no rows.", field)
    return taken


def _counted(rows: Iterator[dict[str, Any]], progress: Progress) -> Iterator[dict[str, Any]]:
    for row in rows:
        progress.done += 1
        yield row
