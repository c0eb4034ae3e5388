"""Where rows come from: local files, the Hub, the demo; and what can be said of a name before anything is loaded.

Torch-free, so that the page can check a form with it.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geko_engine.assets import demo_path
from geko_engine.config import DEMO, DataConfig, RunConfig
from geko_engine.exceptions import DataError, GekoError
from geko_engine.settings import Problem

FILE_KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")


def preflight(config: RunConfig) -> list[Problem]:
    """What is wrong with a run that can be told at once: names, files and folders. Reads one row of each local file."""
    return [
        (name, text)
        for name, text in (
            ("model.name", model_problem(config.model.name)),
            ("data.train", data_problem(config.data.train)),
            ("data.eval", data_problem(config.data.eval) if config.data.eval else ""),
            ("output_dir", folder_problem(config.output_dir)),
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
        return _hub_id_problem(name, "model")
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
        return _hub_id_problem(name, "dataset")
    try:
        next(iter(_local_rows(name)), None)
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


def load_rows(config: DataConfig, *, evaluation: bool = False) -> list[dict[str, Any]]:
    """The rows of the training or the evaluation data, at most as many as asked for.

    Raises:
        DataError: at the field data.train or data.eval.
    """
    name = (config.eval or "") if evaluation else config.train
    field = "data.eval" if evaluation else "data.train"
    count = config.eval_count if evaluation else config.sample_count
    try:
        if name == DEMO:
            rows = _local_rows(str(demo_path("eval.jsonl" if evaluation else "train.jsonl")))
        elif is_local(name):
            rows = _local_rows(name)
        else:
            rows = _hub_rows(name, config, evaluation)
        taken = [row for _, row in zip(range(count or sys.maxsize), rows, strict=False)]
    except DataError as error:
        raise DataError(str(error), error.field or field) from error
    if not taken:
        raise DataError(f"{name!r} holds no rows.", field)
    return taken


def _local_rows(name: str) -> Iterator[dict[str, Any]]:
    path = Path(name).expanduser()
    readers = {
        ".jsonl": _jsonl,
        ".json": _json,
        ".csv": _csv,
        ".tsv": _csv,
        ".parquet": _parquet,
        ".txt": _txt,
    }
    if not path.exists():
        raise DataError(f"There is no file {name!r}: check the path, or give a Hub id or 'demo'.")
    if path.is_dir() or path.suffix.lower() not in readers:
        raise DataError(f"{name!r} is not a kind of file that can be read: give {', '.join(FILE_KINDS)}.")
    try:
        yield from readers[path.suffix.lower()](path)
    except OSError as error:
        raise DataError(f"{name!r} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name!r} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _as_row(_parse(line, path, f"line {number}"), path, f"line {number}")


def _json(path: Path) -> Iterator[dict[str, Any]]:
    values = _parse(path.read_text(encoding="utf-8-sig"), path, "the file")
    lists = [v for v in values.values() if isinstance(v, list)] if isinstance(values, dict) else [values]
    if len(lists) != 1 or not isinstance(lists[0], list):
        raise DataError(f"{str(path)!r} is not a list of rows: write [{{...}}, {{...}}] or one object a line (.jsonl).")
    for number, row in enumerate(lists[0], 1):
        yield _as_row(row, path, f"row {number}")


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            for row in reader:
                if None in row or any(value is None for value in row.values()):
                    raise DataError(
                        f"Line {reader.line_num} of {str(path)!r} has another number of columns than the "
                        f"{len(reader.fieldnames or [])} of its header: quote values that hold a separator."
                    )
                yield dict(row)
        except csv.Error as error:
            raise DataError(f"Line {reader.line_num} of {str(path)!r} cannot be read as CSV: {error}.") from error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches(1000):
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise DataError(f"{str(path)!r} is no whole Parquet file: {error}") from error


def _txt(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield {"text": line.rstrip("\n")}


def _parse(text: str, path: Path, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where[0].upper() + where[1:]} of {str(path)!r} is not valid JSON: {error.msg} (column {error.colno})."
        ) from error


def _as_row(value: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f"{where[0].upper() + where[1:]} of {str(path)!r} is not an object with named values, but {type(value).__name__}."
        )
    return value


def _hub_rows(name: str, config: DataConfig, evaluation: bool) -> Iterator[dict[str, Any]]:
    import datasets

    split = config.eval_split if evaluation else config.train_split
    subset = config.eval_config if evaluation else config.train_config
    try:
        yield from datasets.load_dataset(name, subset, split=split)
    except Exception as error:  # the Hub's client raises its own families, OSError, ValueError and more
        raise hub_error(error, name, "dataset", DataError) from error


def hub_error(error: Exception, name: str, kind: str, family: type[GekoError]) -> GekoError:
    """One plain sentence for what the Hub's client raised on loading `name`, as an error of `family`."""
    text = f"{type(error).__name__} {error} {type(error.__cause__).__name__} {error.__cause__}"
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
    if "GatedRepo" in text or "gated" in text.lower():
        return family(
            f"The {kind} {name!r} is gated: accept its licence at {page}, then log in (`hf auth login`) or set HF_TOKEN."
        )
    if "RevisionNotFound" in text:
        return family(f"The {kind} {name!r} has no such revision: check it at {page}.")
    if any(word in text for word in ("RepositoryNotFound", "DatasetNotFound", "is not a valid model identifier")):
        return family(f"There is no {kind} {name!r} on the Hub (or it is private): check the name at {page}.")
    if any(
        word in text
        for word in (
            "ConnectionError",
            "ConnectError",
            "LocalEntryNotFound",
            "OfflineMode",
            "Timeout",
            "couldn't connect",
            "Couldn't reach",
        )
    ):
        return family(
            f"The Hub cannot be reached and {name!r} is not on this machine: check the network, or give a local path."
        )
    return family(
        f"The {kind} {name!r} cannot be loaded: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    )


def _hub_id_problem(name: str, kind: str) -> str:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return f"{name!r} is neither a local path nor a Hub id: a {kind}'s id looks like 'owner/name'."
    return ""
