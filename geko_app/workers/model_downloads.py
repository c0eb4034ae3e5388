"""A run's model as one zip for the browser, in an unnamed temporary file, so that nothing is left behind. Knows no page.

Whoever asks gets a key that fetches the file once, within a few minutes. Weights do not compress, so they are stored.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from geko_app.formatting import format_bytes
from geko_app.runs.summary import folder_size
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder

KEPT_SECONDS = 300.0
MAX_KEPT = 4
CHUNK = 1 << 20
RESERVE = 64_000_000  # bytes to leave free on the disk


@dataclass
class ModelZip:
    """One zip that waits to be fetched.

    Attributes:
        name: file name for the browser.
        file: the content, open.
        size: bytes.
        expires: time.monotonic() after which it is dropped.
    """

    name: str
    file: IO[bytes]
    size: int
    expires: float

    def chunks(self) -> Iterator[bytes]:
        """The content; the file is gone afterwards, also if the browser disconnected."""
        with self.file as file:
            while block := file.read(CHUNK):
                yield block


class ModelDownloads:
    """Makes zips beside the runs, where the disk has room, and hands each out once.

    Args:
        root: folder for the temporary files.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._zips: dict[str, ModelZip] = {}
        self._lock = threading.Lock()

    def pack(self, folder: RunFolder) -> str:
        """Zip the model of a run.

        Returns:
            The key that fetches it.

        Raises:
            RunError: the run has no model, or the disk has no room.
        """
        model = folder.model_path
        if not model.is_dir():
            raise RunError(f"The run {folder.id} has no model yet: it is saved at the end.")
        needed = folder_size(model)
        if shutil.disk_usage(self._root).free < needed + RESERVE:
            raise RunError(
                f"The disk has no room for a zip of {format_bytes(needed)}: copy the folder {str(model)!r} instead."
            )
        try:
            file = zipped(model, f"{folder.id}-model", self._root)
        except OSError as error:
            raise RunError(f"The model cannot be zipped ({error.strerror or error}).") from error
        key = secrets.token_urlsafe(24)
        with self._lock:
            self._forget_old()
            size = file.seek(0, 2)
            file.seek(0)
            self._zips[key] = ModelZip(f"{folder.id}-model.zip", file, size, time.monotonic() + KEPT_SECONDS)
        timer = threading.Timer(KEPT_SECONDS + 1, self._tidy)
        timer.daemon = True
        timer.start()
        return key

    def take(self, key: str) -> ModelZip | None:
        """The zip of a key, once; None for an unknown key."""
        with self._lock:
            return self._zips.pop(key, None)

    def shutdown(self) -> None:
        """Drop everything; an unnamed file is gone when it is closed."""
        with self._lock:
            for packed in self._zips.values():
                packed.file.close()
            self._zips.clear()

    def _tidy(self) -> None:
        with self._lock:
            self._forget_old(room=0)

    def _forget_old(self, room: int = 1) -> None:
        """Drop expired zips, and the oldest ones beyond MAX_KEPT."""
        now, left = time.monotonic(), len(self._zips)
        for key, packed in list(self._zips.items()):  # oldest first
            if packed.expires < now or left + room > MAX_KEPT:
                self._zips.pop(key).file.close()
                left -= 1


def zipped(source: Path, name: str, beside: Path) -> IO[bytes]:
    """All files below `source` in a zip.

    Args:
        source: folder to pack; links in it are left out, wherever they point.
        name: the one folder in the zip.
        beside: folder for the temporary file.

    Returns:
        The open file, which has no name.
    """
    file = tempfile.TemporaryFile(dir=beside)  # noqa: SIM115  # closed by whoever reads it
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(source.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    archive.write(path, f"{name}/{path.relative_to(source)}")
    except BaseException:
        file.close()
        raise
    return file
