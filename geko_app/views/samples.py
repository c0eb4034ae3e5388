"""The samples of a run -> what the Samples page draws: one page of the table, one sample, the data map. Pure.

Only what is shown is sent: counts, one page of the table, at most MAP_POINTS points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_app.formatting import BUCKET_LABELS, UNKNOWN
from geko_app.runs.live_state import BUCKETS
from geko_app.samples.issues import ALL_KINDS
from geko_app.samples.slices import in_group
from geko_app.samples.store import Samples
from geko_app.views.corrections import decided_of, mark_of
from geko_app.views.sample_issues import LABELS, check_sentence, chips_of, explained
from geko_engine.data.corrections import REPLACE, Correction
from geko_engine.exceptions import RunError
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.sample_reasons import RecordedSample, guard_reason, never_trained, why

PAGE = 50  # samples
MAP_POINTS = 5000
MAX_TEXT = 20_000  # characters shown of one sample
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
BUCKET_MEANINGS = {
    "freeze": "mastered: skipped, but for a random part",
    "light": "right, not yet confident",
    "focus": "still wrong, not confident",
    "hard": "wrong and confident",
    "unseen": "not visited so far",
}
CORRECT = {True: "yes", False: "no"}


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


def overview(samples: Samples, flagged: set[int], check_state: str = "") -> dict[str, Any]:
    """The buckets, the filters with their counts, how far the run is, and what the check of the texts says.

    Args:
        check_state: of the process that checks the texts; see check_sentence.
    """
    counts = {name: int(mask_of(samples, name, flagged).sum()) for name in FILTERS}
    steps, epochs = samples.history["steps"], samples.history["epochs"]
    if len(epochs):
        at = f"{samples.count:,} samples, after epoch {epochs[-1]} (step {steps[-1]:,})"
    elif samples.visited.any():
        at = f"{samples.count:,} samples, in the first epoch"
    else:
        at = f"{samples.count:,} samples; their buckets are known after the first epoch"
    return {
        "buckets": [[key, label, BUCKET_MEANINGS[key]] for key, label in BUCKET_LABELS.items()],
        "filters": list(FILTER_LABELS.items()),
        "counts": counts,
        "at": at,
        "check": check_sentence(samples, check_state),
        "layout": samples.texts.layout,
    }


def lines(samples: Samples, query: Query, flagged: set[int]) -> dict[str, Any]:
    """One page of the table."""
    ids = ordered(samples, matching(samples, query, flagged), query)
    pages = max(1, -(-len(ids) // PAGE))
    page = min(query.page, pages - 1)
    shown = ids[page * PAGE : (page + 1) * PAGE]
    pairs, decided = samples.texts.pairs(shown), decided_of(samples)
    return {
        "lines": [
            line(samples, index, pair, flagged, decided) for index, pair in zip(shown.tolist(), pairs, strict=True)
        ],
        "total": len(ids),
        "page": page,
        "pages": pages,
    }


def line(
    samples: Samples, index: int, pair: tuple[str, str], flagged: set[int], decided: Mapping[int, Correction]
) -> dict[str, Any]:
    """One row of the table, as texts; a dash for what is not known.

    Args:
        index: id of the sample. pair: the beginnings of its prompt and its answer.
        flagged: row numbers. decided: what a person has decided, by id.
    """
    states, row = samples.states, int(samples.facts["row"][index])
    seen = bool(samples.visited[index])
    bucket = Bucket(states.bucket[index]).name.lower()

    def shown(value: float, form: str) -> str:
        return f"{value:{form}}" if seen else UNKNOWN

    return {
        "id": index,
        "row": row,
        "flagged": row in flagged,
        "decision": mark_of(decided, index),
        "bucket": bucket,
        "name": BUCKET_LABELS[bucket],
        "prompt": " ".join(pair[0].split()),
        "answer": " ".join(pair[1].split()),
        "issues": chips_of(samples, index),
        "first": shown(states.first_loss[index], ".3f"),
        "loss": shown(states.loss[index], ".3f"),
        "confidence": shown(states.confidence[index], ".2f"),
        "correct": CORRECT[bool(states.correct[index])] if seen else UNKNOWN,
        "q": shown(samples.q[index], ".2f"),
        "seen": int(states.seen[index]),
        "step": shown(states.last_step[index], ",d"),
    }


def signals(samples: Samples, index: int) -> RecordedSample:
    """What the record knows of one sample; `index` is its id."""
    states = samples.states
    return RecordedSample(
        bucket=int(states.bucket[index]),
        correct=bool(states.correct[index]),
        confidence=float(states.confidence[index]),
        q=float(samples.q[index]),
        loss=float(states.loss[index]),
        best_loss=float(states.best_loss[index]),
        mean_loss=states.mean_loss,
        min_target_probability=float(states.min_target_probability[index]),
        hard_streak=int(states.hard_streak[index]),
        predicted=int(states.predicted_status[index]),
        loss_outlier=bool(states.loss_outlier[index]),
        never_freeze=int(samples.facts["row"][index]) in samples.never_freeze,
        trained=int(states.seen[index]),
        scored=int(states.checked[index]),
    )


def issues_of(samples: Samples, index: int) -> list[dict[str, Any]]:
    """The issues of one sample with a sentence each; the noise guard's reason is in it."""
    return explained(samples, index, guard_reason(signals(samples, index)) if samples.suspects[index] else "")


