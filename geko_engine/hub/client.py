"""The Hugging Face Hub: access checks, rows of datasets, files of models, one plain sentence for each error.

Tokens come from the environment (HF_TOKEN) or from the login on this machine; they are never written anywhere.
Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geko_engine.config.sections import DataConfig
from geko_engine.exceptions import DataError, GekoError, ModelError
from geko_engine.hub.downloads import DownloadProgress, limit_request_time, offline, progress_bar

ACCESS_SECONDS = 10
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")  # config, tokenizer, remote code
WEIGHTS = (r"model(-\d+-of-\d+)?\.safetensors", r"pytorch_model(-\d+-of-\d+)?\.bin")  # the first format that exists
UNAVAILABLE_STATUS = (408, 429, 500, 502, 503, 504)  # treated like an unreachable Hub


def hub_access(name: str, kind: str, revision: str | None = None, token: str | None = None) -> str:
    """Why the files of a "model" or "dataset" cannot be read, or "". Takes about 10 seconds at most.

    Returns "" if the Hub cannot be reached, but files of it are on this machine: they may be all that is needed.
    """
    return str(access_error(name, kind, revision, token) or "")


def access_error(name: str, kind: str, revision: str | None = None, token: str | None = None) -> GekoError | None:
    """The same as `hub_access` as an error that knows its field, or None."""
    try:
        info = repo_info(name, kind, revision, token)
        if info is None and not is_cached(name, kind):
            return _family(kind)[0](_unreachable_text(name, kind, reached=False), _family(kind)[1])
        if info is not None and info.gated:  # everyone may read its description, but not its files
            _api(token).auth_check(name, repo_type=kind)
    except Exception as error:  # noqa: BLE001 - the client raises its own families, OSError, ValueError and more
        return error if isinstance(error, GekoError) else _refused(error, name, kind, revision)
    return None


def repo_info(name: str, kind: str, revision: str | None = None, token: str | None = None) -> Any | None:
    """The Hub's ModelInfo or DatasetInfo of a repository, or None if the Hub cannot be reached.

    Raises:
        ModelError, DataError: if the repository does not exist, or not for this token.
    """
    limit_request_time()
    try:
        return _api(token).repo_info(name, repo_type=kind, revision=revision, timeout=ACCESS_SECONDS)
    except Exception as error:
        refused = _refused(error, name, kind, revision)
        if refused is None:
            return None
        raise refused from error


def _api(token: str | None = None) -> Any:
    from huggingface_hub import HfApi

    return HfApi(token=token or None)


def _refused(error: Exception, name: str, kind: str, revision: str | None) -> GekoError | None:
    """The error that describes the Hub's answer, or None if there was no answer."""
    answered = _find(error, *_hub_errors()) is not None or not _no_answer(error)
    return hub_error(error, name, kind, revision) if answered else None


def hub_rows(name: str, config: DataConfig, evaluation: bool) -> Iterator[dict[str, Any]]:
    """The rows of one split of a Hub dataset.

    With a row limit, rows are streamed: only the beginning of the files is fetched, and nothing is cached. Otherwise
    the whole configuration is downloaded once and kept in the cache of `datasets`.

    Args:
        name: id of the dataset.
        config: its split, configuration and row limit.
        evaluation: read the settings of the evaluation data instead of the training data.

    Raises:
        DataError: with a field if something else than the dataset's name has to change.
    """
    part = "eval" if evaluation else "train"
    split = config.eval_split if evaluation else config.train_split
    subset = config.eval_config if evaluation else config.train_config
    count = config.eval_count if evaluation else config.sample_count
    reached = repo_info(name, "dataset") is not None
    with contextlib.nullcontext() if reached else offline():
        try:
            builder = _dataset_builder(name, subset, f"data.{part}_config")
            _check_split(builder, name, split, f"data.{part}_split")
            if count and "[" not in split:  # a slice such as train[:10%] needs the total number of rows
                yield from builder.as_streaming_dataset(split=split).take(count)
            else:
                builder.download_and_prepare()
                yield from builder.as_dataset(split=split)
        except GekoError:
            raise
        except Exception as error:  # the client raises its own families, OSError, ValueError and more
            raise hub_error(error, name, "dataset", reached=reached) from error


