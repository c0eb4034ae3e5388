"""What hatchling adds to the metadata of the package: the README for a package index, and the project's addresses.

An index shows the README without the files beside it, so its links must be absolute. They lead to the repository that
GEKO_REPOSITORY names, or to the one whose workflow builds. Without either, a link to a file becomes its text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?:|mailto:|#)(?P<path>[^)\s]+)\)")
PAGES = {"Documentation": "tree/{ref}/docs", "Changelog": "blob/{ref}/CHANGELOG.md", "Issues": "issues"}


class ReadmeAndAddresses(MetadataHookInterface):
    """Fills in `readme` and `urls`, which pyproject.toml declares as dynamic."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the metadata that it has read so far."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        address, ref = repository(os.environ), ref_of(metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, address, ref)}
        metadata["urls"] = addresses(address, ref)


def repository(environment: Any) -> str:
    """The address of the repository; "" where it is not known."""
    named = environment.get("GEKO_REPOSITORY", "")
    server, name = environment.get("GITHUB_SERVER_URL", ""), environment.get("GITHUB_REPOSITORY", "")
    return (named or (f"{server}/{name}" if server and name else "")).rstrip("/")


def ref_of(version: str) -> str:
    """The tag of a released version; `main` for one that is not released."""
    return "main" if "dev" in version else f"v{version}"


def absolute_links(text: str, address: str, ref: str) -> str:
    """Markdown whose links to files lead to the repository; without an address a link is its text, a picture nothing."""

    def link(found: re.Match[str]) -> str:
        picture, words, path = found["picture"], found["text"], found["path"]
        if not address:
            return "" if picture else words
        return f"{picture}[{words}]({address}/{'raw' if picture else 'blob'}/{ref}/{path})"

    return LINK.sub(link, text)


def addresses(address: str, ref: str) -> dict[str, str]:
    """The project's addresses by their label; none where the repository is not known."""
    if not address:
        return {}
    return {"Source": address, **{label: f"{address}/{page.format(ref=ref)}" for label, page in PAGES.items()}}
