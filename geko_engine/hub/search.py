"""Search on the Hugging Face Hub: models and datasets by a part of their names. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from geko_engine.hub.downloads import limit_request_time

FOUND = 8  # at most
SECONDS = 5
SHOWN = ("downloads", "gated", "tags")


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
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # there, but not in __all__

    if constants.HF_HUB_OFFLINE:
        return None
    limit_request_time()
    params: dict[str, Any] = {"search": text, "sort": "downloads", "limit": FOUND, "expand": [*SHOWN]}
    if kind == "model":
        params |= {"pipeline_tag": "text-generation", "expand": [*SHOWN, "safetensors"]}
    try:  # the client's own search tries again and again, and somebody is waiting
        answer = get_session().get(
            f"{constants.ENDPOINT}/api/{kind}s",
            params=params,
            headers=build_hf_headers(token=token or None),
            timeout=SECONDS,
        )
        answer.raise_for_status()
        return [_entry(found) for found in answer.json()]
    except Exception:  # noqa: BLE001 - the client raises its own families, OSError, ValueError and more
        return None


def _entry(found: dict[str, Any]) -> HubEntry:
    licenses = [tag.removeprefix("license:") for tag in found.get("tags") or () if tag.startswith("license:")]
    weights = found.get("safetensors") or {}
    return HubEntry(
        found["id"],
        licenses[0] if licenses else "",
        bool(found.get("gated")),
        weights.get("total"),
        found.get("downloads") or 0,
    )
