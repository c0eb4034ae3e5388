"""What a person decides about the samples of a run: keep, edit or delete; kept in its folder. Knows no page."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from geko_app.samples.correction_log import log_of, own_decisions, started_with, version
from geko_app.samples.store import Samples
from geko_engine.data.corrections import KEEP, REPLACE, UNDO, Correction, append, current
from geko_engine.data.earlier_run import text_digest
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder

__all__ = ["version"]  # of geko_app.samples.correction_log
LOCK = threading.Lock()  # reading the log and adding to it is one step
CUT = "The run has not kept the whole text of this sample: it can be kept or deleted, but not edited."
SEVERAL = "Row {row:,} gives several samples: it can be kept or deleted as a whole, but not edited."
NO_TEXT = "The last turn of this conversation is no text of the assistant: it can be kept or deleted, but not edited."
NO_PROMPT = "The new prompt is empty: write one, or delete the row."
NO_QUESTION = "This row has no question that could be edited: leave its prompt empty."
NO_ANSWER = "The new answer is empty: write one, or delete the row."
HALF = "The new text holds half a character (a lone surrogate): type it again."
UNCHANGED = "The text is the same as before: keep the row, or change something."


def decide(
    samples: Samples,
    ids: Iterable[int],
    action: str,
    *,
    prompt: str | None = None,
    answer: str | None = None,
    origin: str = "",
    at: str = "",
) -> int:
    """Add decisions to the log of a run; returns how many rows are decided: a decision holds for a whole row.

    Args:
        samples: of the run. ids: those that are decided alike; of a row one is enough.
        action: KEEP, REPLACE, DELETE or UNDO.
        prompt, answer: the new texts of REPLACE; None for what stays.
        origin: where they come from.
        at: of `present_time`, for a decision that takes several calls; "" for now.

    Raises:
        RunError: a text cannot be used (its field is prompt or answer), a sample cannot be edited, or the disk refuses.
    """
    chosen, layout = one_of_each_row(samples, ids), samples.texts.layout
    kept, counts = samples.texts.many(chosen), Counter(samples.facts["row"].tolist())
    rows = samples.facts["row"][chosen].tolist()
    now = at or present_time()
    made = []
    for values, row in zip(kept, rows, strict=True):
        digest = text_digest(values["text"]).hex()
        if action == REPLACE:
            texts = _checked(values, layout, _fixed(values, layout, row, counts[row]), prompt, answer)
            made.append(Correction(row, digest, action, *texts, origin, now))
        else:
            made.append(Correction(row, digest, action, at=now))
    _save(samples.folder, made, [texts_of(values, layout) for values in kept])
    return len(made)


def present_time() -> str:
    """The time as the log has it: decisions that have the same are undone together."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def one_of_each_row(samples: Samples, ids: Iterable[int]) -> list[int]:
    """The first sample of each row among some, in their order."""
    rows, found = samples.facts["row"], dict[int, int]()
    for index in ids:
        found.setdefault(int(rows[index]), index)
    return list(found.values())


def can_edit(samples: Samples, index: int) -> str:
    """Why a sample can only be kept or deleted; "" for one that can be edited."""
    (values,), rows = samples.texts.many([index]), samples.facts["row"]
    row = int(rows[index])
    return _fixed(values, samples.texts.layout, row, int((rows == row).sum()))


def editable(samples: Samples, index: int) -> tuple[str, str]:
    """(prompt, answer) of a sample as an editor shows them; the answer of a plain text is all of it."""
    return texts_of(samples.texts.one(index), samples.texts.layout)


def editable_answers(samples: Samples, ids: Sequence[int]) -> dict[int, str | None]:
    """The answers of some samples as an editor shows them, by id; None for one that cannot be edited."""
    rows, layout = samples.facts["row"], samples.texts.layout
    counts = np.bincount(rows)
    return {
        index: None
        if _fixed(values, layout, row := int(rows[index]), int(counts[row]))
        else texts_of(values, layout)[1]
        for index, values in zip(ids, samples.texts.many(ids), strict=True)
    }


def texts_of(values: dict[str, Any], layout: str) -> tuple[str, str]:
    """(prompt, answer) of what texts.parquet keeps of a sample: what a correction puts new ones in the place of."""
    text = values["text"]
    if layout == "text":
        return "", text
    if layout == "conversation":
        return _last_turns(values) or ("", "")
    begin = values["learnt"][0] if values["learnt"] else len(text)
    return text[:begin].removesuffix("\n"), text[begin:]  # rendering adds the line break


