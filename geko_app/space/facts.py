"""What the Space says of itself, from the environment that the Hub sets. Reads no file and asks nobody.

SPACE_ID, SPACE_HOST and SPACE_AUTHOR_NAME are set in every Space, OAUTH_CLIENT_ID where its README says `hf_oauth: true`,
HF_TOKEN and GEKO_SPACE_OWNERS where its owner has added them. A storage bucket is mounted at /data.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATA = Path("/data")
FORGETS = "This Space forgets its runs when it restarts: mount storage at /data in its settings to keep them."
PUSHES = "The model of each run that is complete is pushed to {owner}/RUN, private."
NO_TOKEN = "Add the secret HF_TOKEN, with write access, and the model of each complete run is pushed to the Hub."


@dataclass(frozen=True)
class Space:
    """A Space.

    Attributes:
        id: "owner/name".
        owner: a user or an organization.
        owners: the names, in lower case, of who may do everything: the owner, and those in GEKO_SPACE_OWNERS.
        signs_in: whether visitors can sign in with their account of the Hub.
        keeps: whether the runs survive a restart.
        pushes: whether models can be pushed.
    """

    id: str
    owner: str
    owners: frozenset[str]
    signs_in: bool = False
    keeps: bool = False
    pushes: bool = False

    @classmethod
    def of(cls, environment: Mapping[str, str], data: Path = DATA) -> Space | None:
        """The Space that this process runs in, or None."""
        name = environment.get("SPACE_ID", "")
        if not name or not environment.get("SPACE_HOST"):
            return None
        owner = environment.get("SPACE_AUTHOR_NAME") or name.split("/")[0]
        others = environment.get("GEKO_SPACE_OWNERS", "").split(",")
        return cls(
            name,
            owner,
            frozenset(one.strip().lower() for one in (owner, *others) if one.strip()),
            signs_in=bool(environment.get("OAUTH_CLIENT_ID")),
            keeps=data.is_dir() and os.access(data, os.W_OK),
            pushes=bool(environment.get("HF_TOKEN")),
        )

    def runs_folder(self, given: str, data: Path = DATA) -> str:
        """Where runs are kept: on the mounted storage if there is any."""
        return str(data / "runs") if self.keeps else given

    def notes(self) -> list[str]:
        """What visitors should know of this Space."""
        push = PUSHES.format(owner=self.owner) if self.pushes else NO_TOKEN
        return [push] if self.keeps else [FORGETS, push]
