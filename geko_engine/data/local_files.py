"""Local data: a file, or a folder of files that are read one after the other. Torch-free; knows no column.

Each error is one sentence that names the file, the place in it and the way out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from geko_engine.data.table_files import arrow_rows, parquet_rows
from geko_engine.data.text_files import (
    CONTENT_ERRORS,
    PACKED,
    content_problem,
    csv_rows,
    file_kind,
    json_rows,
    jsonl_rows,
    txt_rows,
)
from geko_engine.exceptions import DataError
from geko_engine.storage.user_paths import FILE, FOLDER, expand, kind_of, path_problem, shown_path

READERS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    ".jsonl": jsonl_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".parquet": parquet_rows,
    ".arrow": arrow_rows,
    ".txt": txt_rows,
}
UNPACKED = (".parquet", ".arrow")  # are compressed inside, and not packed again
FILE_KINDS = tuple(READERS)
MAX_FILES = 100_000  # in a folder; more is no dataset but a disk
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
BESIDE_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "cache-*.arrow")
NOT_DATA = "no data files"
OTHER_SPLIT = "named for another split than {!r}"
OF_DATASETS = "written by the datasets library beside the data"


@dataclass(frozen=True)
class DataFiles:
    """The files of one dataset.

    Attributes:
        root: the folder, or the file where it is one.
        read: the files that are read, in their order.
        unread: the names of the others in the folder, by the reason why they are not read.
    """

    root: Path
    read: list[Path]
    unread: dict[str, list[str]] = field(default_factory=dict)

    def name_of(self, path: Path) -> str:
        """The name of a file below the folder, on one line."""
        name = path.relative_to(self.root).as_posix() if path != self.root else path.name
        return name if name.isprintable() else repr(name)[1:-1]


def find_files(name: str, split: str = "train") -> DataFiles:
    """The files at a path: the file itself, or those in the folder and below it.

    Where the names in a folder say which split a file belongs to, only files of the wanted split are read.

    Args:
        name: of a file or a folder.
        split: wanted of a folder, such as "train" or "train+validation".

    Raises:
        DataError: there is nothing that can be read.
    """
    problem = path_problem(name)
    if problem:
        raise DataError(problem)
    path, kind = expand(name), kind_of(name)
    if kind == FOLDER:
        return _files_of_folder(path, name, split)
    if kind != FILE:
        raise DataError(f"There is no file {shown_path(name)}: check the path, or give a Hub id or 'demo'.")
    if not _is_readable(path):
        raise DataError(f"{shown_path(name)} is not a kind of file that can be read: give {kinds()}.")
    return DataFiles(path, [path])


def kinds() -> str:
    """The endings of the files that are read, for a sentence."""
    return f"{', '.join(FILE_KINDS)}, or a text file packed as {' or '.join(PACKED)}"


def file_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of one file, one after the other. Raises DataError, without a field."""
    try:
        yield from READERS[file_kind(path)](path)
    except CONTENT_ERRORS as error:
        raise DataError(content_problem(error, path)) from error


def local_rows(name: str, split: str = "train") -> Iterator[dict[str, Any]]:
    """The rows of a local file or folder, one after the other. Raises DataError, without a field."""
    for path in find_files(name, split).read:
        yield from file_rows(path)


def is_local(name: str) -> bool:
    """Whether `name` can only be a path: it exists, starts like one, ends like a data file or is deeper than a Hub id."""
    looks = name.startswith((".", "~", os.sep)) or name.count("/") > 1 or "\\" in name or "\0" in name
    return looks or Path(name).suffix.lower() in (*FILE_KINDS, *PACKED) or _is_there(name)


def _is_there(name: str) -> bool:
    return bool(path_problem(name)) or bool(kind_of(name))


def _is_readable(path: Path) -> bool:
    kind = file_kind(path)
    return kind in READERS and not (kind in UNPACKED and path.suffix.lower() in PACKED)


def _files_of_folder(root: Path, name: str, split: str) -> DataFiles:
    found = DataFiles(root, [])
    for path in _walk(root, name):
        kind = kind_of(path)
        if kind != FILE or path.name.startswith(".") or not _is_readable(path):
            found.unread.setdefault(NOT_DATA, []).append(found.name_of(path) + ("/" if kind == FOLDER else ""))
        elif any(fnmatch(path.name, pattern) for pattern in BESIDE_DATA):
            found.unread.setdefault(OF_DATASETS, []).append(found.name_of(path))
        else:
            found.read.append(path)
    if not found.read:
        raise DataError(f"The folder {shown_path(name)} holds no data files: give a folder with {kinds()}.")
    wanted = _of_split(found, name, split)
    others = [found.name_of(path) for path in found.read if path not in wanted]
    if others:
        found.unread[OTHER_SPLIT.format(split)] = others
    return DataFiles(root, [path for path in found.read if path in wanted], found.unread)


def _walk(root: Path, name: str) -> list[Path]:
    """All files below `root`, and the hidden folders that are not entered; names with numbers in the order of these."""
    found: list[Path] = []
    for folder, inner, files in os.walk(root, onerror=_refuse_folder):
        hidden = [one for one in inner if one.startswith(".")]
        inner[:] = [one for one in inner if not one.startswith(".")]
        found += [Path(folder, one) for one in (*files, *hidden)]
        if len(found) > MAX_FILES:
            raise DataError(
                f"The folder {shown_path(name)} holds more than {MAX_FILES:,} files: give a folder with the data alone."
            )
    return sorted(found, key=lambda path: _natural(path.relative_to(root).as_posix()))


def _refuse_folder(error: OSError) -> None:
    raise DataError(f"The folder {shown_path(error.filename)} cannot be read: {error.strerror}.") from error


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts]


def _of_split(found: DataFiles, name: str, split: str) -> set[Path]:
    """The files of the wanted split; where no name says it, those whose name says none, or all if all say the same."""
    splits = {path: _split_named(found.name_of(path)) for path in found.read}
    wanted = [re.sub(r"\[.*", "", part).strip().lower() for part in split.split("+")]
    mine = {path for path in found.read if any(_says(found.name_of(path), part) for part in wanted)}
    free = {path for path, its in splits.items() if not its}
    if mine or free:
        return mine or free
    if len(set(splits.values())) == 1:
        return set(splits)
    raise DataError(
        f"The folder {shown_path(name)} holds files of the splits {', '.join(sorted(set(splits.values())))}, and none of "
        f"{split!r}: choose one of them as the split."
    )


def _says(name: str, split: str) -> bool:
    """Whether the name of a file says that it belongs to `split`, a usual one or one of the data's own."""
    usual = _split_named(split) if split in SPLIT_OF else ""
    return (
        _split_named(name) == usual
        if usual
        else bool(re.search(rf"(?<![a-z]){re.escape(split)}(?![a-z])", name.lower()))
    )


def _split_named(name: str) -> str:
    """The split that the name of a file or of its folder says, as the datasets library finds it; "" for none."""
    return next((SPLIT_OF[word] for word in re.findall(r"[a-z]+", name.lower()) if word in SPLIT_OF), "")
