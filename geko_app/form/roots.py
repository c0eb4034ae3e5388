"""Folders that the paths of a form must lie in, where strangers can open the page. Reads no file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geko_engine.config.declaration import Problem
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DEMO, GENERAL
from geko_engine.data.local_files import is_local
from geko_engine.exceptions import RunError
from geko_engine.storage.user_paths import FOLDER, expand, kind_of, path_problem, shown_path


@dataclass(frozen=True)
class AllowedRoots:
    """Where the files of a form may be.

    Args:
        folders: their paths without links; None allows every path.
    """

    folders: tuple[Path, ...] | None = None

    @classmethod
    def of(cls, given: Sequence[str], *, runs: str | Path, is_open: bool) -> AllowedRoots:
        """The folders for a page.

        Args:
            given: those of --root.
            runs: the folder for runs, which has the uploads too.
            is_open: whether other machines reach the page. If not and without --root, every path is allowed.

        Raises:
            RunError: one of `given` is no folder.
        """
        for name in given:
            if kind_of(name) != FOLDER:
                raise RunError(f"--root {shown_path(name)} is no folder: give one that exists.")
        if not given and not is_open:
            return cls()
        return cls(tuple(expand(root).resolve() for root in (runs, model_cache(), *given)))

    def problems(self, config: RunConfig) -> list[Problem]:
        """(dotted field, message) of each path of `config` that lies elsewhere."""
        if self.folders is None:
            return []
        found = ((field, path_problem(path) or self._outside(path)) for field, path in paths_of(config).items())
        return [(field, text) for field, text in found if text]

    def allows(self, path: Path) -> bool:
        """Whether the page may look at `path`."""
        return self.folders is None or not self._outside(path)

    def _outside(self, path: Path) -> str:
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:  # links in a circle
            return f"{shown_path(path)} cannot be followed ({error}): give another path."
        if any(real.is_relative_to(root) for root in self.folders or ()):
            return ""
        folder = real if kind_of(real) == FOLDER else real.parent
        allowed = ", ".join(map(str, self.folders or ()))
        return (
            f"{shown_path(path)} is not in a folder that this page may use ({allowed}): upload the file, or start "
            f"geko-app with --root {shown_path(folder)}."
        )


def paths_of(config: RunConfig) -> dict[str, Path]:
    """The local paths in a configuration, by dotted field; names on the Hub and the demo are none."""
    names = {"model.name": config.model.name, "data.train": config.data.train, "data.eval": config.data.eval}
    found = {field: name for field, name in names.items() if name and name != DEMO and is_local(name)}
    others = {
        "data.retention": config.data.retention if config.data.retention != GENERAL else None,
        "data.row_flags": config.data.row_flags,
        "data.corrections": config.data.corrections,
        "data.replay": config.data.replay,
        "output_dir": config.output_dir,
        "training.resume_from_checkpoint": config.training.resume_from_checkpoint,
    }
    return {field: expand(name) for field, name in (found | others).items() if name}


def model_cache() -> Path:
    """Where models of the Hub are kept, as huggingface_hub finds it."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return expand(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