def opened(samples: Samples, index: int, flagged: set[int]) -> dict[str, Any]:
    """One sample: its text with the learned parts, its path over the epochs, its issues, and why it is in its bucket."""
    values = samples.texts.one(index)
    facts, record, decided = samples.facts, signals(samples, index), decided_of(samples)
    notes = []
    if len(values["text"]) > MAX_TEXT or values["cut"]:
        notes.append(f"Only the first {MAX_TEXT:,} characters are shown.")
    if samples.visited[index]:
        notes.append(scored_at(samples, index))
    return {
        **line(samples, index, samples.texts.pairs(np.array([index]))[0], flagged, decided),
        "pieces": pieces(values["text"], values["learnt"]),
        "replacement": replacement(decided.get(index)),
        "why": why(record, samples.geko),
        "never_trained": never_trained(record),
        "explained": issues_of(samples, index),
        "notes": notes,
        "size": f"{facts['tokens'][index]:,} tokens, {facts['targets'][index]:,} of them learned",
        "path": path(samples, index),
        "threshold": samples.geko.freeze_confidence if samples.geko.mastery == "exact_match" else None,
    }


def replacement(decided: Correction | None) -> list[tuple[str, str]]:
    """The new texts of an edited sample, each (label, text); [] for one that is not edited."""
    if decided is None or decided.action != REPLACE:
        return []
    texts = (("New prompt", decided.prompt), ("New answer", decided.answer))
    return [(label, text[:MAX_TEXT]) for label, text in texts if text is not None]


def scored_at(samples: Samples, index: int) -> str:
    """From which step and epoch the loss and confidence of a sample are: those of a skipped one are not from the last."""
    step = int(samples.states.last_step[index])
    ends = samples.history["steps"]
    epoch = int(np.searchsorted(ends, step)) + 1
    skipped = len(ends) - epoch
    later = f", and it was skipped in {skipped} later epoch{'s' * (skipped > 1)}" if skipped > 0 else ""
    return f"Loss and confidence are from step {step:,} (epoch {epoch}){later}."


def whole_text(samples: Samples, index: int) -> tuple[str, tuple[tuple[str, bool], ...]]:
    """(text, its pieces) of one sample; a piece is (text, whether it is learned).

    Raises:
        RunError: the text is too long.
    """
    values = samples.texts.one(index)
    text = values["text"]
    if values["cut"] or len(text) > MAX_TEXT:
        raise RunError(f"The sample has more than {MAX_TEXT:,} characters: its tokens cannot be colored.")
    return text, tuple(pieces(text, values["learnt"]))


def pieces(text: str, learnt: list[int]) -> list[tuple[str, bool]]:
    """The first MAX_TEXT characters of a text in pieces, each (text, whether it is learned).

    Args:
        text: of a sample.
        learnt: begin and end of each learned part, in characters.
    """
    text, found, last = text[:MAX_TEXT], [], 0
    for begin, end in zip(learnt[::2], learnt[1::2], strict=True):
        found += [(text[last:begin], False), (text[begin:end], True)]
        last = end
    return [piece for piece in [*found, (text[last:], False)] if piece[0]]


