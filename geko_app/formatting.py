"""Sizes, counts, durations and names as the page shows them: the only place that formats them. Pure."""

from __future__ import annotations

import re
import time

from geko_engine.selection.buckets import Bucket

UNKNOWN = "–"
PHASE_TITLES = {
    "queued": "Queued",
    "starting": "Starting",
    "downloading": "Loading model and data",
    "tokenising": "Tokenizing",
    "scanning": "Scoring samples",
    "checking": "Checking the texts for issues",
    "training": "Training",
    "evaluating": "Evaluating",
    "answering": "Answering prompts",
    "saving": "Saving",
    "paused": "Paused",
    "complete": "Complete",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}
# All buckets by their key in events and scripts, in the order of the page.
BUCKET_LABELS = {bucket.name.lower(): bucket.name for bucket in Bucket} | {"unseen": "not seen"}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
COUNT_UNITS = ((1e9, " B"), (1e6, " M"), (1e3, " k"))
BYTE_UNITS = ((1e9, " GB"), (1e6, " MB"), (1e3, " kB"))


def phase_title(phase: str) -> str:
    """The phase of a run as the page calls it."""
    return PHASE_TITLES.get(phase, phase)


STOPPED_BY_USER = ("Stopped by user.", "You asked for a stop.")  # the second one in runs of older versions


def end_words(end: str, reason: str) -> tuple[str, str]:
    """Title and detail of the end of a run; they do not say the same thing twice."""
    if end == "stopped" and reason in STOPPED_BY_USER:
        return "Stopped by user", ""
    return phase_title(end), reason


def run_name(run_id: str) -> str:
    """A run by its date, its model and the end of its id, which distinguishes runs of the same minute."""
    made = re.fullmatch(r"\d{4}(0[1-9]|1[0-2])(\d\d)-(\d\d)(\d\d)\d\d-(.+)-(\w{4})", run_id)
    if not made:
        return run_id
    month, day, hour, minute, model, suffix = made.groups()
    return f"{MONTHS[int(month) - 1]} {int(day)}, {hour}:{minute} · {model} · {suffix}"


def short_run_name(run_id: str) -> str:
    """The same without the date, for where that stands beside it."""
    name = run_name(run_id)
    return name if name == run_id else name.split(" · ", 1)[1]


def round_figure(value: float | None) -> float | None:
    """A value with the precision that a chart can show; whole numbers stay as they are."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def format_number(value: float | None, form: str) -> str:
    """A value in a format such as ".3f"; a dash for None."""
    return UNKNOWN if value is None else f"{value:{form}}"


def format_loss(value: float | None) -> str:
    """A loss in nats: "0.420"."""
    return format_number(value, ".3f")


def format_percent(ratio: float | None) -> str:
    """A ratio in percent: "28.0 %"."""
    return UNKNOWN if ratio is None else f"{100 * ratio:.1f} %"


def format_share(ratio: float) -> str:
    """A share of a whole in whole percent, never as nothing or all where it is not: "28 %", "less than 1 %"."""
    if 0 < ratio < 0.005:
        return "less than 1 %"
    return "more than 99 %" if 0.995 <= ratio < 1 else f"{100 * ratio:.0f} %"


def format_count(count: float) -> str:
    """A count in three digits: "812", "41.2 k", "3.05 M"."""
    return _scaled(count, COUNT_UNITS, "")


def format_bytes(count: float) -> str:
    """The size of files, in decimal units and three digits: "52 kB", "14.9 MB", "3.1 GB"."""
    return _scaled(count, BYTE_UNITS, " B")


def format_memory(count: float) -> str:
    """An estimated amount of memory, in as many digits as it deserves: "9 MB", "1.4 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def format_ram(count: float) -> str:
    """The memory of a computer or GPU in whole binary gigabytes, as it is sold: "16 GB"."""
    return f"{count / 2**30:.0f} GB"


def format_duration(seconds: float | None) -> str:
    """A duration: "43 s", "4 min 32 s", "1 h 12 min"."""
    if seconds is None:
        return UNKNOWN
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_estimated_duration(seconds: float) -> str:
    """A duration that is only an estimate, in one figure: "≈ 1.5 min", "≈ 3 h"."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"≈ {seconds / size:.0f} {unit}" if seconds >= 3 * size else f"≈ {seconds / size:.1f} {unit}"
    return f"≈ {max(1, round(seconds))} s"


def format_eta(seconds: float | None) -> dict[str, str]:
    """The remaining time for a stat box: {"value": "4:32", "note": "min left"}."""
    if seconds is None:
        return {"value": UNKNOWN, "note": ""}
    whole = round(seconds)
    if whole < 60:
        return {"value": f"{whole} s", "note": "left"}
    if whole < 3600:
        return {"value": f"{whole // 60}:{whole % 60:02d}", "note": "min left"}
    return {"value": f"{whole // 3600}:{whole % 3600 // 60:02d}", "note": "h left"}


def format_time(at: float) -> str:
    """The local time of day of a Unix timestamp: "14:05:09"."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def format_date(at: float) -> str:
    """Local date and time of a Unix timestamp: "Sep 30, 14:05"; with the year if it is not this one."""
    local = time.localtime(at)
    year = "" if local.tm_year == time.localtime().tm_year else f" {local.tm_year}"
    return f"{MONTHS[local.tm_mon - 1]} {local.tm_mday}{year}, {local.tm_hour:02d}:{local.tm_min:02d}"


def _scaled(value: float, units: tuple[tuple[float, str], ...], smallest: str) -> str:
    for size, unit in units:
        if value >= 0.9995 * size:  # what rounds to 1,000 of a unit is 1 of the next
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}{smallest}"
