"""What can be said of a run before anything is loaded: names, files, folders, access to the Hub. Torch-free."""

from __future__ import annotations

import functools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from geko_engine.config.declaration import Problem, raise_problems
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DEMO
from geko_engine.data.excluded_rows import row_flags_problem
from geko_engine.data.local_files import is_local, local_rows
from geko_engine.exceptions import ConfigError, DataError
from geko_engine.hub.client import access_error, hub_id_problem
from geko_engine.hub.downloads import ShouldStop, run_cancellable
from geko_engine.models.names import model_problem


def preflight(config: RunConfig) -> list[Problem]:
    """What is wrong with a run that can be told at once: names, files and folders. Reads one row of each local file."""
    return [
        (name, text)
        for name, text in (
            ("model.name", model_problem(config.model.name)),
            ("data.train", data_problem(config.data.train)),
            ("data.eval", data_problem(config.data.eval) if config.data.eval else ""),
            ("data.row_flags", row_flags_problem(config.data.row_flags)),
            ("output_dir", folder_problem(config.output_dir)),
            ("training.resume_from_checkpoint", checkpoint_problem(config.training.resume_from_checkpoint)),
        )
        if text
    ]


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


def check_hub_access(config: RunConfig, should_stop: ShouldStop) -> None:
    """Before anything is loaded: a gated model is told together with missing data, not after a long download of it."""
    problems = run_cancellable(functools.partial(hub_problems, config), should_stop)
    if len(problems) == 1:
        field, text = problems[0]
        raise ConfigError(text, field)  # the field stands beside the sentence, not in it
    raise_problems(problems)
