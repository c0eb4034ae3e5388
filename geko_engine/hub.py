"""The Hub: rows of its datasets, and one plain sentence for each of its errors. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from geko_engine.config import DataConfig
from geko_engine.exceptions import DataError, GekoError


def hub_rows(name: str, config: DataConfig, evaluation: bool) -> Iterator[dict[str, Any]]:
    """The rows of one split of a Hub dataset. Raises DataError, without a field."""
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


def hub_id_problem(name: str, kind: str) -> str:
    """Why `name` cannot be a Hub id, or ""."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return f"{name!r} is neither a local path nor a Hub id: a {kind}'s id looks like 'owner/name'."
    return ""
