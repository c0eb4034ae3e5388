"""Checks before anything is loaded: names, files, folders, access to the Hub. Imports no torch."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from geko_engine.config.declaration import Problem, raise_problems
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DEMO, GENERAL, GIVEN, LOFTQ
from geko_engine.config.training_choices import tracker_problem
from geko_engine.data.corrections import corrections_problem
from geko_engine.data.earlier_run import replay_problem
from geko_engine.data.excluded_rows import row_flags_problem
from geko_engine.data.local_files import file_rows, find_files, is_local
from geko_engine.exceptions import ConfigError, DataError
from geko_engine.hub.client import access_error, hub_id_problem
from geko_engine.hub.downloads import ShouldStop, run_cancellable
from geko_engine.launch import launcher_problem
from geko_engine.models.names import loftq_problem, model_problem, rounded_base_problem
from geko_engine.runs.disk_guard import ROOM
from geko_engine.storage.disk_space import free_bytes, full_sentence
from geko_engine.storage.user_paths import FILE, expand, kind_of, path_problem, shown_path

LONG_DOCUMENT = 100_000_000  # bytes of a .json file, which is read as a whole
ENTRIES_LOOKED_AT = 1000  # of a folder that is not a checkpoint


def preflight(config: RunConfig) -> list[Problem]:
    """(dotted field, message) of every problem with names, files and folders. Reads one row of the data."""
    return [(field, text) for field, check in checks_of(config) if (text := check())]


def checks_of(config: RunConfig) -> list[tuple[str, Callable[[], str]]]:
    """(dotted field, what says why its value cannot be used) of each name, file and folder of a run."""
    data = config.data
    return [
        ("model.name", lambda: model_problem(config.model.name)),
        ("model.quantization", lambda: rounded_base_problem(config.model.name, config.model.quantization)),
        ("lora.init_lora_weights", lambda: loftq_problem(config.model.name) if _begins_with_loftq(config) else ""),
        ("data.train", lambda: data_problem(data.train, data.train_split)),
        ("data.eval", lambda: data_problem(data.eval, data.eval_split) if data.eval else ""),
        ("data.retention", lambda: retention_problem(data.retention)),
        ("data.row_flags", lambda: row_flags_problem(data.row_flags)),
        ("data.corrections", lambda: corrections_problem(data.corrections)),
        ("data.replay", lambda: replay_problem(data.replay)),
        ("training.fsdp", launcher_problem),
        ("training.report_to", lambda: tracker_problem(config.training.report_to)),
        ("output_dir", lambda: folder_problem(config.output_dir)),
        ("training.resume_from_checkpoint", lambda: checkpoint_problem(config.training.resume_from_checkpoint)),
    ]


def _begins_with_loftq(config: RunConfig) -> bool:
    return config.lora.enabled and config.lora.init_lora_weights == LOFTQ


def data_problem(name: str, split: str = "train") -> str:
    """Why `name` cannot be a dataset, or "". Reads the first row of a local file, or of the first one in a folder."""
    if not name.strip():
        return "No data is given: give a Hub id, a local file, or 'demo'."
    if name == DEMO:
        return ""
    if name == GIVEN:
        return (
            "The data of this run was given in Python, by a script: resume it there (resume_from_checkpoint=True), or give a "
            "Hub id or a local file."
        )
    if not is_local(name):
        return hub_id_problem(name, "dataset")
    try:
        first = find_files(name, split).read[0]
        if first.suffix.lower() != ".json" or first.stat().st_size < LONG_DOCUMENT:
            next(file_rows(first), None)
    except OSError as error:
        return f"{shown_path(name)} cannot be read ({error.strerror}): check the path and its permissions."
    except DataError as error:
        return str(error)
    return ""


def retention_problem(name: str | None) -> str:
    """Why `name` cannot be the rows that show whether a model forgets, or ""."""
    if not name or name == GENERAL:
        return ""
    if not is_local(name):
        return f"{name!r} is neither 'general' nor a local file: give one of them, or leave it empty."
    return data_problem(name)


def folder_problem(name: str) -> str:
    """Why runs cannot be written to the folder `name`, or ""."""
    if not name.strip():
        return "No output folder is given: give the folder for runs."
    problem = path_problem(name)
    if problem:
        return problem
    path = expand(name).absolute()
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not existing.is_dir():
        return f"{str(existing)!r} is a file, not a folder: choose another output folder."
    try:
        tempfile.TemporaryFile(dir=existing).close()  # permission bits are not enough: root, full disks, /proc
    except OSError as error:
        return f"The folder {str(existing)!r} cannot be written ({error.strerror}): choose another output folder."
    return full_sentence(existing) if free_bytes(existing) < ROOM else ""


def checkpoint_problem(name: str | None) -> str:
    """Why the folder `name` is not a checkpoint to start from, or ""."""
    if not name:
        return ""
    problem = path_problem(name)
    if problem:
        return problem
    path = expand(name)
    if kind_of(path / "manifest.json") == FILE:
        return ""
    inside = _checkpoints_in(path)
    hint = (
        f" It contains {', '.join(inside)}: give one of them."
        if inside
        else " A checkpoint is a folder such as runs/<id>/checkpoints/checkpoint-1000."
    )
    return f"{shown_path(name)} is not a complete checkpoint.{hint}"


def _checkpoints_in(path: Path) -> list[str]:
    """The first checkpoints in a folder of checkpoints or of a run. Looks no deeper: it may be the root of a disk."""
    found: list[str] = []
    for folder in (path, path / "checkpoints"):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, ENTRIES_LOOKED_AT)]
            found += [name for name in sorted(names) if kind_of(folder / name / "manifest.json") == FILE]
    return found[:3]


def hub_problems(config: RunConfig, token: str | None = None) -> list[Problem]:
    """(dotted field, message) of models and datasets without access. Asks for all at once; about 10 seconds at most."""
    datasets = {"data.train": config.data.train, "data.eval": config.data.eval or DEMO}
    if datasets["data.eval"] == datasets["data.train"]:
        datasets.pop("data.eval")
    repos = [("model.name", config.model.name, "model", config.model.revision)]
    repos += [(field, name, "dataset", None) for field, name in datasets.items()]
    repos = [repo for repo in repos if repo[1] != DEMO and not is_local(repo[1])]
    with ThreadPoolExecutor(max(1, len(repos))) as pool:
        errors = pool.map(lambda repo: access_error(repo[1], str(repo[2]), repo[3], token), repos)
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
