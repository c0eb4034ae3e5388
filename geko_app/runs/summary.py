"""A run's facts as plain values, read from its folder and again only when its files change. Knows no page, no process.

The facts of an ended run come from config.yaml, status.json and report.json; those of an active or killed one from the
first and last lines of events.jsonl, however long that is.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from geko_app.formatting import run_name
from geko_app.runs.labels import LABEL, read_label
from geko_app.runs.queue import MARKER, QUEUED, is_queued
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.reporting.event_lines import is_number, parse
from geko_engine.reporting.webhook import hidden_path
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.status import Status

NOTE = "note.txt"
NOTE_LIMIT = 2000  # characters
EDGE_BYTES = 64_000  # read at either end of the events
LOG_BYTES, LOG_LINES = 32_000, 200
SIZE_SECONDS = 20.0  # how long the size of an active run is cached
ID_TIME = re.compile(r"(\d{8}-\d{6})-.+")
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if available


@dataclass(frozen=True)
class RunFacts:
    """One run; None for what is not known.

    Attributes:
        made: when it was created, as a Unix timestamp.
        phase: its present phase, or how it ended.
        end, reason: how and why it ended, "" while it has not.
        progress: from 0 to 1.
        tokens: trained tokens.
        seconds: duration.
        name, tags: what the user calls it.
        twin: equal for runs that differ in nothing but GEKO on or off; "" where that is not known.
        plain: whether GEKO was off.
    """

    id: str
    made: float
    model: str = ""
    data: str = ""
    phase: str = "starting"
    end: str = ""
    reason: str = ""
    progress: float | None = None
    samples: int | None = None
    epochs: int | None = None
    epochs_done: int | None = None
    steps: int | None = None
    tokens: int | None = None
    compute_saved_ratio: float | None = None
    eval_loss_before: float | None = None
    eval_loss_after: float | None = None
    exact_match_before: float | None = None
    exact_match_after: float | None = None
    train_loss: float | None = None
    seconds: float | None = None
    note: str = ""
    has_model: bool = False
    name: str = ""
    tags: tuple[str, ...] = ()
    twin: str = ""
    plain: bool = False

    @property
    def shown_name(self) -> str:
        """What the page calls the run: the user's name, else its date and model."""
        return self.name or run_name(self.id)


