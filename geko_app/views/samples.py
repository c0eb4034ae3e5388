"""The samples of a run -> what the Samples page draws: a page of lines, one sample, the data map. Knows no page.

Only what is shown travels: counts, one page of lines, at most MAP_POINTS points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_app.samples.store import Samples
from geko_engine.exceptions import RunError
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.sample_reasons import (
    CONTRADICTS,
    KINDS,
    MISLABELED,
    TRUNCATED,
    RecordedSample,
    suspicions,
    why,
)

PAGE = 50
MAP_POINTS = 5000
TEXT_SHOWN = 20_000  # characters of the opened sample
NAMES = {bucket: "not seen" if bucket == Bucket.UNSEEN else bucket.name for bucket in Bucket}
SUSPICIOUS, MARKED = "suspicious", "marked"
FILTERS = ("", *(bucket.name.lower() for bucket in Bucket), SUSPICIOUS, *KINDS, MARKED)


@dataclass(frozen=True)
class Query:
    """What a tab asks to see; `text` is searched whatever its case, `sort` one of SORTS."""

    filter: str = ""
    text: str = ""
    sort: str = "row"
    down: bool = False
    page: int = 0


def _visited(samples: Samples, values: NDArray) -> NDArray:
    return np.where(samples.visited, values, np.nan)


SORTS = {
    "row": lambda s: s.facts["row"],
    "bucket": lambda s: s.states.bucket,
    "first": lambda s: _visited(s, s.states.first_loss),
    "loss": lambda s: _visited(s, s.states.loss),
    "confidence": lambda s: _visited(s, s.states.confidence),
    "correct": lambda s: _visited(s, s.states.correct),
    "q": lambda s: _visited(s, s.q),
    "seen": lambda s: s.states.seen,
    "step": lambda s: _visited(s, s.states.last_step),
}


def mask_of(samples: Samples, name: str, marked: set[int]) -> NDArray:
    """Mask [count] of the samples that the filter `name` lets through; all for "" and for what is no filter."""
    kinds = {
        MISLABELED: samples.suspects,
        CONTRADICTS: samples.facts["contradicts"] > 0,
        TRUNCATED: samples.facts["truncated"] > 0,
    }
    if name in kinds:
        return kinds[name]
    if name == SUSPICIOUS:
        return kinds[MISLABELED] | kinds[CONTRADICTS] | kinds[TRUNCATED]
    if name == MARKED:
        return np.isin(samples.facts["row"], list(marked))
    if name in FILTERS[1:]:
        return np.asarray(samples.states.bucket == Bucket[name.upper()])
    return np.ones(samples.count, bool)


def matching(samples: Samples, query: Query, marked: set[int]) -> NDArray:
    """Ids that filter and search let through, in the order of the source."""
    mask = mask_of(samples, query.filter, marked)
    if query.text:
        mask = mask & samples.texts.containing(query.text)
    return np.flatnonzero(mask)


def ordered(samples: Samples, ids: NDArray, query: Query) -> NDArray:
    """`ids` sorted as asked; equal ones in the order of the source, what was never seen last."""
    values = SORTS.get(query.sort, SORTS["row"])(samples)[ids].astype(np.float64)
    return ids[np.argsort(-values if query.down else values, kind="stable")]


def overview(samples: Samples, marked: set[int]) -> dict[str, Any]:
    """Counts of every filter, and how far the run is."""
    counts = {name: int(mask_of(samples, name, marked).sum()) for name in FILTERS}
    steps, epochs = samples.history["steps"], samples.history["epochs"]
    if len(epochs):
        at = f"{samples.count:,} samples, after epoch {epochs[-1]} (step {steps[-1]:,})"
    elif samples.visited.any():
        at = f"{samples.count:,} samples, within the first epoch"
    else:
        at = f"{samples.count:,} samples, read; what the model makes of them is known after the first epoch"
    return {"counts": counts, "at": at}


def lines(samples: Samples, query: Query, marked: set[int]) -> dict[str, Any]:
    """One page of the table."""
    ids = ordered(samples, matching(samples, query, marked), query)
    pages = max(1, -(-len(ids) // PAGE))
    page = min(query.page, pages - 1)
    shown = ids[page * PAGE : (page + 1) * PAGE]
    texts = samples.texts.beginnings(shown)
    return {
        "lines": [line(samples, int(index), text, marked) for index, text in zip(shown, texts, strict=True)],
        "total": len(ids),
        "page": page,
        "pages": pages,
    }


def line(samples: Samples, index: int, text: str, marked: set[int]) -> dict[str, Any]:
    """One line of the table, as texts; "–" for what is not known."""
    states, row = samples.states, int(samples.facts["row"][index])
    seen = bool(samples.visited[index])

    def shown(value: float, form: str) -> str:
        return f"{value:{form}}" if seen else "–"

    return {
        "id": index,
        "row": row,
        "marked": row in marked,
        "bucket": Bucket(states.bucket[index]).name.lower(),
        "name": NAMES[Bucket(states.bucket[index])],
        "first": shown(states.first_loss[index], ".3f"),
        "loss": shown(states.loss[index], ".3f"),
        "confidence": shown(states.confidence[index], ".2f"),
        "correct": ("yes" if states.correct[index] else "no") if seen else "–",
        "q": shown(samples.q[index], ".2f"),
        "seen": int(states.seen[index]),
        "step": shown(states.last_step[index], ",d"),
        "text": " ".join(text.split()),
        "reasons": list(reasons(samples, index).values()),
    }


def signals(samples: Samples, index: int) -> RecordedSample:
    """What the record knows of one sample."""
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
    )


def reasons(samples: Samples, index: int) -> dict[str, str]:
    """What is suspicious about one sample, by kind."""
    facts = samples.facts
    return suspicions(
        signals(samples, index),
        contradicts=int(facts["contradicts"][index]),
        truncated=bool(facts["truncated"][index]),
        tokens=int(facts["tokens"][index]),
        is_suspect=bool(samples.suspects[index]),
    )


def opened(samples: Samples, index: int, marked: set[int]) -> dict[str, Any]:
    """One sample: its text with what is learnt, its path over the epochs, and why it is in its bucket."""
    values = samples.texts.one(index)
    facts = samples.facts
    other = int(facts["contradicts"][index])
    notes = [f"Equal to row {facts['equal_to'][index]:,}."] if facts["equal_to"][index] else []
    if len(values["text"]) > TEXT_SHOWN or values["cut"]:
        notes.append(f"Only the first {TEXT_SHOWN:,} characters are shown.")
    return {
        **line(samples, index, values["text"], marked),
        "pieces": pieces(values["text"], values["learnt"]),
        "why": why(signals(samples, index), samples.rule),
        "other": samples.ids_by_row.get(other) if other else None,
        "notes": notes,
        "size": f"{facts['tokens'][index]:,} tokens, {facts['targets'][index]:,} of them learnt",
        "path": path(samples, index),
        "threshold": samples.rule.freeze_confidence if samples.rule.mastery == "exact_match" else None,
    }


def whole_text(samples: Samples, index: int) -> tuple[str, tuple[tuple[str, bool], ...]]:
    """(text, its pieces, each learnt or not) of one sample. Raises RunError where it is too long to be kept whole."""
    values = samples.texts.one(index)
    text = values["text"]
    if values["cut"] or len(text) > TEXT_SHOWN:
        raise RunError(f"The sample has more than {TEXT_SHOWN:,} characters: its tokens cannot be coloured.")
    return text, tuple(pieces(text, values["learnt"]))


def pieces(text: str, learnt: list[int]) -> list[tuple[str, bool]]:
    """The text in pieces, each learnt or not, up to TEXT_SHOWN characters."""
    text, found, last = text[:TEXT_SHOWN], [], 0
    for begin, end in zip(learnt[::2], learnt[1::2], strict=True):
        found += [(text[last:begin], False), (text[begin:end], True)]
        last = end
    return [piece for piece in [*found, (text[last:], False)] if piece[0]]


def path(samples: Samples, index: int) -> list[dict[str, Any]]:
    """How the sample stood at the end of each epoch, and now where it was visited since; None where it was not visited."""
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
    """The value for JSON, None for what is no number."""
    return round(float(value), 4) if np.isfinite(value) else None


def data_map(samples: Samples) -> dict[str, Any]:
    """Points by bucket: variability (x) against confidence in the right answer (y) over the epochs.

    Both are of the mean probability of a target token, exp(-loss), as in dataset cartography (Swayamdipta and others,
    2020): the record's own confidence is that in whatever the model answers.
    """
    probability = np.exp(-samples.history["loss"].astype(np.float32))
    visits = np.isfinite(probability).sum(axis=0)
    eligible = np.flatnonzero(visits >= 2)
    priority = np.random.default_rng(0).random(samples.count)  # fixed, so that the choice stays over the epochs
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
        for b in (Bucket.FREEZE, Bucket.LIGHT, Bucket.FOCUS, Bucket.HARD)
    ]
    return {"traces": traces, "note": map_note(len(chosen), len(eligible), samples.count)}


def map_note(shown: int, eligible: int, count: int) -> str:
    """What the points of the map are."""
    if not eligible:
        return "The map needs samples that were visited in two epochs; there are none yet."
    which = f"{shown:,} of them, a fixed random choice" if shown < eligible else "all of them"
    return (
        f"{eligible:,} of {count:,} samples were visited in at least two epochs; shown are {which}. At the top what the "
        "model knows, on the right what it is still learning, at the bottom left what it does not learn: often wrong "
        "answers."
    )


def suspicious_list(samples: Samples, marked: set[int]) -> Iterator[dict[str, Any]]:
    """All suspicious or marked samples for the CSV."""
    mask = mask_of(samples, SUSPICIOUS, marked) | mask_of(samples, MARKED, marked)
    ids = np.flatnonzero(mask)
    for index, text in zip(ids.tolist(), samples.texts.beginnings(ids), strict=True):
        values = line(samples, index, text, marked)
        yield {
            "row": values["row"],
            "marked": "yes" if values["marked"] else "no",
            "bucket": values["name"],
            "loss": values["loss"],
            "confidence": values["confidence"],
            "reasons": " ".join(values["reasons"]),
            "beginning": text,
        }


def rows_of(samples: Samples, ids: Iterable[int]) -> list[int]:
    """Row numbers of those of `ids` that are samples of this run."""
    return [int(samples.facts["row"][index]) for index in ids if 0 <= index < samples.count]
