"""The user's name and tags of a run, in a small file of its own beside it. Knows no page, and never touches its configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from geko_app.formatting import run_name
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import replace_json

LABEL = "label.json"
NAME_LIMIT = 80  # characters
TAG_LIMIT = 32
TAGS_LIMIT = 12


@dataclass(frozen=True)
class Label:
    """What a user calls a run; `name` is "" and `tags` is empty where nothing was given."""

    name: str = ""
    tags: tuple[str, ...] = ()


def read_label(folder: RunFolder) -> Label:
    """The label of a run; an empty one where there is none, or none that can be read."""
    try:
        values = json.loads((folder.path / LABEL).read_text(encoding="utf-8"))
        return _checked(str(values["name"]), [str(tag) for tag in values["tags"]])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, RunError):
        return Label()


def write_label(folder: RunFolder, name: str, tags: Iterable[str]) -> None:
    """Save name and tags of a run; without either, the file is removed.

    Args:
        folder: of the run.
        name: "" for none. Spaces around it, and line breaks in it, are not kept.
        tags: each once, whatever the case of its letters.

    Raises:
        RunError: one is too long, there are too many, or the disk refuses.
    """
    label, path = _checked(name, tags), folder.path / LABEL
    try:
        if label == Label():
            path.unlink(missing_ok=True)
        else:
            replace_json(path, asdict(label))
    except OSError as error:
        raise RunError(f"The name cannot be saved ({error.strerror or error}).") from error


def display_name(folder: RunFolder) -> str:
    """What the page calls a run: the user's name, else its date and model."""
    return read_label(folder).name or run_name(folder.id)


def _checked(name: str, tags: Iterable[str]) -> Label:
    name = _one_line(name)
    if len(name) > NAME_LIMIT:
        raise RunError(f"The name has {len(name):,} characters; the limit is {NAME_LIMIT}. Shorten it.")
    kept: dict[str, str] = {}
    for tag in filter(None, map(_one_line, tags)):
        if len(tag) > TAG_LIMIT:
            raise RunError(f"The tag {tag[:TAG_LIMIT]!r}… has {len(tag):,} characters; the limit is {TAG_LIMIT}.")
        kept.setdefault(tag.casefold(), tag)
    if len(kept) > TAGS_LIMIT:
        raise RunError(f"A run can have {TAGS_LIMIT} tags: remove one first.")
    return Label(name, tuple(kept.values()))


def _one_line(text: Any) -> str:
    """`text` on one line, without what no file or screen can show."""
    return " ".join("".join(letter for letter in text if letter.isprintable() or letter.isspace()).split())