class FactsReader:
    """Reads facts, sizes and configurations, and caches them until the files change. Thread-safe."""

    def __init__(self) -> None:
        self._facts: dict[Path, tuple[Any, RunFacts]] = {}
        self._sizes: dict[Path, tuple[Any, int]] = {}
        self._configs: dict[Path, tuple[Any, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def facts(self, folder: RunFolder) -> RunFacts:
        """The facts of a run now."""
        key = _version(folder)
        with self._lock:
            known = self._facts.get(folder.path)
        if known and known[0] == key and known[1].end:
            return known[1]
        found = self._read(folder)
        with self._lock:
            self._facts[folder.path] = (key, found)
        return found

    def size(self, folder: RunFolder) -> int:
        """Bytes of a run on disk."""
        ended = bool((folder.status() or Status()).end)
        key = _version(folder) if ended else int(time.monotonic() / SIZE_SECONDS)
        with self._lock:
            known = self._sizes.get(folder.path)
        if known and known[0] == key:
            return known[1]
        total = folder_size(folder.path)
        with self._lock:
            self._sizes[folder.path] = (key, total)
        return total

    def config(self, folder: RunFolder) -> dict[str, Any]:
        """The content of config.yaml without the path of its webhook; {} if it cannot be read."""
        key = _stamp(folder.config_path)
        with self._lock:
            known = self._configs.get(folder.path)
        if known and known[0] == key:
            return known[1]
        try:
            values = yaml.load(folder.config_path.read_text(encoding="utf-8"), Loader)  # a safe one
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            values = None
        found = hide_webhook(values) if isinstance(values, dict) else {}
        with self._lock:
            self._configs[folder.path] = (key, found)
        return found

    def config_text(self, folder: RunFolder) -> str:
        """The text of config.yaml without the path of its webhook; "" if it cannot be read."""
        config = self.config(folder)
        if not _section(config, "training").get("webhook_url"):
            return text_file(folder.config_path) if config else ""
        return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def _read(self, folder: RunFolder) -> RunFacts:
        config, status = self.config(folder), folder.status() or Status()
        report = (folder.report() or {}) if status.end not in ("", "interrupted") else {}
        if "steps" not in report:  # it is active, has failed, or its worker was killed
            report = {**report, **_from_events(folder)}
        training, label = _section(config, "training"), read_label(folder)
        return RunFacts(
            id=folder.id,
            made=made_at(folder),
            model=str(_section(config, "model").get("name", "")),
            data=str(_section(config, "data").get("train", "")),
            phase=QUEUED if is_queued(folder) else status.phase,
            end=status.end,
            reason=status.reason,
            epochs=_integer(report.get("epochs", training.get("num_epochs"))),
            samples=_integer(report.get("samples", _section(config, "data").get("sample_count"))),
            epochs_done=_integer(report.get("epochs_done")),
            steps=_integer(report.get("steps")),
            tokens=_integer(report.get("tokens_backwarded")),
            progress=_number(report.get("progress")),
            note=read_note(folder),
            has_model=folder.model_path.is_dir(),
            name=label.name,
            tags=label.tags,
            twin=twin_key(config),
            plain=_section(config, "geko").get("enabled") is False,
            **{name: _number(report.get(name)) for name in FIGURES},
        )


FIGURES = (
    "compute_saved_ratio",
    "eval_loss_before",
    "eval_loss_after",
    "exact_match_before",
    "exact_match_after",
    "train_loss",
    "seconds",
)


APART = ("geko.enabled", "output_dir", "training.webhook_url")  # in which a run and its baseline may differ


def hide_webhook(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration for others to see: of training.webhook_url it has no more than the host."""
    training = _section(config, "training")
    url = training.get("webhook_url")
    return {**config, "training": {**training, "webhook_url": hidden_path(str(url))}} if url else config


def twin_key(config: dict[str, Any]) -> str:
    """Equal for configurations that differ in nothing but GEKO on or off; "" for one that does not say which."""
    settings = {name: value for name, value in all_settings(config).items() if name not in APART}
    if "enabled" not in _section(config, "geko"):
        return ""
    return hashlib.blake2b(repr(sorted(settings.items())).encode(errors="replace"), digest_size=8).hexdigest()


def all_settings(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration by dotted key; settings that an older one lacks have their defaults. {} for one that is unreadable."""
    return {**flat(RunConfig().to_dict()), **flat(config)} if config else {}


def made_at(folder: RunFolder) -> float:
    """When a run was created, as a Unix timestamp: from its id, else from its configuration file."""
    named = ID_TIME.fullmatch(folder.id)
    try:
        return time.mktime(time.strptime(named[1], "%Y%m%d-%H%M%S")) if named else folder.config_path.stat().st_mtime
    except (ValueError, OverflowError, OSError):
        return 0.0


def folder_size(path: Path) -> int:
    """Bytes of all files below `path`; links are not followed."""
    total = 0
    try:
        entries = list(os.scandir(path))
    except OSError:
        return 0
    for entry in entries:
        try:
            folder = entry.is_dir(follow_symlinks=False)
            total += folder_size(Path(entry.path)) if folder else entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # its run has just removed it
    return total


def read_note(folder: RunFolder) -> str:
    """The user's note on a run."""
    return text_file(folder.path / NOTE)[:NOTE_LIMIT]


def write_note(folder: RunFolder, text: str) -> None:
    """Save a note in the run's folder; an empty one removes it.

    Raises:
        RunError: it is too long, or the disk refuses.
    """
    text = text.strip()
    if len(text) > NOTE_LIMIT:
        raise RunError(f"The note has {len(text):,} characters; the limit is {NOTE_LIMIT:,}. Shorten it.")
    path = folder.path / NOTE
    temporary = path.with_name(f".{NOTE}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        if text:
            temporary.write_text(text, encoding="utf-8", errors="replace")
            temporary.replace(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"The note cannot be saved ({error.strerror or error}).") from error


def text_file(path: Path) -> str:
    """The text of a small file of the run; "" if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def log_tail(folder: RunFolder) -> str:
    """The last lines of worker.log; "" for a run of the command line, which prints to its terminal."""
    try:
        with folder.log_path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            return "\n".join(file.read().decode("utf-8", errors="replace").splitlines()[-LOG_LINES:])
    except OSError:
        return ""


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """A nested configuration by dotted key."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            found[str(name)] = value
    return found


def _from_events(folder: RunFolder) -> dict[str, Any]:
    """The figures of the report, as far as they can be read from the events."""
    found: dict[str, Any] = {}
    head, tail = _edges(folder.events_path)
    for event in head:
        if event.get("type") == "RunStarted":
            found.update(samples=event.get("samples"), epochs=event.get("epochs"))
        if event.get("type") == "Evaluated" and event.get("tokens_trained") == 0:
            found.update(eval_loss_before=event.get("eval_loss"), exact_match_before=event.get("exact_match"))
    for event in tail:
        if event.get("type") == "StepCompleted":
            found.update({name: event.get(name) for name in ("progress", "seconds", "compute_saved_ratio")})
            found.update(steps=event.get("step"), epochs_done=event.get("epoch"))
            found["tokens_backwarded"] = event.get("tokens_backwarded")
        if event.get("type") == "Evaluated" and event.get("tokens_trained"):
            found.update(eval_loss_after=event.get("eval_loss"), exact_match_after=event.get("exact_match"))
    return found


def _edges(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The events in the first and in the last EDGE_BYTES of a file."""
    try:
        with path.open("rb") as file:
            head = file.read(EDGE_BYTES)
            start = max(0, file.seek(0, os.SEEK_END) - EDGE_BYTES)
            file.seek(start)
            tail = file.read()
    except OSError:
        return [], []
    return list(_events(head)), list(_events(tail.partition(b"\n")[2] if start else tail))


def _events(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.split(b"\n"):
        event = parse(line)
        if event is not None:  # else it is cut off, damaged or still being written
            yield event


def _version(folder: RunFolder) -> tuple[Any, ...]:
    names = ("config.yaml", "status.json", "report.json", NOTE, LABEL, "model", MARKER)
    return tuple(_stamp(folder.path / name) for name in names)


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
