"""A run's model as one zip for the browser: made in a file without a name, so that nothing is left. Knows no page.

Who asks gets a word that fetches the file once, within a few minutes. Weights do not compress: they are stored.
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

from geko_app.runs.summary import folder_size
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder

KEPT_SECONDS = 300.0
AT_ONCE = 4
CHUNK = 1 << 20
SPARE = 64_000_000  # bytes left free on the disk


@dataclass
class Offer:
    """One zip that waits to be fetched."""

    name: str
    file: IO[bytes]
    size: int
    until: float

    def chunks(self) -> Iterator[bytes]:
        """The content; the file is gone at the end, also when the browser went away."""
        with self.file as file:
            while block := file.read(CHUNK):
                yield block


class Downloads:
    """Makes zips beside the runs, where there is room, and hands each out once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._offers: dict[str, Offer] = {}
        self._lock = threading.Lock()

    def offer(self, folder: RunFolder) -> str:
        """Zip the model of a run; returns the word that fetches it. Raises RunError when there is none, or no room."""
        model = folder.model_path
        if not model.is_dir():
            raise RunError(f"The run {folder.id} has no model yet: it is saved at the end.")
        needed = folder_size(model)
        if shutil.disk_usage(self._root).free < needed + SPARE:
            raise RunError(
                f"There is no room for a zip of {needed / 1e6:.0f} MB: copy the folder {str(model)!r} instead."
            )
        try:
            file = zipped(model, f"{folder.id}-model", self._root)
        except OSError as error:
            raise RunError(f"The model cannot be packed ({error.strerror or error}).") from error
        word = secrets.token_urlsafe(24)
        with self._lock:
            self._forget_old()
            size = file.seek(0, 2)
            file.seek(0)
            self._offers[word] = Offer(f"{folder.id}-model.zip", file, size, time.monotonic() + KEPT_SECONDS)
        timer = threading.Timer(KEPT_SECONDS + 1, self._tidy)
        timer.daemon = True
        timer.start()
        return word

    def take(self, word: str) -> Offer | None:
        """What the word stands for, once."""
        with self._lock:
            return self._offers.pop(word, None)

    def _tidy(self) -> None:
        with self._lock:
            self._forget_old(room=0)

    def shutdown(self) -> None:
        """Forget everything; a file without a name is gone when it is closed."""
        with self._lock:
            for offer in self._offers.values():
                offer.file.close()
            self._offers.clear()

    def _forget_old(self, room: int = 1) -> None:
        """Close what nobody came for, and the oldest beyond AT_ONCE."""
        now, left = time.monotonic(), len(self._offers)
        for word, offer in list(self._offers.items()):  # the oldest first
            if offer.until < now or left + room > AT_ONCE:
                self._offers.pop(word).file.close()
                left -= 1


def zipped(source: Path, name: str, beside: Path) -> IO[bytes]:
    """All files below `source` in a zip, under one folder `name`; a link is left out, wherever it points."""
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
