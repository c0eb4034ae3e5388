"""Search on the Hugging Face Hub: models and datasets by a part of their names. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from geko_engine.hub.downloads import limit_request_time

FOUND = 8  # at most


@dataclass(frozen=True)
class HubEntry:
    """A repository on the Hub.

    Attributes:
        name: its id.
        license: as its tags say, "" if they do not.
        gated: whether its license has to be accepted first.
        parameters: of a model with safetensors; None where the Hub does not know them.
        downloads: in the last 30 days.
    """

    name: str
    license: str
    gated: bool
    parameters: int | None
    downloads: int


def search_hub(text: str, kind: str, token: str | None = None) -> list[HubEntry] | None:
    """The repositories with `text` in their names that are downloaded most.

    Args:
        text: what to look for.
        kind: "model" (only those that generate text) or "dataset".
        token: for private ones; that of this machine by default.

    Returns:
        None when the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return None
    limit_request_time()
    api = HfApi(token=token or None)
    found: Iterable[Any]
    try:
        if kind == "dataset":
            found = api.list_datasets(search=text, sort="downloads", limit=FOUND, expand=["downloads", "gated", "tags"])
        else:
            found = api.list_models(
                search=text,
                pipeline_tag="text-generation",
                sort="downloads",
                limit=FOUND,
                expand=["downloads", "gated", "tags", "safetensors"],
            )
        return [_entry(info) for info in found]
    except Exception:  # noqa: BLE001 - the client raises its own families, OSError, ValueError and more
        return None


def _entry(info: Any) -> HubEntry:
    licenses = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    weights = getattr(info, "safetensors", None)
    return HubEntry(
        info.id, licenses[0] if licenses else "", bool(info.gated), getattr(weights, "total", None), info.downloads or 0
    )
