"""What a person decided about single rows: a log of corrections in the folder of a run. Knows no row and no format.

corrections.jsonl   one JSON object a line, in the order of the decisions; nothing in it is ever rewritten, and an undo is a line,
                    too. So version n of the dataset is its source with the first n lines applied.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from geko_engine.exceptions import DataError
from geko_engine.storage.user_paths import FILE, expand, kind_of, path_problem, shown_path

FIELD = "data.corrections"
KEEP, REPLACE, DELETE, UNDO = "keep", "replace", "delete", "undo"
ACTIONS = (KEEP, REPLACE, DELETE, UNDO)
ORIGINS = ("edited", "suggested", "similar", "model", "program")  # where a new text comes from


MOST_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Correction:
    """One decision about one row.

    Attributes:
        row: its number in the source, from 1.
        digest: of its text as the run had it, in hexadecimal digits: a row that has changed since is left as it is.
        action: KEEP, REPLACE, DELETE or UNDO.
        prompt, answer: the new texts; None for what stays. Of a plain text the answer is all of it.
        origin: where they come from, one of ORIGINS; "" unless the action is REPLACE.
        at: when it was decided, in UTC (ISO 8601).
    """

    row: int
    digest: str
    action: str
    prompt: str | None = None
    answer: str | None = None
    origin: str = ""
    at: str = ""


def read_corrections(path: str | Path) -> list[Correction]:
    """The whole log; empty where there is no file. A last line that the page was killed in is left out.

    Raises:
        DataError: at data.corrections, when the file cannot be read or is damaged.
    """
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise DataError(
                f"{shown_path(str(path))} is too large for a log of corrections: give a run's corrections.jsonl.", FIELD
            )
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DataError(f"The corrections {shown_path(str(path))} cannot be read: {error}", FIELD) from error
    *lines, last = text.split("\n")
    found = [_parsed(line, number, path) for number, line in enumerate(lines, 1) if line.strip()]
    return [*found, _parsed(last, len(lines) + 1, path)] if _is_whole(last) else found


def current(log: Sequence[Correction]) -> dict[int, Correction]:
    """What holds now: row -> its last decision that was not undone. An UNDO takes back one decision, the last one."""
    standing: dict[int, list[Correction]] = {}
    for correction in log:
        decided = standing.setdefault(correction.row, [])
        if correction.action != UNDO:
            decided.append(correction)
        elif decided:
            decided.pop()
    return {row: decided[-1] for row, decided in standing.items() if decided}


def append(path: Path, corrections: Sequence[Correction]) -> None:
    """Add lines to a log; they are on the disk when this returns.

    Raises:
        OSError: when the disk refuses.
    """
    lines = "".join(json.dumps(asdict(correction)) + "\n" for correction in corrections)
    with path.open("a+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                lines = _mended(file, path) + lines
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def correct_turns(
    turns: Sequence[dict[str, Any]], prompt: str | None, answer: str | None, *, is_prompt: bool = False
) -> list[dict[str, Any]]:
    """A conversation with another last answer, or another question before it.

    Args:
        turns: with role and content. prompt, answer: the new texts; None for what stays.
        is_prompt: whether the turns end before the answer, so that the last question is the one to replace.

    Raises:
        ValueError: there is no answer or no question to correct.
    """
    changed = list(turns)
    answers = [i for i, turn in enumerate(changed) if turn.get("role") == "assistant"]
    end = answers[-1] if answers and not is_prompt else len(changed)
    asked = [i for i in range(end) if changed[i].get("role") == "user"]
    for text, places, what in ((answer, answers, "answer"), (prompt, asked, "question")):
        if text is None:
            continue
        if not places:
            raise ValueError(f"it has no {what} to correct")
        changed[places[-1]] = {**changed[places[-1]], "content": text}
    return changed


def corrections_problem(name: str | None) -> str:
    """Why the file `name` holds no corrections, or ""."""
    if not name:
        return ""
    problem = path_problem(name)
    if problem:
        return problem
    if kind_of(name) != FILE:
        return f"There is no file {shown_path(name)}: review samples on the Samples page, or leave it empty."
    try:
        read_corrections(expand(name))
    except DataError as error:
        return str(error)
    return ""


def _parsed(line: str, number: int, path: str | Path) -> Correction:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not _is_correction(values):
        raise DataError(
            f"Line {number} of {shown_path(str(path))} is no correction: give a run's corrections.jsonl as it is.",
            FIELD,
        )
    return Correction(**{field.name: values[field.name] for field in fields(Correction) if field.name in values})


def _is_whole(line: str) -> bool:
    """Whether a last line without its end was written whole, by hand say."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_correction(values: dict[str, Any]) -> bool:
    row, texts = values.get("row"), (values.get("prompt"), values.get("answer"))
    return (
        type(row) is int
        and row > 0
        and isinstance(values.get("digest"), str)
        and values.get("action") in ACTIONS
        and all(text is None or isinstance(text, str) for text in texts)
        and all(isinstance(values.get(name, ""), str) for name in ("origin", "at"))
    )


def _mended(file: BinaryIO, path: Path) -> str:
    """What ends the last line of a log: a newline after a whole one; one that the page was killed in is cut off."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if _is_whole(content[end:].decode("utf-8", "replace")):
        return "\n"
    file.truncate(end)
    return ""
