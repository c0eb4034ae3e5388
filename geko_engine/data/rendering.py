"""The rows of one dataset as text, each rendered once, for the tokenizer and for the texts that people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geko_engine.data.formats import Format, Rendering, Row, UnusableRow


class RenderedRows:
    """Rows of one dataset; each is rendered when it is first asked for, and kept.

    Args:
        rows: the rows in the order of the source; None for one that is left out, so that the others keep their numbers.
        format: how they are read.
        tokenizer: its chat template renders conversations.
        restored: column -> numbers of the rows whose whole numbers had become fractions there.
    """

    def __init__(
        self,
        rows: Sequence[Row | None],
        format: Format,
        tokenizer: Any,
        restored: Mapping[str, list[int]] | None = None,
    ) -> None:
        self.rows, self.format, self.tokenizer = rows, format, tokenizer
        self.restored = {name: numbers for name, numbers in (restored or {}).items() if name in format.columns}
        self._rendered: dict[int, list[Rendering] | str] = {}  # a row that cannot be rendered has its reason

    def __len__(self) -> int:
        """All rows of the source, those that are left out included."""
        return len(self.rows)

    def __getitem__(self, number: int) -> list[Rendering]:
        """The samples of row `number`, counted from 0; none where it is left out.

        Raises:
            UnusableRow: when the row cannot be rendered, with the reason.
        """
        row = self.rows[number]
        if row is None:
            return []
        if number not in self._rendered:
            try:
                self._rendered[number] = self.format.render(row, self.tokenizer)
            except UnusableRow as reason:
                self._rendered[number] = str(reason)
        found = self._rendered[number]
        if isinstance(found, str):
            raise UnusableRow(found)
        return found
