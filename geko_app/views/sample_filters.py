"""Which samples of a run a tab sees, and in which order: filters, search, group, sort. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_app.formatting import BUCKET_LABELS
from geko_app.samples.issues import ALL_KINDS
from geko_app.samples.slices import in_group
from geko_app.samples.store import Samples
from geko_app.views.corrections import decided_of
from geko_app.views.sample_issues import LABELS
from geko_engine.data.corrections import REPLACE
from geko_engine.selection.buckets import Bucket

SUSPICIOUS, FLAGGED, NEVER_TRAINED = "suspicious", "flagged", "never_trained"
REVIEWED, EDITED = "reviewed", "edited"
FILTERS = ("", *BUCKET_LABELS, SUSPICIOUS, *ALL_KINDS, NEVER_TRAINED, FLAGGED, REVIEWED, EDITED)
FILTER_LABELS = {
    SUSPICIOUS: "Any issue",
    **LABELS,
    NEVER_TRAINED: "Never trained",
    FLAGGED: "Flagged",
    REVIEWED: "Reviewed",
    EDITED: "Edited",
}


@dataclass(frozen=True)
class Query:
    """What a tab wants to see.

    Attributes:
        filter: one of FILTERS.
        text: to search for, in any case; "" for all.
        sort: one of SORTS.
        down: whether to sort in descending order.
        page: from 0.
        slicing, value: the group that they belong to; "" for all.
    """

    filter: str = ""
    text: str = ""
    sort: str = "row"
    down: bool = False
    page: int = 0
    slicing: str = ""
    value: str = ""


def _visited(samples: Samples, values: NDArray[Any]) -> NDArray[Any]:
    return np.where(samples.visited, values, np.nan)


SORTS: dict[str, Callable[[Samples], NDArray[Any]]] = {
    "row": lambda s: s.facts["row"],
    "severity": lambda s: s.issues.severity,
    "bucket": lambda s: s.states.bucket,
    "first": lambda s: _visited(s, s.states.first_loss),
    "loss": lambda s: _visited(s, s.states.loss),
    "confidence": lambda s: _visited(s, s.states.confidence),
    "correct": lambda s: _visited(s, s.states.correct),
    "q": lambda s: _visited(s, s.q),
    "seen": lambda s: s.states.seen,
    "step": lambda s: _visited(s, s.states.last_step),
}


def mask_of(samples: Samples, name: str, flagged: set[int], *, kept: bool = False) -> NDArray[Any]:
    """Mask [count] of the samples that a filter selects; all for "" and for an unknown filter.

    Args:
        kept: whether those count that had an issue until a person kept them as they are.
    """
    issues = samples.all_issues if kept else samples.issues
    if name in ALL_KINDS:
        return issues.mask(name)
    if name == SUSPICIOUS:
        return np.asarray(issues.severity > 0)
    if name == NEVER_TRAINED:
        return np.asarray(samples.states.seen == 0)
    if name == FLAGGED:
        return np.isin(samples.facts["row"], list(flagged))
    if name in (REVIEWED, EDITED):
        decided = decided_of(samples)
        ids = [index for index, found in decided.items() if name == REVIEWED or found.action == REPLACE]
        return np.isin(np.arange(samples.count), ids)
    if name in FILTERS[1:]:
        return np.asarray(samples.states.bucket == Bucket[name.upper()])
    return np.ones(samples.count, bool)


def matching(samples: Samples, query: Query, flagged: set[int], *, kept: bool = False) -> NDArray[Any]:
    """Ids of the samples that filter and search select, in the order of the source, [n].

    Args:
        kept: as for mask_of.
    """
    mask = mask_of(samples, query.filter, flagged, kept=kept)
    if query.text:
        mask = mask & samples.texts.containing(query.text)
    if query.slicing:
        mask = mask & in_group(samples, query.slicing, query.value)
    return np.flatnonzero(mask)


def ordered(samples: Samples, ids: NDArray[Any], query: Query) -> NDArray[Any]:
    """`ids` [n] in the order of the query; ties in the order of the source, samples without a value last."""
    values = SORTS.get(query.sort, SORTS["row"])(samples)[ids].astype(np.float64)
    return ids[np.argsort(-values if query.down else values, kind="stable")]
