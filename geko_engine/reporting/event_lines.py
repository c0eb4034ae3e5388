"""Lines of events.jsonl -> events. A line is read only if it is whole and of the right types. Knows no file.

After a kill a run goes on from its newest checkpoint, and repeats what came after that. The file is only ever appended to, so
it holds the repeated part twice. `without_undone` gives every step, evaluation and epoch once, and one end.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from geko_engine.reporting import events
from geko_engine.reporting.events import Event, with_present_names
from geko_engine.reporting.quick_json import loads

# What a resumed run does again after its checkpoint. Messages, phases and checkpoints stay: they did happen.
REPEATED = {
    "Partitioned",
    "StepCompleted",
    "EpochEnded",
    "Evaluated",
    "Answered",
    "LengthChecked",
    "RetentionMeasured",
    "ModelSaved",
    "RunEnded",
}
LARGEST = 1 << 53  # a browser reads larger integers wrongly
FIGURES = (
    *("steps", "epochs", "epochs_done", "samples", "tokens_forwarded", "tokens_backwarded", "plain_training_tokens"),
    *(
        "compute_saved_ratio",
        "backward_cost",
        "seconds",
        "train_seconds",
        "scan_seconds",
        "plain_train_seconds",
        "seconds_saved_ratio",
        "train_loss",
        "eval_loss_before",
        "eval_loss_after",
    ),
    *("exact_match_before", "exact_match_after"),
)
Check = Callable[[Any], bool]


class Field(NamedTuple):
    """One field of an event: its name, its check, the maker of its default, and the type of a number that needs no check."""

    name: str
    check: Check
    default: Callable[[], Any] | None
    kind: type[int] | type[float] | None


def parse(line: bytes) -> dict[str, Any] | None:
    """The event in a line, with today's names and defaults for fields that older versions did not write.

    Args:
        line: of events.jsonl.

    Returns:
        None if the line is damaged. Events of unknown types are returned as they are.
    """
    try:
        values = loads(line)
        if b"\\ud" in line.lower():  # half a character would break every later encoder
            values = _whole_characters(values)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("type"), str):
        return None
    if not is_count(values.get("seq")) or not is_number(values.get("time")):
        return None
    values = with_present_names(values)
    fields = _FIELDS.get(values["type"])
    if fields is None:
        return values
    for name, check, default, kind in fields:
        value = values.get(name)
        if type(value) is kind and -LARGEST < value < LARGEST:
            continue  # nearly always: a long run has millions of numbers
        if name not in values and default is not None:
            values[name] = default()
        elif name not in values or not check(value):
            return None
    return values


def without_undone(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of a run, less those that a resume has undone.

    Where RunStarted says `resumed_from_seq: n`, what is repeated counts only up to event n. Runs of earlier versions do not
    say it: there the step that they resumed from decides.

    Args:
        found: all events in the order of the file.
    """
    kept: list[dict[str, Any]] = []
    for event in found:
        if event["type"] == "RunStarted":
            kept = [old for old in kept if old["type"] not in REPEATED or _counts(old, event)]
        kept.append(event)
    return kept


def _counts(old: dict[str, Any], started: dict[str, Any]) -> bool:
    last = started["resumed_from_seq"]
    if last is not None:
        return bool(old["seq"] <= last and old["type"] != "RunEnded")
    return bool(old.get("step", math.inf) <= started["resumed_from_step"])


def is_report(values: Any) -> bool:
    """Whether `values` can be the content of report.json: its figures are numbers, its buckets counts."""
    if not isinstance(values, dict) or not all(values.get(name) is None or is_number(values[name]) for name in FIGURES):
        return False
    buckets = values.get("final_buckets") or {}
    return isinstance(buckets, dict) and all(is_count(count) for count in buckets.values())


def _whole_characters(values: Any) -> Any:
    text = json.dumps(values, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def is_count(value: Any) -> bool:
    """Whether `value` is an integer that every reader of JSON reads rightly."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number."""
    return is_count(value) or (isinstance(value, float) and math.isfinite(value))


def _number_or_none(value: Any) -> bool:
    return value is None or is_number(value)


CHECKS: dict[Any, Check] = {
    int: is_count,
    int | None: lambda value: value is None or is_count(value),
    float: _number_or_none,  # None stands for NaN: see atomic_files.finite
    float | None: _number_or_none,
    bool: lambda value: isinstance(value, bool),
    str: lambda value: isinstance(value, str),
    dict: lambda value: isinstance(value, dict),
    list: lambda value: isinstance(value, list),
}


def _fields(event: type[Event]) -> list[Field]:
    """The fields of an event."""
    hints = typing.get_type_hints(event)
    found: list[Field] = []
    for field in dataclasses.fields(event):
        hint = hints[field.name]
        check = is_report if field.name == "report" else CHECKS[hint if hint in CHECKS else typing.get_origin(hint)]
        default: Callable[[], Any] | None = None
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory
        elif field.default is not dataclasses.MISSING:
            default = functools.partial(copy.copy, field.default)
        kind = int if check in (CHECKS[int], CHECKS[int | None]) else float if check is CHECKS[float] else None
        found.append(Field(field.name, check, default, kind))
    return found


_FIELDS = {
    name: _fields(event)
    for name, event in vars(events).items()
    if isinstance(event, type) and issubclass(event, Event) and event is not Event
}
