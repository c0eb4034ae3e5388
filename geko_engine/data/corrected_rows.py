"""Applies the corrections of an earlier run to the rows of the training data. Knows no file of a run but the log."""

from __future__ import annotations

from geko_engine.config.sections import DataConfig
from geko_engine.data.corrections import DELETE, FIELD, REPLACE, Correction, current, read_corrections
from geko_engine.data.earlier_run import text_digest
from geko_engine.data.formats import Row, UnusableRow
from geko_engine.data.rendering import RenderedRows
from geko_engine.exceptions import DataError
from geko_engine.storage.user_paths import expand


def correct_rows(config: DataConfig, rendered: RenderedRows) -> RenderedRows:
    """The rows with the corrections that data.corrections names; `rendered` where it names none.

    A correction is applied only where its row still has the text that it was made for.

    Raises:
        DataError: at data.corrections, when the log cannot be read or no row is left.
    """
    decided = current(read_corrections(expand(config.corrections))) if config.corrections else {}
    if not decided:
        return rendered
    rows, corrected, deleted, outdated = list(rendered.rows), [], [], []
    before: set[bytes] = set()  # texts that are not in the data any more
    for number, correction in sorted((row - 1, found) for row, found in decided.items()):
        if correction.action not in (REPLACE, DELETE) or (number < len(rows) and rows[number] is None):
            continue
        digests = digests_of_row(rendered, number)
        if correction.digest not in [digest.hex() for digest in digests]:
            outdated.append(number)
            continue
        before |= set(digests)
        row = rows[number]
        if correction.action == DELETE or row is None:
            rows[number] = None
            deleted.append(number)
        else:
            rows[number] = _replaced(rendered, row, correction)
            corrected.append(number)
    if all(row is None for row in rows):
        raise DataError("The corrections delete all rows, so nothing is left to train on: undo some of them.", FIELD)
    changed = {*corrected, *deleted}
    made = RenderedRows(rows, rendered.format, rendered.tokenizer, rendered.restored, rendered.origin)
    made.keep(
        rendered.known(number for number in range(len(rows)) if rows[number] is not None and number not in changed)
    )
    made.corrected, made.deleted, made.outdated = frozenset(corrected), frozenset(deleted), frozenset(outdated)
    made.texts_before = rendered.texts_before | before
    return made


def digests_of_row(rendered: RenderedRows, number: int) -> list[bytes]:
    """A digest of each text of row `number`, counted from 0; none where there is no such row or it cannot be used."""
    try:
        return [text_digest(sample.text) for sample in rendered[number]] if number < len(rendered) else []
    except UnusableRow:
        return []


def _replaced(rendered: RenderedRows, row: Row, correction: Correction) -> Row:
    try:
        return rendered.format.corrected(row, correction.prompt, correction.answer)
    except UnusableRow as reason:
        raise DataError(
            f"The correction of row {correction.row:,} cannot be applied, because {reason}.", FIELD
        ) from None