def _dataset_builder(name: str, subset: str | None, field: str) -> Any:
    """The builder of a configuration. Raises DataError at `field`, with the names of existing configurations."""
    import datasets

    datasets.disable_progress_bars()
    # huggingface_hub retries too: twenty times five attempts would take half an hour to fail.
    datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = 1
    datasets.config.STREAMING_READ_RETRY_INTERVAL = datasets.config.STREAMING_OPEN_RETRY_INTERVAL = 1
    try:
        return datasets.load_dataset_builder(name, subset)
    except ValueError as error:
        known = datasets.get_dataset_config_names(name)
        if subset is None and len(known) > 1:
            raise DataError(
                f"The dataset {name!r} has several configurations: choose one of {', '.join(known)}.", field
            ) from error
        if subset is not None and subset not in known:
            raise DataError(
                f"The dataset {name!r} has no configuration {subset!r}: choose one of {', '.join(known)}.", field
            ) from error
        raise


def _check_split(builder: Any, name: str, split: str, field: str) -> None:
    known = [str(part) for part in builder.config.data_files or builder.info.splits or ()]
    requested = [re.sub(r"\[.*\]", "", part).strip() for part in split.split("+")]
    missing = [part for part in requested if part not in (*known, "all")]
    if known and missing:
        raise DataError(f"The dataset {name!r} has no split {missing[0]!r}: choose one of {', '.join(known)}.", field)


def fetch_model(name: str, revision: str | None, progress: DownloadProgress, *, weights: bool = True) -> dict[str, Any]:
    """Download the files that from_pretrained needs, and return the options with which it reads exactly those.

    Args:
        name: id of the model.
        revision: branch, tag or commit; None for the main branch.
        progress: receives the number of bytes.
        weights: False to download only config.json and the tokenizer.

    Raises:
        ModelError: at the field model.name or model.revision.
    """
    from huggingface_hub import snapshot_download

    info = repo_info(name, "model", revision)
    if info is None:
        return {"revision": revision or "main", "local_files_only": True}
    files = [sibling.rfilename for sibling in info.siblings or ()]
    needed = _weight_files(name, files)
    patterns = [*SMALL_FILES, *(needed if weights else [])]
    try:
        snapshot_download(
            name, revision=revision, allow_patterns=_at_root(files, patterns), tqdm_class=progress_bar(progress)
        )
    except Exception as error:  # the client raises its own families, OSError and more
        raise hub_error(error, name, "model", revision) from error
    return {"revision": info.sha}


def _weight_files(name: str, files: list[str]) -> list[str]:
    """The weight files among `files`. Raises ModelError if there is nothing that transformers could load."""
    page = f"{_page(name, 'model')}/tree/main"
    if "adapter_config.json" in files:
        return ["adapter_model.safetensors" if "adapter_model.safetensors" in files else "adapter_model.bin"]
    if "config.json" not in files:
        raise ModelError(
            f"The model {name!r} has no config.json, so it cannot be loaded: check its files at {page} and give the "
            "id of a transformers model.",
            "model.name",
        )
    kinds = [[file for file in files if re.fullmatch(kind, file)] for kind in WEIGHTS]
    found = next((weights for weights in kinds if weights), [])
    if not found:
        gguf = " Its GGUF files cannot be fine-tuned." if any(file.endswith(".gguf") for file in files) else ""
        raise ModelError(
            f"The model {name!r} has no weights (model.safetensors or pytorch_model.bin): check its files at {page} "
            f"and give the id of the original model.{gguf}",
            "model.name",
        )
    return found


def _at_root(files: list[str], patterns: list[str]) -> list[str]:
    """The matching files outside of folders: folders hold other formats of the same weights."""
    from fnmatch import fnmatch

    return [file for file in files if "/" not in file and any(fnmatch(file, pattern) for pattern in patterns)]


