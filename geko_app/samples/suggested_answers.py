"""The answers that the check of the texts expects instead of those that it doubts, and accepting them. Knows no page."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from geko_app.samples.corrections import decide, editable_answers, present_time
from geko_app.samples.store import Samples, Texts
from geko_engine.data.corrections import REPLACE
from geko_engine.quality.label_issues import LIKELY, LOOK

# The own answers of samples that have a suggestion, None for those that cannot be edited: a review counts them at every decision.
_ANSWERS: WeakKeyDictionary[Texts, dict[int, str | None]] = WeakKeyDictionary()


def suggested(samples: Samples, index: int) -> str:
    """The answer that the label check expects, as whole as the run's answers are; "" without one."""
    label = next((issue.note for issue in samples.issues.of(index) if issue.kind in (LIKELY, LOOK)), "")
    return samples.texts.labels.get(label, "") if label else ""


def spaced(text: str, like: str) -> str:
    """The text with the spaces and line breaks around it that `like` has: they are part of what a run learns."""
    begin, end = len(like) - len(like.lstrip()), len(like.rstrip())
    return f"{like[:begin]}{text.strip()}{like[end:] if end > begin else ''}"


def new_answers(samples: Samples, ids: Iterable[int]) -> dict[int, str]:
    """The suggested answers as they would be put in the place of the samples' own, by id.

    Left out are samples without a suggestion, those that it would not change, and those that cannot be edited.
    """
    likely = {index: text for index in ids if (text := suggested(samples, index))}
    known = _ANSWERS.setdefault(samples.texts, {})
    if unread := [index for index in likely if index not in known]:
        known.update(editable_answers(samples, unread))
    changed = ((index, text, known[index]) for index, text in likely.items())
    return {index: spaced(text, own) for index, text, own in changed if own is not None and text.strip() != own.strip()}


def new_answer(samples: Samples, index: int) -> str:
    """The suggested answer of one sample as it would be put in the place of its own; "" where `new_answers` leaves it out."""
    return new_answers(samples, [index]).get(index, "")


def accept(samples: Samples, ids: Iterable[int]) -> int:
    """Replace answers by the suggested ones; returns how many.

    Args:
        ids: of samples; those without a new answer are left as they are.

    Raises:
        RunError: the disk refuses.
    """
    by_answer: dict[str, list[int]] = {}
    at = present_time()  # one decision, which is undone as one
    for index, answer in new_answers(samples, ids).items():
        by_answer.setdefault(answer, []).append(index)
    return sum(
        decide(samples, same, REPLACE, answer=answer, origin="suggested", at=at) for answer, same in by_answer.items()
    )
