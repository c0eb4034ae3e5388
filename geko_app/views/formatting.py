"""Numbers, durations and names as the page shows them: the one place for it. Pure."""

from __future__ import annotations

import re
import time

TITLES = {
    "queued": "Queued",
    "starting": "Starting",
    "downloading": "Loading model and data",
    "tokenising": "Tokenising",
    "scanning": "Looking at samples",
    "training": "Training",
    "evaluating": "Evaluating",
    "saving": "Saving",
    "complete": "Complete",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}


def run_name(run_id: str) -> str:
    """A run by when it was made, its model and the end of its id, which tells two of one minute apart."""
    made = re.fullmatch(r"\d{4}(\d\d)(\d\d)-(\d\d)(\d\d)\d\d-(.+)-(\w{4})", run_id)
    return f"{made[2]}.{made[1]}. {made[3]}:{made[4]} · {made[5]} · {made[6]}" if made else run_id


def rounded(value: float | None) -> float | None:
    """A figure as precise as a chart shows it."""
    return None if value is None else float(f"{value:.6g}")


def number(value: float | None, form: str) -> str:
    """A figure, or a dash where nothing is known."""
    return "–" if value is None else f"{value:{form}}"


def percent(ratio: float | None) -> str:
    """A share in per cent."""
    return "–" if ratio is None else f"{100 * ratio:.1f} %"


def compact(count: int) -> str:
    """A count as people write it: 812, 41.2 k, 3.05 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count}"


def remaining(seconds: float | None) -> dict[str, str]:
    """The time left, short enough for a stat box: value and unit."""
    if seconds is None:
        return {"value": "–", "note": ""}
    whole = round(seconds)
    if whole < 60:
        return {"value": f"{whole} s", "note": "left"}
    if whole < 3600:
        return {"value": f"{whole // 60}:{whole % 60:02d}", "note": "min left"}
    return {"value": f"{whole // 3600}:{whole % 3600 // 60:02d}", "note": "h left"}


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(at: float) -> str:
    """Time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at))