def hub_error(
    error: Exception, name: str, kind: str, revision: str | None = None, *, reached: bool = True
) -> GekoError:
    """What the Hub's clients raised while loading `name`, as one plain sentence.

    Args:
        error: the exception.
        name: id of the repository.
        kind: "model" or "dataset".
        revision: that was requested.
        reached: whether the Hub could be reached when loading began.
    """
    family, field = _family(kind)
    gated, unknown_revision, missing = _hub_errors()
    page, text = _page(name, kind), str(error)
    if _find(error, gated) or "is a gated dataset" in text:
        return family(_gated_text(name, kind, page), field)
    if _find(error, unknown_revision):
        return family(
            f"The {kind} {name!r} has no revision {revision!r}: choose a branch or tag from {page}/tree/main, or leave "
            "the revision empty for the main branch.",
            "model.revision" if kind == "model" else field,
        )
    if _find(error, missing) or type(error).__name__ == "DatasetNotFoundError":
        return family(
            f"There is no {kind} {name!r} on the Hub, or it is private: check the name at {page}. For a private {kind}, "
            "log in (`hf auth login`) or set HF_TOKEN.",
            field,
        )
    if type(error).__name__ in ("EmptyDatasetError", "DataFilesNotFoundError"):
        return family(
            f"The dataset {name!r} has no files that can be read as rows: check them at {page}/tree/main, or choose "
            "another dataset.",
            field,
        )
    if _status(error) in (401, 403):
        return family(
            f"The Hub rejects the token for the {kind} {name!r}: create a new one at "
            "https://huggingface.co/settings/tokens and log in again (`hf auth login`) or set HF_TOKEN. For a gated "
            f"{kind}, accept its license at {page} too.",
            field,
        )
    if _no_answer(error) or (not reached and isinstance(error, OSError)):
        return family(_unreachable_text(name, kind, reached), field)
    return family(f"The {kind} {name!r} cannot be loaded: {_first_line(error)}", field)


def _family(kind: str) -> tuple[type[GekoError], str]:
    """(class, field) of the errors of a model or a dataset."""
    return (ModelError, "model.name") if kind == "model" else (DataError, "")


def is_cached(name: str, kind: str) -> bool:
    """Whether any file of a "model" or "dataset" is in the caches of huggingface_hub or of datasets."""
    from huggingface_hub import constants

    places = [(Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}" / "snapshots", "*/*")]
    if kind == "dataset":
        prepared = os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets"
        places.append((Path(prepared) / name.replace("/", "___"), "*"))
    return any(next(folder.glob(inside), None) is not None for folder, inside in places)


def _gated_text(name: str, kind: str, page: str) -> str:
    from huggingface_hub import get_token

    if get_token():
        return (
            f"The {kind} {name!r} is gated, and your account has no access: accept its license at {page} with this "
            "account, or set HF_TOKEN to the token of another account."
        )
    return f"The {kind} {name!r} is gated: accept its license at {page}, then log in (`hf auth login`) or set HF_TOKEN."


def _unreachable_text(name: str, kind: str, reached: bool) -> str:
    from huggingface_hub import constants

    if reached:
        return (
            f"The connection to the Hub was lost while the {kind} {name!r} was loading: check the network and start "
            "again. Files that were downloaded completely are kept."
        )
    cause = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "The Hub cannot be reached"
    way_out = "unset it" if constants.HF_HUB_OFFLINE else "check the network"
    return f"{cause}, and the {kind} {name!r} is not completely on this machine: {way_out}, or give a local path."


def _page(name: str, kind: str) -> str:
    return f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"


def _hub_errors() -> tuple[type[Exception], type[Exception], type[Exception]]:
    """(gated, no such revision, no such repository). The order matters: the first is a subclass of the last."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    return GatedRepoError, RevisionNotFoundError, RepositoryNotFoundError


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes; `datasets` hides causes but keeps them as contexts."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _find(error: Exception, *kinds: type[Exception]) -> BaseException | None:
    return next((link for link in _chain(error) if isinstance(link, kinds)), None)


def _status(error: Exception) -> int:
    """The HTTP status of an error, or 0."""
    statuses = (getattr(getattr(link, "response", None), "status_code", 0) for link in _chain(error))
    return next((status for status in statuses if status), 0)


def _no_answer(error: Exception) -> bool:
    """Whether the Hub gave no usable answer. TransportError is the base class in httpx and in newer clients."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    known = (ConnectionError, TimeoutError, LocalEntryNotFoundError)
    names = {base.__name__ for link in _chain(error) for base in type(link).__mro__}
    return _find(error, *known) is not None or "TransportError" in names or _status(error) in UNAVAILABLE_STATUS


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def hub_id_problem(name: str, kind: str) -> str:
    """Why `name` cannot be a Hub id, or ""."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # there, but not in __all__

    try:
        validate_repo_id(name)
    except HFValidationError:
        return f"{name!r} is neither a local path nor a Hub id: the id of a {kind} has the form 'owner/name'."
    return ""
