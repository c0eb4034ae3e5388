"""For all tests: reproducible property tests without a deadline, and a cache of their own (no test asserts a time)."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.small_disk import SmallDisk, mounted

settings.register_profile("geko", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("geko")
# Child processes inherit it; the user's own cache is neither read nor filled.
os.environ.setdefault("GEKO_CACHE", tempfile.mkdtemp(prefix="geko-cache-"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk that can be filled, mounted at tmp_path / "runs"."""
    yield from mounted(tmp_path / "runs")
