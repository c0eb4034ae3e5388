"""Which file each row of a dataset comes from, and how rows are named in a sentence. Knows no format."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

ROWS_NAMED = 10  # row numbers in a sentence
FILES_NAMED = 10


@dataclass(frozen=True)
class RowNames:
    """Names rows by their number, and by their file where they come from several.

    Attributes:
        files: name of each file and the number of its first row, in the order of the rows; empty for a single file.
    """

    files: Sequence[tuple[str, int]] = ()

    @property
    def starts(self) -> tuple[int, ...]:
        """Number of the first row of each file, counted from 0."""
        return tuple(first for _, first in self.files) or (0,)

    def list(self, rows: Sequence[int]) -> str:
        """The first of `rows`, counted from 0, for a sentence: "1, 2, 3, …", or "a.jsonl 1, 2; b.csv 1, …"."""
        rest = ", …" if len(rows) > ROWS_NAMED else ""
        by_file: dict[str, list[str]] = {}
        for row in rows[:ROWS_NAMED]:
            file, number = self._place(row)
            by_file.setdefault(file, []).append(str(number))
        return "; ".join(f"{file} {', '.join(n)}".lstrip() for file, n in by_file.items()) + rest

    def one(self, row: int) -> str:
        """One row, counted from 0, as the beginning of a sentence."""
        file, number = self._place(row)
        return f"Row {number} of {file}" if file else f"Row {number}"

    def file(self, row: int) -> str:
        """The file that a row, counted from 0, comes from; "" where there is only one."""
        return self._place(row)[0]

    def _place(self, row: int) -> tuple[str, int]:
        if not self.files:
            return "", row + 1
        name, first = self.files[bisect_right(self.files, row, key=lambda file: file[1]) - 1]
        return name, row - first + 1


@dataclass
class Origin:
    """Where the rows of a dataset come from.

    Attributes:
        files: name and number of rows of each file that was read, where the source is a folder.
        unread: names of the other files in the folder, by the reason.
        is_cut: whether reading ended before the last file, at the number of rows that was asked for.
        double_keys: numbers of the rows, counted from 0, in which a key stood twice.
        notes: what else there is to say about files that were read, one sentence each, without a full stop.
    """

    files: list[tuple[str, int]] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=dict)
    is_cut: bool = False
    double_keys: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> RowNames:
        """How its rows are named."""
        first, found = 0, []
        for name, count in self.files if len(self.files) > 1 else ():
            if count:
                found.append((name, first))
            first += count
        return RowNames(tuple(found))

    @property
    def sentences(self) -> list[str]:
        """What a user should know about the files, one sentence each."""
        filled = [(name, count) for name, count in self.files if count]
        empty = [name for name, count in self.files if not count]
        found = []
        if len(filled) > 1:
            end = ", as many as were asked for" if self.is_cut else ""
            found.append(f"Rows come from {_files(filled)}{end}: {_named(f'{n} {count:,}' for n, count in filled)}")
        if empty:
            found.append(f"{_files(empty)} without rows: {_named(empty)}")
        if self.double_keys:
            rows = f"{len(self.double_keys):,} {'row' if len(self.double_keys) == 1 else 'rows'}"
            found.append(
                f"{rows} with a key that stands twice, whose last value is read: {self.names.list(self.double_keys)}"
            )
        found += self.notes
        found += [f"{_files(names)} not read, {reason}: {_named(names)}" for reason, names in self.unread.items()]
        return found


class LoadedRows(list[dict[str, Any]]):
    """The rows of a dataset, with their origin.

    Args:
        rows: in the order of the source.
        origin: where they come from.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = (), origin: Origin | None = None) -> None:
        super().__init__(rows)
        self.origin = origin or Origin()


def _files(names: Sequence[Any]) -> str:
    return f"{len(names):,} {'file' if len(names) == 1 else 'files'}"


def _named(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:FILES_NAMED]) + (", …" if len(names) > FILES_NAMED else "")
