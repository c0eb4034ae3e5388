"""The rows of one dataset as text, each rendered once, for the tokenizer and for the texts that people read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geko_engine.data.formats import Format, Rendering, Row, UnusableRow
from geko_engine.data.formats.cells import is_unicode
from geko_engine.data.row_names import Origin

HALF_CHARACTER = "it holds half a character (a lone surrogate)"  # in what no column is, such as the arguments of a tool
OTHER_COLUMNS = "the columns ({}) are not those that are read; such rows need a dataset of their own"

Rendered = list[Rendering] | str  # the samples of a row, or why it cannot be rendered


class RenderedRows:
    """Rows of one dataset; each is rendered when it is first asked for, and kept.

    Args:
        rows: the rows in the order of the source; None for one that is left out, so that the others keep their numbers.
        format: how they are read.
        tokenizer: its chat template renders conversations.
        restored: column -> numbers of the rows whose whole numbers had become fractions there.
        origin: the files that the rows come from.
    """

    def __init__(
        self,
        rows: Sequence[Row | None],
        format: Format,
        tokenizer: Any,
        restored: Mapping[str, list[int]] | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.rows, self.format, self.tokenizer = rows, format, tokenizer
        self.restored = {name: numbers for name, numbers in (restored or {}).items() if name in format.columns}
        self.origin = origin or Origin()
        self.names = self.origin.names
        self.trained_before: frozenset[int] = frozenset()  # rows left out, because an earlier run was trained on them
        self.held_out: frozenset[int] = frozenset()  # rows that the run which this one goes on from held out
        # By the corrections of an earlier run: rows that were changed, those that were left out, and those that do not have the
        # text any more that they were corrected for; and the texts that are gone with the first two.
        self.corrected: frozenset[int] = frozenset()
        self.deleted: frozenset[int] = frozenset()
        self.outdated: frozenset[int] = frozenset()
        self.texts_before: frozenset[bytes] = frozenset()
        self._rendered: dict[int, Rendered] = {}

    def __len__(self) -> int:
        """All rows of the source, those that are left out included."""
        return len(self.rows)

    def __getitem__(self, number: int) -> list[Rendering]:
        """The samples of row `number`, counted from 0; none where it is left out.

        Raises:
            UnusableRow: when the row cannot be rendered, with the reason.
        """
        if number not in self._rendered:
            self._rendered[number] = self.render(number)
        found = self._rendered[number]
        if isinstance(found, str):
            raise UnusableRow(found)
        return found

    def render(self, number: int) -> Rendered:
        """Row `number` as it is rendered now; nothing is kept."""
        row = self.rows[number]
        if row is None:
            return []
        if not self.reads(row):
            return OTHER_COLUMNS.format(", ".join(map(str, row)) or "none")
        try:
            samples = self.format.render(row, self.tokenizer)
        except UnusableRow as reason:
            return str(reason)
        return samples if all(is_unicode(sample.text) for sample in samples) else HALF_CHARACTER

    def known(self, numbers: Iterable[int]) -> dict[int, Rendered]:
        """The rows `numbers` as they are kept, rendered where they are not kept yet."""
        return {n: self._rendered[n] if n in self._rendered else self.render(n) for n in numbers}

    def keep(self, found: Mapping[int, Rendered]) -> None:
        """Keep rows that were rendered elsewhere."""
        self._rendered.update(found)

    def reads(self, row: Row) -> bool:
        """Whether `row` has a column that its format reads."""
        return any(name in row for name in self.format.columns)
