"""The decisions on a run's samples -> marks, the diff of its dataset, and sentences about it."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geko_app.samples.correction_log import own_decisions
from geko_app.samples.store import Samples
from geko_engine.data.corrections import DELETE, KEEP, REPLACE, Correction

PAGE = 20  # changes
MOST_WORDS = 3000  # of two texts whose changed words are looked for; longer ones are marked as a whole
MAX_SHOWN = 20_000  # characters of a text
ACTIONS = {KEEP: "Kept", REPLACE: "Edited", DELETE: "Deleted"}
MARKS = {KEEP: "kept", REPLACE: "edited", DELETE: "deleted"}
FROM = {
    "edited": "by hand",
    "suggested": "suggested by the label check",
    "similar": "answer of a similar row",
    "model": "the model's own answer",
    "program": "by a program",
}
WORDS = re.compile(r"\s+|\w+|[^\w\s]")
Piece = tuple[str, bool]


def decided_of(samples: Samples) -> dict[int, Correction]:
    """What a person has decided about the samples of this run, by id; not what the run was started with.

    Raises:
        DataError: the log is damaged.
    """
    found = own_decisions(samples.folder)
    if not found:
        return {}
    return {index: found[row] for index, row in enumerate(samples.facts["row"].tolist()) if row in found}


def newest_decisions(samples: Samples) -> dict[int, Correction]:
    """What was decided last about the samples of this run, all at one time: by id, one of each row; {} where nothing was.

    Raises:
        DataError: the log is damaged.
    """
    ids = samples.first_of_row
    own = {ids[row]: made for row, made in own_decisions(samples.folder).items() if row in ids}
    at = max((made.at for made in own.values()), default="")
    newest = {index: made for index, made in own.items() if made.at == at}
    return newest if at else dict(list(newest.items())[-1:])  # nothing says that undated ones were made together


def mark_of(decided: Mapping[int, Correction], index: int) -> str:
    """kept, edited or deleted; "" for a sample without a decision.

    Args:
        decided: by id of the sample.
    """
    return MARKS[decided[index].action] if index in decided else ""


def changes_page(changes: Sequence[Mapping[str, Any]], page: int, ids: Mapping[int, int]) -> dict[str, Any]:
    """One page of the diff, the newest first.

    Args:
        changes: of geko_app.samples.corrections.changes.
        page: from 0.
        ids: row number -> id of the sample.
    """
    newest = sorted(changes, key=lambda change: change["at"], reverse=True)
    pages = max(1, -(-len(newest) // PAGE))
    page = min(page, pages - 1)
    shown = newest[page * PAGE : (page + 1) * PAGE]
    lines = [{**change_line(change), "id": ids.get(change["row"])} for change in shown]
    return {"lines": lines, "total": len(newest), "page": page, "pages": pages}


def change_line(change: Mapping[str, Any]) -> dict[str, Any]:
    """One change: what was done, and prompt and answer before and after in pieces, each (text, whether it changed)."""
    texts = []
    for name, label in (("prompt", "Prompt"), ("answer", "Answer")):
        before, after = change["before"][name] or "", change["after"][name] or ""
        if change["action"] != REPLACE:
            if before:
                texts.append({"label": label, "before": [(before[:MAX_SHOWN], False)], "after": []})
        elif before != after:
            old, new = marked(before[:MAX_SHOWN], after[:MAX_SHOWN])
            texts.append({"label": label, "before": old, "after": new})
    return {
        "row": change["row"],
        "action": change["action"],
        "label": ACTIONS[change["action"]],
        "origin": FROM.get(change["origin"], ""),
        "at": change["at"],
        "texts": texts,
    }


def marked(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Two texts in pieces, each (text, whether it changed), by words."""
    old, new = WORDS.findall(before), WORDS.findall(after)
    if len(old) + len(new) > MOST_WORDS:
        return [(before, True)], [(after, True)]
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        left.append(("".join(old[a:b]), kind != "equal"))
        right.append(("".join(new[c:d]), kind != "equal"))
    return _joined(left), _joined(right)


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    return [piece for piece in pieces if piece[0]]


def contents_sentence(actions: Iterable[str]) -> str:
    """What the decisions mean for the exported dataset: "41 rows corrected, 3 deleted."; "" if they change nothing."""
    counts = Counter(actions)
    words = {REPLACE: "corrected", DELETE: "deleted"}
    parts = [f"{counts[action]:,} {word}" for action, word in words.items() if counts[action]]
    if not parts:
        return ""
    number, rest = ", ".join(parts).split(" ", 1)
    return f"{number} {'row' if number == '1' else 'rows'} {rest}."
