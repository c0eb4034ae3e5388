"""A disk of its own, so small that a test can fill it: a tmpfs, where this user may mount one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZE = 40_000_000  # bytes: a run of the demo with two checkpoints, and not much more
BALLAST = ".ballast"


class SmallDisk:
    """The folder where it is mounted; `fill` takes what is free, `free` gives it back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, leave: int = 0) -> None:
        ballast = self.path / BALLAST
        with ballast.open("ab", buffering=0) as file:
            try:
                while (left := shutil.disk_usage(self.path).free - leave) > 0:
                    file.write(bytes(min(left, 1_000_000)))
            except OSError:
                return  # full to the last byte

    def free(self) -> None:
        (self.path / BALLAST).unlink()

    def runs(self) -> list[Path]:
        return sorted(path for path in self.path.iterdir() if not path.name.startswith("."))


def mounted(path: Path) -> Iterator[SmallDisk]:
    """Mount one at `path` until the test is over; without the right to do so the test is left out."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk that can be filled needs the right to mount one (root)")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
