"""The Hub: who may read what, rows of its datasets, files of its models, one plain sentence for each error. Torch-free.

Tokens come from the environment (HF_TOKEN) or this machine's login; they are handed on and never written anywhere.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from geko_engine.config.sections import DataConfig
from geko_engine.exceptions import DataError, GekoError, ModelError
from geko_engine.hub.downloads import DownloadProgress, limit_request_time, offline, progress_bar

ACCESS_SECONDS = 10
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")  # settings, tokenizer, remote code
WEIGHTS = (r"model(-\d+-of-\d+)?\.safetensors", r"pytorch_model(-\d+-of-\d+)?\.bin")  # the first kind that exists
SILENT_STATUS = (408, 429, 500, 502, 503, 504)  # the Hub is there and does not work: as good as out of reach


def hub_access(name: str, kind: str, revision: str | None = None, token: str | None = None) -> str:
    """Why the files of a "model" or "dataset" may not be read, or ""; asks the Hub, for about 10 seconds at most.

    An unreachable Hub gives "": the files may be on this machine already.
    """
    return str(access_error(name, kind, revision, token) or "")


def access_error(name: str, kind: str, revision: str | None = None, token: str | None = None) -> GekoError | None:
    """`hub_access` as an error that knows its field, or None."""
    try:
        info = repo_info(name, kind, revision, token)
        if info is not None and info.gated:  # what a gated repository is about can be read by all, its files cannot
            _api(token).auth_check(name, repo_type=kind)
    except Exception as error:  # noqa: BLE001 - the client raises its own families, OSError, ValueError and more
        return error if isinstance(error, GekoError) else _refusal(error, name, kind, revision)
    return None


def repo_info(name: str, kind: str, revision: str | None = None, token: str | None = None) -> Any | None:
    """What the Hub says of a repository (huggingface_hub's ModelInfo or DatasetInfo); None when it cannot be reached.

    Raises:
        ModelError, DataError: when the Hub answers that there is no such thing, or not for this token.
    """
    limit_request_time()
    try:
        return _api(token).repo_info(name, repo_type=kind, revision=revision, timeout=ACCESS_SECONDS)
    except Exception as error:
        refusal = _refusal(error, name, kind, revision)
        if refusal is None:
            return None
        raise refusal from error


def _api(token: str | None = None) -> Any:
    from huggingface_hub import HfApi

    return HfApi(token=token or None)


def _refusal(error: Exception, name: str, kind: str, revision: str | None) -> GekoError | None:
    """The error for an answer of the Hub; None when there was no answer."""
    answered = _first(error, *_answers()) is not None or not _silent(error)
    return hub_error(error, name, kind, revision) if answered else None


def hub_rows(name: str, config: DataConfig, evaluation: bool) -> Iterator[dict[str, Any]]:
    """The rows of one split of a Hub dataset.

    When a number of rows is asked for, they are streamed: only the beginning of the files is fetched, and nothing is
    kept. Otherwise the whole configuration is downloaded once and kept in the cache of `datasets`.

    Raises:
        DataError: with its field where it is not the dataset's name.
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
            if count and "[" not in split:  # a slice such as train[:10%] needs the number of all rows
                yield from builder.as_streaming_dataset(split=split).take(count)
            else:
                builder.download_and_prepare()
                yield from builder.as_dataset(split=split)
        except GekoError:
            raise
        except Exception as error:  # the client raises its own families, OSError, ValueError and more
            raise hub_error(error, name, "dataset", reached=reached) from error


def _dataset_builder(name: str, subset: str | None, field: str) -> Any:
    """The builder of a configuration. Raises DataError at `field`, naming those that exist."""
    import datasets

    datasets.disable_progress_bars()
    # Beneath these retries huggingface_hub has its own: twenty times five would take half an hour to give up.
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
    asked = [re.sub(r"\[.*\]", "", part).strip() for part in split.split("+")]
    missing = [part for part in asked if part not in (*known, "all")]
    if known and missing:
        raise DataError(f"The dataset {name!r} has no split {missing[0]!r}: choose one of {', '.join(known)}.", field)


def fetch_model(name: str, revision: str | None, progress: DownloadProgress, *, weights: bool = True) -> dict[str, Any]:
    """Download what from_pretrained needs of a model and return the options that make it read just that.

    Args:
        weights: False for config.json and tokenizer alone.

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
    """The weights among a model's files. Raises ModelError where there is nothing that transformers could load."""
    page = f"{_page(name, 'model')}/tree/main"
    if "adapter_config.json" in files:
        return ["adapter_model.safetensors" if "adapter_model.safetensors" in files else "adapter_model.bin"]
    if "config.json" not in files:
        raise ModelError(
            f"The model {name!r} holds no config.json, so it cannot be loaded: look at its files at {page} and give "
            "the id of a transformers model.",
            "model.name",
        )
    kinds = [[file for file in files if re.fullmatch(kind, file)] for kind in WEIGHTS]
    found = next((weights for weights in kinds if weights), [])
    if not found:
        gguf = " Its GGUF files cannot be fine-tuned." if any(file.endswith(".gguf") for file in files) else ""
        raise ModelError(
            f"The model {name!r} holds no weights (model.safetensors or pytorch_model.bin): look at its files at {page} "
            f"and give the id of the original model.{gguf}",
            "model.name",
        )
    return found


def _at_root(files: list[str], patterns: list[str]) -> list[str]:
    """The files that match, without those in folders: there are other formats of the same weights."""
    from fnmatch import fnmatch

    return [file for file in files if "/" not in file and any(fnmatch(file, pattern) for pattern in patterns)]


def hub_error(
    error: Exception, name: str, kind: str, revision: str | None = None, *, reached: bool = True
) -> GekoError:
    """One plain sentence for what the Hub's clients raised on loading `name`.

    Args:
        reached: whether the Hub answered when the loading began.
    """
    family, field = (ModelError, "model.name") if kind == "model" else (DataError, "")
    gated, unknown_revision, missing = _answers()
    page, text = _page(name, kind), str(error)
    if _first(error, gated) or "is a gated dataset" in text:
        return family(_gated_text(name, kind, page), field)
    if _first(error, unknown_revision):
        return family(
            f"The {kind} {name!r} has no revision {revision!r}: choose a branch or tag from {page}/tree/main, or leave "
            "the revision empty for the main branch.",
            "model.revision" if kind == "model" else field,
        )
    if _first(error, missing) or type(error).__name__ == "DatasetNotFoundError":
        return family(
            f"There is no {kind} {name!r} on the Hub, or it is private: check the name at {page}; for a private one "
            "log in (`hf auth login`) or set HF_TOKEN.",
            field,
        )
    if type(error).__name__ in ("EmptyDatasetError", "DataFilesNotFoundError"):
        return family(
            f"The dataset {name!r} holds no files that can be read as rows: look at them at {page}/tree/main and choose "
            "another dataset.",
            field,
        )
    if _status(error) in (401, 403):
        return family(
            f"The Hub refuses the token for the {kind} {name!r}: renew it at https://huggingface.co/settings/tokens and "
            f"log in anew (`hf auth login`) or set HF_TOKEN; a gated one also needs its licence accepted at {page}.",
            field,
        )
    if _silent(error) or (not reached and isinstance(error, OSError)):
        return family(_silence_text(name, kind, reached), field)
    return family(f"The {kind} {name!r} cannot be loaded: {_first_line(error)}", field)


def _gated_text(name: str, kind: str, page: str) -> str:
    from huggingface_hub import get_token

    if get_token():
        return (
            f"The {kind} {name!r} is gated, and the token's account may not read it: accept its licence at {page} with "
            "that account, or give another account's token in HF_TOKEN."
        )
    return f"The {kind} {name!r} is gated: accept its licence at {page}, then log in (`hf auth login`) or set HF_TOKEN."


def _silence_text(name: str, kind: str, reached: bool) -> str:
    from huggingface_hub import constants

    if reached:
        return (
            f"The connection to the Hub broke off while the {kind} {name!r} was loading: check the network and start "
            "again; files that have arrived whole are kept."
        )
    cause = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "The Hub cannot be reached"
    way_out = "unset it" if constants.HF_HUB_OFFLINE else "check the network"
    return f"{cause} and the {kind} {name!r} is not on this machine, or not all of it: {way_out}, or give a local path."


def _page(name: str, kind: str) -> str:
    return f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"


def _answers() -> tuple[type[Exception], type[Exception], type[Exception]]:
    """(gated, no such revision, no such repository): in this order, as the first is one of the last."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    return GatedRepoError, RevisionNotFoundError, RepositoryNotFoundError


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from; `datasets` hides causes, but leaves them as contexts."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first(error: Exception, *kinds: type[Exception]) -> BaseException | None:
    return next((link for link in _chain(error) if isinstance(link, kinds)), None)


def _status(error: Exception) -> int:
    """The HTTP status that an error carries, or 0."""
    statuses = (getattr(getattr(link, "response", None), "status_code", 0) for link in _chain(error))
    return next((status for status in statuses if status), 0)


def _silent(error: Exception) -> bool:
    """Whether the Hub gave no answer. TransportError is the family of httpx, and of what the newer client uses."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    known = (ConnectionError, TimeoutError, LocalEntryNotFoundError)
    names = {base.__name__ for link in _chain(error) for base in type(link).__mro__}
    return _first(error, *known) is not None or "TransportError" in names or _status(error) in SILENT_STATUS


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def hub_id_problem(name: str, kind: str) -> str:
    """Why `name` cannot be a Hub id, or ""."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return f"{name!r} is neither a local path nor a Hub id: a {kind}'s id looks like 'owner/name'."
    return ""
