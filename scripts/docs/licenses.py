"""The libraries that GEKO needs, with their licenses, from pyproject.toml and what is installed."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = ("app", "peft", "bnb", "rich", "mcp", "space")
NAME = re.compile(r"[A-Za-z0-9_.-]+")


def needed() -> dict[str, str]:
    """Library -> the extra that needs it; "" for those that are always needed."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    lists = {"": project["dependencies"], **{extra: project["optional-dependencies"][extra] for extra in EXTRAS}}
    found: dict[str, str] = {}
    for extra, requirements in lists.items():
        for requirement in requirements:
            found.setdefault(NAME.match(requirement)[0], extra)  # type: ignore[index]  # a requirement begins with its name
    return found


def license_of(library: str) -> str:
    """The license as the installed package names it.

    Raises:
        LookupError: when it names none; then it is to be looked up before the library is used.
    """
    try:
        facts = metadata(library)
    except PackageNotFoundError:
        return "not installed here"
    classified = [text.split(" :: ")[-1] for text in facts.get_all("Classifier") or [] if text.startswith("License ::")]
    said = (facts.get("License") or "").strip().splitlines()
    found = facts.get("License-Expression") or (said[0] if said and len(said[0]) < 60 else "") or ", ".join(classified)
    if not found:
        raise LookupError(f"{library} names no license")
    return str(found)


def licenses_markdown() -> str:
    """A table of the libraries, what needs them, and their licenses."""
    rows = [f"| {name} | {extra or 'always'} | {license_of(name)} |" for name, extra in sorted(needed().items())]
    return "\n".join(["| Library | Needed for | License |", "|---|---|---|", *rows])
