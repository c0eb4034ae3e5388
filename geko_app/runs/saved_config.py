"""The configuration that a run was started with, parsed once: an ended run is drawn again with every poll of the page."""

from __future__ import annotations

import functools
from pathlib import Path

from geko_engine.config.run_config import RunConfig
from geko_engine.runs.folder import RunFolder

REMEMBERED = 64  # configurations


def saved_config(folder: RunFolder) -> RunConfig:
    """The configuration of a run. It is shared: do not change it.

    Raises:
        ConfigError: the file cannot be read, or holds unknown keys or invalid values.
    """
    try:
        facts = folder.config_path.stat()
        version = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    except OSError:
        version = None  # the reader says what is wrong
    return _parsed(folder.config_path, version)


@functools.lru_cache(REMEMBERED)
def _parsed(path: Path, _version: tuple[int, int, int] | None) -> RunConfig:
    return RunConfig.from_yaml(path, on_renamed=lambda _sentence: None)
