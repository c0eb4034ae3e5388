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
from typing import Any

from geko_engine.exceptions import DataError
from geko_engine.storage.user_paths import FILE, expand, kind_of, path_problem, shown_path

FIELD = "data.corrections"
KEEP, REPLACE, DELETE, UNDO = "keep", "replace", "delete", "undo"
ACTIONS = (KEEP, REPLACE, DELETE, UNDO)
ORIGINS = ("edited", "suggested", "similar", "model")  # where a new text comes from


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
    """The whole log; empty where there is no file. A last line that was not written to its end is left out.

    Raises:
        DataError: at data.corrections, when the file cannot be read or is damaged.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DataError(f"The corrections {shown_path(str(path))} cannot be read: {error}", FIELD) from error
    lines = text.split("\n")
    return [_parsed(line, number, path) for number, line in enumerate(lines[:-1], 1) if line.strip()]


def current(log: Sequence[Correction]) -> dict[int, Correction]:
    """What holds now: row -> the last decision about it. Rows whose last one was undone are not in it."""
    last = {correction.row: correction for correction in log}
    return {row: correction for row, correction in last.items() if correction.action != UNDO}


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
            if file.read(1) != b"\n":  # the page died in the middle of a line
                file.truncate(_last_end(path))
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def correct_turns(turns: Sequence[dict[str, Any]], prompt: str | None, answer: str | None) -> list[dict[str, Any]]:
    """A conversation with another last answer, or another question before it; where it has no answer, the last question.

    Args:
        turns: with role and content. prompt, answer: the new texts; None for what stays.

    Raises:
        ValueError: there is no answer or no question to correct.
    """
    changed = list(turns)
    answers = [i for i, turn in enumerate(changed) if turn.get("role") == "assistant"]
    asked = [i for i in range(answers[-1] if answers else len(changed)) if changed[i].get("role") == "user"]
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


def _last_end(path: Path) -> int:
    """Position after the last line that was written to its end."""
    return path.read_bytes().rfind(b"\n") + 1