def changes(samples: Samples, part: slice = slice(None)) -> list[dict[str, Any]]:
    """The decisions on this run's samples, in the order of the source: row, action, origin, at, before and after.

    Args:
        samples: of the run. part: of the decisions; the texts of the others are not read.
    """
    ids = samples.first_of_row
    decided = [(row, made) for row, made in sorted(own_decisions(samples.folder).items()) if row in ids][part]
    kept, found = samples.texts.many([ids[row] for row, _ in decided]), []
    for (row, made), values in zip(decided, kept, strict=True):
        prompt, answer = texts_of(values, samples.texts.layout)
        after = {
            "prompt": prompt if made.prompt is None else made.prompt,
            "answer": answer if made.answer is None else made.answer,
        }
        before = {"prompt": prompt, "answer": answer}
        found.append(
            {"row": row, "action": made.action, "origin": made.origin, "at": made.at, "before": before, "after": after}
        )
    return found


def as_settings(folder: RunFolder) -> dict[str, str]:
    """The form fields, by key, with which another run uses the corrections; none where there are none."""
    paths = (folder.corrections_path, folder.used_corrections_path)
    return next(({"data.corrections": str(path.absolute())} for path in paths if path.exists()), {})


def _save(folder: RunFolder, made: Sequence[Correction], texts: Sequence[tuple[str, str]]) -> None:
    """Add decisions to the log; `texts` are prompt and answer of each row in the run."""
    with LOCK:
        log, started = log_of(folder), current(started_with(folder))
        added = [_upon(one, started.get(one.row), before) for one, before in zip(made, texts, strict=True)]
        path = folder.corrections_path
        try:
            append(path, added if path.exists() else [*log, *added])
        except OSError as error:
            raise RunError(f"The decision cannot be saved ({error.strerror}): free some space on the disk.") from error


def _upon(made: Correction, before: Correction | None, texts: tuple[str, str]) -> Correction:
    """A decision on a row that had been edited before the run: it is one on the row of the source, as all of the log are.

    Args:
        before: the decision that the run was started with. texts: the row's prompt and answer in the run; where these are
            not those of `before`, that could not be applied, and the row is the one of the source.
    """
    if before is None or before.action != REPLACE or made.action == UNDO:
        return made
    if (before.prompt not in (None, texts[0])) or (before.answer not in (None, texts[1])):
        return made
    if made.action == KEEP:
        return replace(before, at=made.at)  # it stays as it was edited
    if made.action == REPLACE:
        prompt = before.prompt if made.prompt is None else made.prompt
        answer = before.answer if made.answer is None else made.answer
        return replace(made, digest=before.digest, prompt=prompt, answer=answer)
    return replace(made, digest=before.digest)


def _fixed(values: dict[str, Any], layout: str, row: int, samples: int) -> str:
    """Why a sample cannot be edited; "" where it can. `samples`: those of its row."""
    if values["cut"]:
        return CUT
    if samples > 1:
        return SEVERAL.format(row=row)
    return NO_TEXT if layout == "conversation" and _last_turns(values) is None else ""


def _checked(
    values: dict[str, Any], layout: str, fixed: str, prompt: str | None, answer: str | None
) -> tuple[str | None, str | None]:
    """The new prompt and answer of a sample, None for one that stays. Raises RunError where they cannot be used."""
    if fixed:
        raise RunError(fixed)
    before = texts_of(values, layout)
    prompt, answer = None if prompt == before[0] else prompt, None if answer == before[1] else answer
    if prompt is None and answer is None:
        raise RunError(UNCHANGED, "answer")
    if prompt is not None and layout != "pair" and not before[0]:
        raise RunError(NO_QUESTION, "prompt")
    for field, text, empty in (("prompt", prompt, NO_PROMPT), ("answer", answer, NO_ANSWER)):
        if text is not None and not text.strip():
            raise RunError(empty, field)
        if text is not None and text.encode("utf-8", "replace").decode() != text:
            raise RunError(HALF, field)
    return prompt, answer


def _last_turns(values: dict[str, Any]) -> tuple[str, str] | None:
    """(last question, last answer) of a conversation; None where its last turn is no text of the assistant."""
    turns = json.loads(values["messages"]) if values.get("messages") else []
    if not turns or turns[-1].get("role") != "assistant" or not isinstance(turns[-1].get("content"), str):
        return None
    if not turns[-1]["content"].strip():
        return None
    asked = [
        turn["content"] for turn in turns[:-1] if turn.get("role") == "user" and isinstance(turn.get("content"), str)
    ]
    return (asked[-1] if asked else "", turns[-1]["content"])
