"""A run on disk: the folder is the truth, whoever writes it (command line or page). Knows no torch and no process.

config.yaml    all that is needed to run it again
events.jsonl   append-only; each line an event with `seq` (from 1) and `time` (seconds since 1970)
status.json    replaced atomically: phase, pid, pid_started, heartbeat, seq, end, reason
stop           exists when somebody asked the run to stop
queued         exists while the run waits on the page for the one before it
marks-used.json   the marks of an earlier run as they were when this one began; marks.json: those set on this one
note.txt       what the user wrote about it
worker.log     what the worker process printed
checkpoints/   report.json   model/
texts.parquet, rows.safetensors        the training samples: texts and facts, written once (see texts.py)
samples.safetensors, history.safetensors   the record and its path, replaced after every epoch
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from geko_engine.config import RunConfig
from geko_engine.events import Event, PhaseChanged, RunEnded
from geko_engine.exceptions import RunError

HEARTBEAT_SECONDS = 2.0


@dataclass(frozen=True)
class Status:
    """The content of status.json; `pid_started` tells a living worker from a stranger with its old pid."""

    phase: str = "starting"
    pid: int = 0
    pid_started: float = 0.0
    heartbeat: float = 0.0
    seq: int = 0
    end: str = ""
    reason: str = ""

    @property
    def alive(self) -> bool:
        """Whether the process that wrote this status still runs."""
        return self.pid > 0 and process_started(self.pid) == self.pid_started


def process_started(pid: int) -> float | None:
    """Start time of process `pid` (seconds since 1970), or None when it is gone (a zombie counts as gone)."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


class RunFolder:
    """One run's folder: names of its files, and how they are read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, config: RunConfig) -> RunFolder:
        """Make a fresh folder below config.output_dir; ids are never reused.

        Raises:
            RunError: at the field output_dir, when the folder cannot be made or written.
        """
        root = Path(config.output_dir).expanduser()
        model = re.sub(r"[^A-Za-z0-9._-]+", "-", config.model.name.strip("/").split("/")[-1])[:40] or "model"
        made = f"{time.strftime('%Y%m%d-%H%M%S')}-{model}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder = cls(_fresh(root, made))
            folder.config_path.write_text(config.to_yaml(), encoding="utf-8")
        except OSError as error:
            raise RunError(
                f"The folder {str(root)!r} cannot be written ({error.strerror}): choose another output folder.",
                "output_dir",
            ) from error
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run. Raises RunError when there is none at `path`."""
        folder = cls(path)
        if not folder.config_path.is_file():
            raise RunError(f"There is no run in {str(path)!r}: a run's folder holds a config.yaml.")
        return folder

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def events_path(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model_path(self) -> Path:
        return self.path / "model"

    @property
    def samples_path(self) -> Path:
        return self.path / "samples.safetensors"

    @property
    def history_path(self) -> Path:
        return self.path / "history.safetensors"

    @property
    def texts_path(self) -> Path:
        return self.path / "texts.parquet"

    @property
    def rows_path(self) -> Path:
        return self.path / "rows.safetensors"

    @property
    def report_path(self) -> Path:
        return self.path / "report.json"

    @property
    def log_path(self) -> Path:
        return self.path / "worker.log"

    @property
    def stop_path(self) -> Path:
        return self.path / "stop"

    def config(self) -> RunConfig:
        """The configuration that this run was started with."""
        return RunConfig.from_yaml(self.config_path)

    @property
    def used_marks_path(self) -> Path:
        return self.path / "marks-used.json"

    def own_config(self) -> RunConfig:
        """The same with the marks that were kept when it began: a resume works on the same rows, whatever was marked since."""
        config = self.config()
        if config.data.marks and self.used_marks_path.is_file():
            config.data.marks = str(self.used_marks_path)
        return config

    def request_stop(self) -> None:
        """Ask the run to save a checkpoint and end as `stopped`; asking twice is asking once."""
        self.stop_path.touch()

    def forget_stop(self) -> None:
        """A run that goes on is no longer asked to stop. For whoever starts it: the worker would forget a new request."""
        self.stop_path.unlink(missing_ok=True)

    def status(self) -> Status | None:
        """What status.json says, or None before the worker wrote it."""
        try:
            return Status(**json.loads((self.path / "status.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

    def report(self) -> dict[str, Any] | None:
        """The content of report.json, or None before the end."""
        try:
            return json.loads(self.report_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def events(self, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (offset behind the line, event) for each whole line from byte `offset` on."""
        try:
            file = self.events_path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # still being written
                offset += len(line)
                yield offset, json.loads(line)

    def latest_checkpoint(self) -> Path | None:
        """The newest whole checkpoint (half-written ones have another name), or None."""
        found = [p for p in self.checkpoints_path.glob("checkpoint-*") if p.name.split("-")[-1].isdigit()]
        return max(found, key=lambda p: int(p.name.split("-")[-1]), default=None)


def _fresh(root: Path, name: str) -> Path:
    """A new folder `name` with a random end below `root`; another run of the same second may have the first one."""
    while True:
        path = root / f"{name}-{secrets.token_hex(2)}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path


class RunWriter:
    """The one writer of a run's events and status; use as a context manager around the run.

    Calling it with an Event appends the event and renews the status; a thread renews the heartbeat.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        repair_tail(folder.events_path)
        self._seq = max((int(event["seq"]) for _, event in folder.events()), default=0)
        self._phase, self._end, self._reason = "starting", "", ""
        self._pid, self._pid_started = os.getpid(), process_started(os.getpid()) or 0.0
        self._lock, self._closed = threading.Lock(), threading.Event()

    def __enter__(self) -> RunWriter:
        self._file = self.folder.events_path.open("a", encoding="utf-8")
        self._write_status()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self._file.close()

    def __call__(self, event: Event) -> None:
        values = event.to_dict()
        with self._lock:
            self._seq += 1
            line = json.dumps(finite({"seq": self._seq, "time": round(time.time(), 3), **values}), allow_nan=False)
            self._file.write(line + "\n")
            self._file.flush()
        if isinstance(event, PhaseChanged):
            self._phase = event.phase
        if isinstance(event, RunEnded):
            self._phase, self._end, self._reason = event.end, event.end, event.reason
        if isinstance(event, PhaseChanged | RunEnded):
            self._write_status()

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_SECONDS):
            self._write_status()

    def _write_status(self) -> None:
        with self._lock:
            status = Status(self._phase, self._pid, self._pid_started, time.time(), self._seq, self._end, self._reason)
            replace_json(self.folder.path / "status.json", asdict(status))


def mark_interrupted(folder: RunFolder, reason: str) -> None:
    """Give a run whose worker is gone its end, so that it is never shown as running."""
    repair_tail(folder.events_path)
    status = folder.status() or Status()
    if status.end or status.alive:
        return
    replace_json(
        folder.path / "status.json", {**asdict(status), "phase": "interrupted", "end": "interrupted", "reason": reason}
    )


def repair_tail(path: Path) -> None:
    """Cut a half-written last line off; only its writer's death leaves one."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` write a file beside `path` and rename it, so that `path` is always whole; for one writer."""
    temporary = path.with_name(f".{path.name}.writing")  # the same each time: what a killed writer left is replaced
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_json(path: Path, values: Any) -> None:
    """Write `values` as JSON so that a reader sees the old content or the new one, never half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(finite(values), indent=1, allow_nan=False), encoding="utf-8")
    temporary.replace(path)


def finite(value: Any) -> Any:
    """`value` with NaN and infinities as None: JSON has no word for them, and a browser stumbles over them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
