"""A run on disk. Its folder is the only state that command line and page share. Knows no torch and no process.

run.json              the format of this folder and the version of GEKO that made it; version 1 wrote none
config.yaml           all settings of the run
events.jsonl          append-only, one event a line, with `seq` (from 1) and `time` (seconds since 1970); LogOpened first
status.json           replaced atomically: phase, pid, pid_started, heartbeat, seq, end, reason
.lock                 held by the process that writes the run, whose number is in it then (lock.py)
stop                  exists once a stop was requested
queued                exists while the run waits in the page's queue
row_flags.json        the flags set on this run's samples (version 1: marks.json)
row_flags_used.json   the row flags that this run was started with (version 1: marks-used.json)
corrections.jsonl     what was decided about this run's samples, one decision a line
corrections_used.jsonl  the corrections that this run was started with
corrections_applied.json  the rows that these changed in its training data, or left out of it
note.txt              the user's note
label.json            the name and the tags that the user gave the run on the page
gpus.json             the GPUs that the page gave the run, on a machine with several
worker.log            output of the worker process
.reserve              disk space reserved for the last event of a running run
live_state.jsonl      the page's index of a long events.jsonl, built anew when it does not fit
report.json           the figures of the whole run, written at its end
checkpoints/          one folder a checkpoint
model/                the trained model or adapter, and its tokenizer
exports/              what was made of the model: merged, GGUF
held_out.json         the rows that the run held out of its training data (data/held_out.py)
texts.parquet, rows.safetensors            texts and facts of the training samples, written once (sample_texts.py)
issues.json           what the check of the texts found (issue_check.py)
samples.safetensors, history.safetensors   the sample record and its history, replaced after every epoch
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import geko_engine
from geko_engine.config import renames
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.reporting.event_lines import is_count, is_report, parse
from geko_engine.reporting.events import Message, with_present_names
from geko_engine.runs.lock import RunLock
from geko_engine.runs.status import Status, read_status
from geko_engine.storage.atomic_files import replace_json, replace_text
from geko_engine.storage.disk_space import explain_write_errors, full_sentence, is_full
from geko_engine.storage.user_paths import FILE, kind_of, shown_path

FORMAT = 2  # of the folder: raised when an older version could no longer go on with a run
WRITTEN = (
    "run.json",
    "status.json",
    "report.json",
    "row_flags_used.json",
    "corrections_used.jsonl",
    "corrections_applied.json",
)  # replaced by the process that writes the run
LONGEST_LINE = 1 << 24  # bytes
TAIL_BYTES = 1 << 16


class RunFolder:
    """The folder of one run: the paths of its files, and how to read them.

    Args:
        path: of the folder; it need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, config: RunConfig) -> RunFolder:
        """Create a new folder in config.output_dir and write config.yaml. Ids are never reused.

        Raises:
            RunError: at output_dir, if the folder cannot be created or written.
        """
        root = Path(config.output_dir).expanduser()
        model = re.sub(r"[^A-Za-z0-9._-]+", "-", config.model.name.strip("/").split("/")[-1])[:40] or "model"
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{model}"
        folder = None
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder = cls(_fresh(root, name))
            folder.keep_format()
            replace_text(folder.config_path, config.to_yaml())
        except OSError as error:
            if folder is not None:
                shutil.rmtree(folder.path, ignore_errors=True)  # or it would be listed as a run that never started
            raise RunError(
                full_sentence(root)
                if is_full(error)
                else f"The folder {str(root)!r} cannot be written ({error.strerror}): choose another output folder.",
                "output_dir",
            ) from error
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The folder of an existing run. Raises RunError if there is none at `path`."""
        folder = cls(path)
        if kind_of(folder.config_path) != FILE:
            raise RunError(f"There is no run in {shown_path(path)}: the folder of a run has a config.yaml.")
        return folder

    def _made_by(self) -> tuple[int, str] | None:
        """(format, version of GEKO) of run.json; None if there is none, as in version 1, or it is damaged."""
        try:
            values = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
            number, version = values["format"], values["geko"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return None
        return (number, str(version)) if is_count(number) else None

    def require_known_format(self) -> None:
        """Raise RunError when a newer version of GEKO made this folder in another format: only that one may write it."""
        number, version = self._made_by() or (FORMAT, "")
        if number > FORMAT:
            raise RunError(
                f"The run {self.id} has format {number}, written by GEKO {version}; this version writes up to {FORMAT}: "
                "update GEKO to go on with it."
            )

    def keep_format(self) -> None:
        """Write run.json unless it is there already."""
        if self._made_by() is None:
            replace_json(self.path / "run.json", {"format": FORMAT, "geko": geko_engine.__version__})

    def require_unfinished(self) -> None:
        """Raise RunError when the run is complete. Only who holds the lock can rely on it."""
        status = self.status()
        if status is not None and status.end == "complete":
            raise RunError(
                f"The run {self.id} is complete: there is nothing to resume. Its model is in {str(self.model_path)!r}."
            )

    def remove_leftovers(self) -> None:
        """Remove what a killed writer of this run left half written. Only for who holds the lock."""
        for name in WRITTEN:
            for file in [*self.path.glob(f".{name}.*.tmp"), *self.path.glob(f"{name}.*.tmp")]:  # version 1: no dot
                file.unlink(missing_ok=True)
        by_safetensors = self.path.glob(".tmp??????")  # it writes to such a file first
        for left in [
            *by_safetensors,
            *self.path.glob(".*.writing"),
            *self.path.glob(".*.removed"),
            *self.checkpoints_path.glob(".*"),
        ]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def half_written(self) -> dict[str, tuple[int, float]]:
        """(bytes, time of the last change) of each file of a checkpoint or model that is being written, by its path.

        It has those, too, that a killed writer has left: their times stay as they are.
        """
        found = {}
        for folder in [*self.checkpoints_path.glob(".checkpoint-*.writing"), *self.path.glob(".model.writing")]:
            for path in (folder, *folder.rglob("*")):
                with contextlib.suppress(OSError):  # just renamed
                    facts = path.stat()
                    found[str(path)] = (facts.st_size, facts.st_mtime)
        return found

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
    def exports_path(self) -> Path:
        return self.path / "exports"

    @property
    def samples_path(self) -> Path:
        return self.path / "samples.safetensors"

    @property
    def history_path(self) -> Path:
        return self.path / "history.safetensors"

    @property
    def slices_path(self) -> Path:
        return self.path / "slices.parquet"

    @property
    def evaluation_path(self) -> Path:
        return self.path / "evaluation.safetensors"

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

    def config(self, *, on_renamed: renames.OnRenamed = renames.ignore) -> RunConfig:
        """The configuration that this run was started with; `on_renamed` as in RunConfig.from_dict."""
        return RunConfig.from_yaml(self.config_path, on_renamed=on_renamed)

    def change_config(self, overrides: Mapping[str, Any]) -> RunConfig:
        """The configuration with other values (dotted key -> value) from now on.

        Raises:
            ConfigError: when one is invalid. RunLockedError: when another process writes the run.
            RunError: when the disk refuses.
        """
        config = RunConfig.from_yaml(self.config_path, overrides, on_renamed=renames.ignore)
        with explain_write_errors(self.path), RunLock(self.path):
            replace_text(self.config_path, config.to_yaml())
        return config

    @property
    def row_flags_path(self) -> Path:
        return self.path / "row_flags.json"

    @property
    def used_flags_path(self) -> Path:
        return self.path / "row_flags_used.json"

    def saved_row_flags(self) -> Path:
        """The file with the flags set on this run's samples: version 1 called it marks.json. It may not exist."""
        return _existing(self.row_flags_path, self.path / "marks.json")

    @property
    def corrections_path(self) -> Path:
        return self.path / "corrections.jsonl"

    @property
    def held_out_path(self) -> Path:
        return self.path / "held_out.json"

    @property
    def used_corrections_path(self) -> Path:
        return self.path / "corrections_used.jsonl"

    @property
    def applied_corrections_path(self) -> Path:
        return self.path / "corrections_applied.json"

    def applied_corrections(self) -> set[int] | None:
        """Numbers, from 1, of the rows whose correction changed the training data; None where that was not written down."""
        try:
            return {int(row) for row in json.loads(self.applied_corrections_path.read_text(encoding="utf-8"))["rows"]}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def config_with_saved_flags(self, *, on_renamed: renames.OnRenamed = renames.ignore) -> RunConfig:
        """`config` with the row flags and corrections saved at the start, so that a resumed run trains on the same rows."""
        config = self.config(on_renamed=on_renamed)
        used = _existing(self.used_flags_path, self.path / "marks-used.json")
        if config.data.row_flags and used.is_file():
            config.data.row_flags = str(used)
        if config.data.corrections and self.used_corrections_path.is_file():
            config.data.corrections = str(self.used_corrections_path)
        return config

    def request_stop(self) -> None:
        """Request that the run saves a checkpoint and ends as "stopped". May be called several times."""
        self.stop_path.touch()

    def clear_stop(self) -> None:
        """Remove a stop request. Call it before a run starts, never after, or an early request would be lost."""
        self.stop_path.unlink(missing_ok=True)

    def status(self) -> Status | None:
        """The content of status.json, or None if the worker has not written it yet.

        One that is damaged reads as an end "interrupted" that says so: the run can be resumed.
        """
        path = self.path / "status.json"
        try:
            return read_status(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError):
            if (self.report() or {}).get("end") == "complete":
                return Status("complete", end="complete", reason="All epochs are done.")
            return Status("interrupted", end="interrupted", reason=f"{str(path)!r} cannot be read: resume the run.")

    def report(self) -> dict[str, Any] | None:
        """The content of report.json, or None if the run has not ended yet or the file is damaged."""
        try:
            values = json.loads(self.report_path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return with_present_names(values) if is_report(values) else None

    def events(self, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (offset after the line in bytes, event) for each complete line from byte `offset` on.

        Lines that cannot be read are skipped, and a Message in their place says which.
        """
        try:
            file = self.events_path.open("rb")
        except OSError:
            return
        with file:
            file.seek(offset)
            bad, last = offset, {"seq": 0, "time": 0.0}
            while line := file.readline(LONGEST_LINE):
                if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                    break  # still being written
                event = parse(line)
                if event is not None:
                    if bad < offset:
                        yield offset, _skipped(bad, offset, last)
                    bad, last = offset + len(line), event
                    yield bad, event
                offset += len(line)
            if bad < offset:
                yield offset, _skipped(bad, offset, last)

    def last_seq(self) -> int | None:
        """The number of the last event in events.jsonl; 0 where it has none, None where there is no such file."""
        try:
            size = self.events_path.stat().st_size
        except OSError:
            return None
        for start in (max(0, size - TAIL_BYTES), 0):
            found = max((int(event["seq"]) for _, event in self.events(start)), default=0)
            if found:
                return found
        return 0

    def latest_checkpoint(self) -> Path | None:
        """The newest complete checkpoint, or None. Incomplete ones have other names."""
        found = [p for p in self.checkpoints_path.glob("checkpoint-*") if p.name.split("-")[-1].isdigit()]
        return max(found, key=lambda p: int(p.name.split("-")[-1]), default=None)


def _skipped(begin: int, end: int, last: dict[str, Any]) -> dict[str, Any]:
    """The event that stands for lines that cannot be read; `last`: the event before them."""
    text = f"Bytes {begin:,} to {end:,} of events.jsonl cannot be read and were skipped."
    return {"seq": last["seq"], "time": last["time"], **Message(text, "warning").to_dict()}


def _existing(path: Path, old: Path) -> Path:
    """`path`, or `old` where only that one exists."""
    return old if old.is_file() and not path.is_file() else path


def _fresh(root: Path, name: str) -> Path:
    """Create a folder in `root`, named `name` and a random suffix: another run may start in the same second."""
    while True:
        path = root / f"{name}-{secrets.token_hex(2)}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
