"""Checks before anything is loaded: names, files, folders, access to the Hub. Imports no torch."""

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
    """(dotted field, message) of every problem with names, files and folders. Reads one row of each local file."""
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
    """Why `name` cannot be a dataset, or "". Reads the first row of a local file."""
    if not name.strip():
        return "No data is given: give a Hub id, a local file, or 'demo'."
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
    """Why runs cannot be written to the folder `name`, or ""."""
    if not name.strip():
        return "No output folder is given: give the folder for runs."
    path = Path(name).expanduser().absolute()
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not existing.is_dir():
        return f"{str(existing)!r} is a file, not a folder: choose another output folder."
    try:
        tempfile.TemporaryFile(dir=existing).close()  # permission bits are not enough: root, full disks, /proc
    except OSError as error:
        return f"The folder {str(existing)!r} cannot be written ({error.strerror}): choose another output folder."
    return ""


def checkpoint_problem(name: str | None) -> str:
    """Why the folder `name` is not a checkpoint to start from, or ""."""
    if not name:
        return ""
    path = Path(name).expanduser()
    if (path / "manifest.json").is_file():
        return ""
    inside = sorted(p.parent.name for p in path.glob("**/manifest.json"))[:3]
    hint = (
        f" It contains {', '.join(inside)}: give one of them."
        if inside
        else " A checkpoint is a folder such as runs/<id>/checkpoints/checkpoint-1000."
    )
    return f"{name!r} is not a complete checkpoint.{hint}"


def hub_problems(config: RunConfig) -> list[Problem]:
    """(dotted field, message) of models and datasets without access. Asks for all at once; about 10 seconds at most."""
    datasets = {"data.train": config.data.train, "data.eval": config.data.eval or DEMO}
    if datasets["data.eval"] == datasets["data.train"]:
        datasets.pop("data.eval")
    repos = [("model.name", config.model.name, "model", config.model.revision)]
    repos += [(field, name, "dataset", None) for field, name in datasets.items()]
    repos = [repo for repo in repos if repo[1] != DEMO and not is_local(repo[1])]
    with ThreadPoolExecutor(max(1, len(repos))) as pool:
        errors = pool.map(lambda repo: access_error(*repo[1:]), repos)
        return [(error.field or repo[0], str(error)) for repo, error in zip(repos, errors, strict=True) if error]


def check_hub_access(config: RunConfig, should_stop: ShouldStop) -> None:
    """Check access to all repositories of a run, so that all problems are reported together and before a download.

    Args:
        config: of the run.
        should_stop: True cancels the check.

    Raises:
        ConfigError: with one problem for each repository without access.
        Stopped: if should_stop returned True.
    """
    problems = run_cancellable(functools.partial(hub_problems, config), should_stop)
    if len(problems) == 1:
        field, text = problems[0]
        raise ConfigError(text, field)  # the message of one problem does not repeat its field
    raise_problems(problems)
