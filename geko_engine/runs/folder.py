"""A run on disk: the folder is the truth, whoever writes it (command line or page). Knows no torch and no process.

config.yaml    all that is needed to run it again
events.jsonl   append-only; each line an event with `seq` (from 1) and `time` (seconds since 1970); LogOpened comes first
status.json    replaced atomically: phase, pid, pid_started, heartbeat, seq, end, reason
stop           exists when somebody asked the run to stop
queued         exists while the run waits on the page for the one before it
marks-used.json   the marks of an earlier run as they were when this one began; marks.json: those set on this one
note.txt       what the user wrote about it
worker.log     what the worker process printed
.reserve       a little space, held while the run is at work: on a full disk it can still say how it ended
checkpoints/   report.json   model/
texts.parquet, rows.safetensors        the training samples: texts and facts, written once (see texts.py)
samples.safetensors, history.safetensors   the record and its path, replaced after every epoch
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.reporting.events import with_present_names
from geko_engine.storage.disk_space import full_sentence, is_full


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
        folder = None
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder = cls(_fresh(root, made))
            folder.config_path.write_text(config.to_yaml(), encoding="utf-8")
        except OSError as error:
            if folder is not None:
                shutil.rmtree(folder.path, ignore_errors=True)  # or it would be listed as a run that never began
            raise RunError(
                full_sentence(root)
                if is_full(error)
                else f"The folder {str(root)!r} cannot be written ({error.strerror}): choose another output folder.",
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
        """Before a run is begun, or begun again. Never after: who asks for a stop at once must be heard."""
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
            return with_present_names(json.loads(self.report_path.read_text(encoding="utf-8")))
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
                yield offset, with_present_names(json.loads(line))

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
