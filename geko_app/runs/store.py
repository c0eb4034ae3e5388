"""The folder of runs on disk: list them, find one by its id, create and delete. Knows no process."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from geko_app.runs.labels import display_name, read_label
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.status import Status

NAME_BYTES = 200  # of a file's name; file systems allow 255
UPLOADS = ".uploads"  # no run's id begins with a dot
DELETED = ".deleted-"  # begins the name of a run that is being removed
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


@dataclass(frozen=True)
class RunEntry:
    """One run of the list: its id, its phase, whether its worker is alive, and the name that the user gave it or ""."""

    id: str
    phase: str
    alive: bool
    name: str = ""


class RunStore:
    """All runs in one folder; a run that was written elsewhere has a link here.

    Args:
        root: the folder; created if it does not exist.

    Raises:
        RunError: it cannot be written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)  # another page may have opened the folder at this moment
            for doomed in self.root.glob(f"{DELETED}*"):  # a killed page was in the middle of removing it
                shutil.rmtree(doomed, ignore_errors=True)
        except OSError as error:
            raise RunError(
                f"The runs folder {str(root)!r} cannot be written ({error.strerror}): choose another one with --runs."
            ) from error

    def ids(self) -> list[str]:
        """Ids of all runs, newest first (an id begins with its time)."""
        found = [p.name for p in self.root.iterdir() if RUN_ID.fullmatch(p.name) and (p / "config.yaml").is_file()]
        return sorted(found, reverse=True)

    def folder(self, run_id: str) -> RunFolder:
        """The folder of a run.

        Raises:
            RunError: `run_id` is not the id of a run here.
        """
        if not RUN_ID.fullmatch(str(run_id)):
            raise RunError(f"{run_id!r} is not the id of a run.")
        return RunFolder.open(self.root / run_id)

    def entry(self, run_id: str) -> RunEntry:
        """The state of a run according to its status.json."""
        folder = self.folder(run_id)
        status = folder.status() or Status()
        return RunEntry(run_id, status.phase, status.alive and not status.end, read_label(folder).name)

    def name(self, run_id: str) -> str:
        """What the page calls a run.

        Raises:
            RunError: as for `folder`.
        """
        return display_name(self.folder(run_id))

    def entries(self, limit: int) -> list[RunEntry]:
        """The newest `limit` runs."""
        return [self.entry(run_id) for run_id in self.ids()[:limit]]

    def delete(self, run_id: str) -> None:
        """Remove a run from the disk, and its link if it was written elsewhere.

        Raises:
            RunError: it is not clearly the folder of a run, or the disk refuses.
        """
        link = self.folder(run_id).path
        path = link.resolve() if link.is_symlink() else link
        other_run = link.is_symlink() and path.parent == self.root.resolve()
        precious = any(place.resolve().is_relative_to(path) for place in (self.root, Path.home()))
        if other_run or precious or not (path / "status.json").is_file():
            raise RunError(
                f"{str(path)!r} is not clearly the folder of this run, so it was left alone: remove it by hand."
            )
        doomed = path.with_name(f"{DELETED}{path.name}-{secrets.token_hex(4)}")
        try:
            path.rename(doomed)  # first, so that a half-removed run is not taken for a run
            if link.is_symlink():
                link.unlink()
            shutil.rmtree(doomed)
        except OSError as error:
            raise RunError(f"The run {run_id} could not be removed completely ({error.strerror or error}).") from error

    def keep_upload(self, path: str | Path) -> Path:
        """Copy an uploaded file beside the runs, under its own name: the temporary one would be gone at a resume.

        Args:
            path: the temporary file.

        Returns:
            The copy.

        Raises:
            RunError: it cannot be written.
        """
        source = Path(path)
        uploads, folder = self.root / UPLOADS, None
        try:
            uploads.mkdir(exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="upload-", dir=uploads))
            kept = folder / upload_name(source.name)
            shutil.copyfile(source, kept)
        except OSError as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            raise RunError(
                f"The uploaded file cannot be saved in {str(uploads)!r} ({error.strerror}).", "data.train"
            ) from error
        return kept

    def create(self, config: RunConfig) -> RunFolder:
        """Create the folder of a new run in config.output_dir, and a link here if that is elsewhere.

        Raises:
            RunError: the folder cannot be created; its field is output_dir.
        """
        folder = RunFolder.create(config)
        if folder.path.parent.absolute() != self.root:
            (self.root / folder.id).symlink_to(folder.path.absolute(), target_is_directory=True)
        return RunFolder(self.root / folder.id)


def upload_name(name: str) -> str:
    """The name of a visitor's file, as far as it can be the name of a file here: on one line, not hidden, not too long."""
    shown = "".join(letter if letter.isprintable() and letter not in "/\\" else "-" for letter in name)
    return shown.lstrip(".- ").encode()[-NAME_BYTES:].decode(errors="ignore") or "data"
