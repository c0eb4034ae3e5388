"""The samples of a run -> what the Samples page draws: its filters with their counts, one page of the table, one sample. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_app.formatting import BUCKET_LABELS, UNKNOWN
from geko_app.samples.store import Samples
from geko_app.views.corrections import decided_of, mark_of
from geko_app.views.sample_filters import FILTER_LABELS, FILTERS, FLAGGED, SUSPICIOUS, Query, mask_of, matching, ordered
from geko_app.views.sample_issues import check_sentence, chips_of, explained
from geko_engine.data.corrections import REPLACE, Correction
from geko_engine.exceptions import RunError
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.sample_reasons import RecordedSample, guard_reason, never_trained, why

PAGE = 50  # samples
MAX_TEXT = 20_000  # characters shown of one sample
BUCKET_MEANINGS = {
    "freeze": "mastered: skipped, but for a random part",
    "light": "right, not yet confident",
    "focus": "still wrong, not confident",
    "hard": "wrong and confident",
    "unseen": "not visited so far",
}
CORRECT = {True: "yes", False: "no"}


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
    bulk = {name: bulk_flags(samples, ids, flagged, flag=name == "flag") for name in ("flag", "unflag")}
    return {
        "lines": [
            line(samples, index, pair, flagged, decided) for index, pair in zip(shown.tolist(), pairs, strict=True)
        ],
        "total": len(ids),
        "page": page,
        "pages": pages,
        "bulk": {name: {"count": len(found.rows), "key": found.key} for name, found in bulk.items()},
    }


@dataclass(frozen=True)
class BulkFlags:
    """What flagging all samples of a filter and a search would change, or taking their flags away.

    Attributes:
        rows: their numbers, ascending: a flag holds for the whole row. key: changes with them, so that a button never means
            others than it says.
    """

    rows: list[int]
    key: str


def bulk_flags(samples: Samples, ids: NDArray[Any], flagged: set[int], *, flag: bool) -> BulkFlags:
    """The rows of samples, `ids` [n], that are to be flagged, or those of them that are flagged and are not to be any more."""
    rows = np.unique(samples.facts["row"][ids])
    if not flag:
        rows = rows[np.isin(rows, list(flagged))]
    return BulkFlags(rows.tolist(), blake2b(rows.astype(np.int64).tobytes(), digest_size=8).hexdigest())


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
