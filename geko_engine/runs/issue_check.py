"""Checks the samples of a run for data issues and keeps them beside it as issues.json. Knows no page; imports no torch.

issues.json: `samples` (how many there are), `issues` as [sample id, kind, score, id of the other sample or -1, note],
`labels` (what the label check says about itself) and `notes` (what was not looked at).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.quality.issues import KINDS, DataIssues, Issue, find_data_issues
from geko_engine.quality.label_issues import GRADES
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.sample_pairs import read_pairs
from geko_engine.storage.atomic_files import replace_json

FORMAT = 1


@dataclass(frozen=True)
class StoredIssues:
    """What issues.json holds.

    Attributes:
        issues: of the samples; `row` and `other` are sample ids.
        labels: reason (why labels could not be judged, "" if they were), judged, classes, accuracy, expected_precision.
        notes: what was not looked at, one sentence each.
    """

    issues: list[Issue] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def issues_path(folder: RunFolder) -> Path:
    """Where the issues of a run are kept."""
    return folder.path / "issues.json"


def check_run(folder: RunFolder) -> DataIssues:
    """Check the samples of a run, and write issues.json.

    Raises:
        OSError: the texts cannot be read, or the disk is full.
    """
    pairs = list(read_pairs(folder.texts_path))
    found = find_data_issues([prompt for prompt, _ in pairs], [answer for _, answer in pairs])
    labels = {
        "reason": found.labels.reason,
        "judged": int(found.labels.judged.sum()),
        "classes": len(found.labels.labels),
        "accuracy": found.labels.accuracy,
        "expected_precision": found.labels.expected_precision,
    }
    listed = [[issue.row, issue.kind, round(issue.score, 4), issue.other, issue.note] for issue in found]
    values = {"format": FORMAT, "samples": len(pairs), "labels": labels, "notes": found.notes, "issues": listed}
    replace_json(issues_path(folder), values)
    return found


def listed_ids(folder: RunFolder, samples: int) -> NDArray[Any]:
    """Ids of the samples whose answer is probably wrong by their text, [n]; none where that has not been checked yet."""
    found = read_issues(folder, samples)
    ids = [issue.row for issue in found.issues if issue.kind in GRADES] if found else []
    return np.array(ids, np.int64)


def read_issues(folder: RunFolder, samples: int) -> StoredIssues | None:
    """What `check_run` wrote for a run of so many samples; None if there is none, or it is damaged or of another version."""
    try:
        values = json.loads(issues_path(folder).read_text(encoding="utf-8"))
        if values["format"] != FORMAT or values["samples"] != samples:
            return None
        issues = [
            Issue(int(i), str(kind), float(score), int(o), str(note)) for i, kind, score, o, note in values["issues"]
        ]
        labels, notes = dict(values["labels"]), [str(note) for note in values["notes"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    inside = all(0 <= i.row < samples and -1 <= i.other < samples and i.kind in KINDS for i in issues)
    return StoredIssues(issues, labels, notes) if inside else None
