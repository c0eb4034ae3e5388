"""What a person should look at in the samples of a run: the checks of their texts and the record of the run, put together.

Knows no page. The checks are in geko_engine/quality; `issue_check` of geko_engine/runs keeps their result beside the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.quality.issues import CONFLICT, DUPLICATE, KINDS, MEDIUM, SEVERITY, Issue
from geko_engine.quality.label_issues import LIKELY, LOOK
from geko_engine.runs.issue_check import StoredIssues

TRUNCATED = "truncated"
ALL_KINDS = (*KINDS, TRUNCATED)
SEVERITIES = SEVERITY | {TRUNCATED: MEDIUM}
GUARD_SCORE = 0.5  # of what the noise guard suspects: it has no probability


class SampleIssues:
    """The issues of `count` samples, at most one of each kind for each of them.

    Args:
        facts: row, equal_to, contradicts, truncated of the samples, [count] each.
        suspects: mask [count] of what the run's noise guard suspects.
        checked: what the checks of the texts found; None before they have run.
        kept: mask [count] of those that a person has kept as they are: they have no issues any more.
    """

    def __init__(
        self,
        facts: dict[str, NDArray[Any]],
        suspects: NDArray[Any],
        checked: StoredIssues | None,
        kept: NDArray[Any] | None = None,
    ) -> None:
        self.count, self.checked = len(suspects), checked
        self._kept = set(np.flatnonzero(kept).tolist()) if kept is not None else set()
        ids = {row: index for index, row in reversed(list(enumerate(facts["row"].tolist())))}
        self._found: dict[str, dict[int, Issue]] = {kind: {} for kind in ALL_KINDS}
        self._add(checked.issues if checked else ())
        self._add(_by_row(CONFLICT, facts["contradicts"], ids))
        self._add(_by_row(DUPLICATE, facts["equal_to"], ids))
        self._add(Issue(index, TRUNCATED) for index in np.flatnonzero(facts["truncated"]).tolist())
        likely = self._found[LIKELY]
        suspected = [index for index in np.flatnonzero(suspects).tolist() if index not in likely]
        self._add(Issue(index, LOOK, GUARD_SCORE) for index in suspected)

    def _add(self, issues: Iterable[Issue]) -> None:
        for issue in issues:
            if issue.row in self._kept:
                continue
            self._found[issue.kind].setdefault(issue.row, issue)

    def mask(self, kind: str) -> NDArray[Any]:
        """Mask [count] of the samples with an issue of this kind."""
        found = np.zeros(self.count, bool)
        found[list(self._found[kind])] = True
        return found

    def of(self, index: int) -> list[Issue]:
        """The issues of one sample, the most severe first."""
        issues = [found[index] for found in self._found.values() if index in found]
        return sorted(issues, key=lambda issue: (-SEVERITIES[issue.kind], -issue.score))

    @cached_property
    def severity(self) -> NDArray[Any]:
        """What the samples are sorted by, [count]: 0 without an issue, else the severity of the worst one and its score."""
        found = np.zeros(self.count)
        for kind, issues in self._found.items():
            for index, issue in issues.items():
                found[index] = max(found[index], SEVERITIES[kind] + 0.99 * issue.score)
        return found


def _by_row(kind: str, other_rows: NDArray[Any], ids: dict[int, int]) -> Iterable[Issue]:
    return (
        Issue(index, kind, other=ids.get(int(other_rows[index]), -1)) for index in np.flatnonzero(other_rows).tolist()
    )
