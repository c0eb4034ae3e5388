"""The answers that the check of the texts expects instead of those that it doubts, and accepting them. Knows no page."""

from __future__ import annotations

from collections.abc import Iterable

from geko_app.samples.corrections import can_edit, decide, editable, present_time
from geko_app.samples.store import Samples
from geko_engine.data.corrections import REPLACE
from geko_engine.quality.label_issues import LIKELY, LOOK


def suggested(samples: Samples, index: int) -> str:
    """The answer that the label check expects, as whole as the run's answers are; "" without one."""
    label = next((issue.note for issue in samples.issues.of(index) if issue.kind in (LIKELY, LOOK)), "")
    return samples.texts.labels.get(label, "") if label else ""


def spaced(text: str, like: str) -> str:
    """The text with the spaces and line breaks around it that `like` has: they are part of what a run learns."""
    begin, end = len(like) - len(like.lstrip()), len(like.rstrip())
    return f"{like[:begin]}{text.strip()}{like[end:] if end > begin else ''}"


def new_answer(samples: Samples, index: int) -> str:
    """The suggested answer as it would be put in the place of a sample's own; "" where there is none, or nothing can be edited."""
    likely = suggested(samples, index)
    if not likely or can_edit(samples, index):
        return ""
    answer = editable(samples, index)[1]
    return "" if likely.strip() == answer.strip() else spaced(likely, answer)


def accept(samples: Samples, ids: Iterable[int]) -> int:
    """Replace answers by the suggested ones; returns how many.

    Args:
        ids: of samples that have a `new_answer`.

    Raises:
        RunError: the disk refuses.
    """
    by_answer: dict[str, list[int]] = {}
    at = present_time()  # one decision, which is undone as one
    for index in ids:
        by_answer.setdefault(new_answer(samples, index), []).append(index)
    return sum(
        decide(samples, same, REPLACE, answer=answer, origin="suggested", at=at) for answer, same in by_answer.items()
    )