def path(samples: Samples, index: int) -> list[dict[str, Any]]:
    """The state of a sample after each epoch, and now if it was visited since; loss and confidence are None without a visit."""
    history, states = samples.history, samples.states
    points: list[dict[str, Any]] = [
        {
            "epoch": int(history["epochs"][i]),
            "loss": known(history["loss"][i, index]),
            "confidence": known(history["confidence"][i, index]),
            "correct": bool(history["correct"][i, index]),
            "bucket": Bucket(history["bucket"][i, index]).name.lower(),
        }
        for i in range(len(history["epochs"]))
    ]
    last = int(history["steps"][-1]) if len(history["steps"]) else 0
    if states.last_step[index] > last:
        points.append(
            {
                "epoch": (points[-1]["epoch"] if points else 0) + 1,
                "loss": known(states.loss[index]),
                "confidence": known(states.confidence[index]),
                "correct": bool(states.correct[index]),
                "bucket": Bucket(states.bucket[index]).name.lower(),
            }
        )
    return points


def known(value: float) -> float | None:
    """A value for JSON; None if it is not a finite number."""
    return round(float(value), 4) if np.isfinite(value) else None


def data_map(samples: Samples) -> dict[str, Any]:
    """The data map: one point a sample, by bucket, of confidence (y) against variability (x) over the epochs.

    Mean and standard deviation of the probability of a target token, exp(-loss), as in dataset cartography (Swayamdipta
    et al., 2020). The record's own confidence is that in whatever the model answers, right or wrong.
    """
    probability = np.exp(-samples.history["loss"].astype(np.float32))
    visits = np.isfinite(probability).sum(axis=0)
    eligible = np.flatnonzero(visits >= 2)
    priority = np.random.default_rng(0).random(
        samples.count
    )  # fixed, so that the same samples are chosen after every epoch
    chosen = np.sort(eligible[np.argsort(priority[eligible])[:MAP_POINTS]])
    some = probability[:, chosen]
    mean, spread = (np.nanmean(some, axis=0), np.nanstd(some, axis=0)) if len(chosen) else (chosen, chosen)
    bucket = samples.states.bucket[chosen]
    traces = [
        {
            "id": chosen[bucket == b].tolist(),
            "x": np.round(spread[bucket == b].astype(float), 4).tolist(),
            "y": np.round(mean[bucket == b].astype(float), 4).tolist(),
        }
        for b in (Bucket[name.upper()] for name in BUCKETS)
    ]
    return {"traces": traces, "note": map_note(len(chosen), len(eligible), samples.count)}


def map_note(shown: int, eligible: int, count: int) -> str:
    """How to read the map, below it."""
    if not eligible:
        return "The map needs samples that were visited in at least two epochs; there are none yet."
    which = f"A fixed random sample of {shown:,} is shown." if shown < eligible else "All of them are shown."
    return (
        f"{eligible:,} of {count:,} samples were visited in at least two epochs. {which} Top: the model knows them. Right: it "
        "is still learning them. Bottom left: it does not learn them; their labels are often wrong."
    )


def suspicious_list(samples: Samples, flagged: set[int]) -> Iterator[dict[str, Any]]:
    """All samples with an issue or a flag, the most severe first, for the CSV."""
    mask = mask_of(samples, SUSPICIOUS, flagged) | mask_of(samples, FLAGGED, flagged)
    ids = ordered(samples, np.flatnonzero(mask), Query(sort="severity", down=True))
    decided = decided_of(samples)
    for index, pair in zip(ids.tolist(), samples.texts.pairs(ids), strict=True):
        values = line(samples, index, pair, flagged, decided)
        yield {
            "row": values["row"],
            "flagged": CORRECT[values["flagged"]],
            "bucket": values["name"],
            "loss": values["loss"],
            "confidence": values["confidence"],
            "issues": "; ".join(
                f"{issue['label']}: {issue['note']}" if issue["note"] else issue["label"] for issue in values["issues"]
            ),
            "prompt": pair[0],
            "answer": pair[1],
        }


def rows_of(samples: Samples, ids: Iterable[int]) -> list[int]:
    """Row numbers of those of `ids` that are samples of this run."""
    return [int(samples.facts["row"][index]) for index in ids if 0 <= index < samples.count]
