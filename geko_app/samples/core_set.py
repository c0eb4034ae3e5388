"""The core set of a run, and a random set of its size: which rows they have, and the files that runs on them begin with.

core_set-N-DIGEST.json, random_set-N-DIGEST.json   in the folder of the run: {"rows": [...], "kind", "kept", "of"}; `rows` are those
                                                   that are left out, as in row_flags.json, `kept` of `of` rows are trained on

A file is named by its rows and never changed, so that a run which waits in the queue begins with the rows that were chosen for it.
Knows no page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from geko_app.form.rerun_options import CORE_SET, SUBSETS, Subset
from geko_app.samples.correction_log import file_version, own_decisions
from geko_app.samples.exclusions import flagged_rows, write_dataset
from geko_app.samples.store import Samples
from geko_engine.data.corrections import DELETE
from geko_engine.data.excluded_rows import EXCLUDE
from geko_engine.data.excluded_rows import flagged_rows as rows_to_exclude
from geko_engine.exceptions import GekoError, RunError
from geko_engine.quality.issues import DUPLICATE, NEAR_DUPLICATE
from geko_engine.quality.label_issues import LIKELY
from geko_engine.runs.folder import RunFolder
from geko_engine.selection.core_set import CoreSet, LearningRecord, choose_core_set, random_set
from geko_engine.storage.atomic_files import replace_json
from geko_engine.storage.user_paths import expand


@dataclass(frozen=True)
class SubsetFile:
    """What the file of a set says.

    Attributes:
        path: of the file. kind: one of SUBSETS. kept: rows that are trained on. of: rows that the run was trained on.
    """

    path: Path
    kind: str
    kept: int
    of: int

    @property
    def source(self) -> RunFolder:
        """The run whose rows these are."""
        return RunFolder(self.path.parent)

    @property
    def share(self) -> float:
        """Of the rows, in (0, 1]."""
        return self.kept / self.of

    @property
    def as_subset(self) -> Subset:
        """What a run on it changes."""
        return Subset(str(self.path.absolute()), self.share)


def core_set(samples: Samples, share: float | None) -> CoreSet:
    """The core set of a run as it is now.

    Left out are rows that are flagged, deleted, likely mislabeled or suspected by the run itself, unless a person kept them.

    Args:
        samples: of the run. share: of them, in (0, 1]; None for those that carried the training.

    Raises:
        RunError: no set can be chosen; the message says why. DataError: the log of corrections is damaged.
    """
    rows = samples.facts["row"]
    deleted = {row for row, made in own_decisions(samples.folder).items() if made.action == DELETE}
    out = np.isin(rows, list(flagged_rows(samples.folder) | deleted))
    out |= samples.issues.mask(LIKELY) | (samples.suspects & ~samples.kept)
    out |= np.isin(rows, rows[out])  # a row can be several samples, which are trained on or left out together
    first = samples.first_of_row
    originals = samples.facts["equal_to"].tolist()
    return choose_core_set(
        LearningRecord.of(samples.states, samples.history),
        left_out=out,
        copy_of=np.array([first.get(row, index) for index, row in enumerate(originals)]),
        near_duplicate=samples.issues.mask(NEAR_DUPLICATE) | samples.issues.mask(DUPLICATE),
        share=share,
    )


def rows_of_set(samples: Samples, chosen: CoreSet, kind: str) -> set[int]:
    """Row numbers of a core set, or of the random set of its size; `kind` is one of SUBSETS."""
    rows = samples.facts["row"]
    core = np.unique(rows[chosen.ids])
    found = (
        core
        if kind == CORE_SET
        else random_set(np.unique(rows[chosen.candidates]), len(core), samples.config.training.seed)
    )
    return set(found.tolist())


def subset_file(samples: Samples, kept: set[int], kind: str) -> SubsetFile:
    """Where `write_subset` keeps a set of rows."""
    digest = blake2b(json.dumps(sorted(kept)).encode(), digest_size=4).hexdigest()
    path = samples.folder.path / f"{kind}-{len(kept)}-{digest}.json"
    return SubsetFile(path, kind, len(kept), len(set(samples.facts["row"].tolist())))


def write_subset(samples: Samples, kept: set[int], kind: str) -> Subset:
    """Write the file that a run on the rows `kept` begins with.

    Raises:
        RunError: the disk refuses. DataError: the flags that the run was started with cannot be read.
    """
    file = subset_file(samples, kept, kind)
    before = {row + 1 for row in rows_to_exclude(samples.folder.config_with_saved_flags().data, EXCLUDE)}
    left_out = (set(samples.facts["row"].tolist()) - kept) | before
    try:
        replace_json(file.path, {"rows": sorted(left_out), "kind": kind, "kept": file.kept, "of": file.of})
    except OSError as error:
        raise RunError(f"The set cannot be saved ({error.strerror}): free some space on the disk.") from error
    return file.as_subset


def choose_subset(samples: Samples, kind: str, share: float | None) -> Subset:
    """Choose the core set of a run, or the random set of its size, and write the file that a run on it begins with.

    Args:
        samples: of the run. kind: one of SUBSETS. share: as for `core_set`.

    Raises:
        RunError, DataError: as for `core_set` and `write_subset`.
    """
    return write_subset(samples, rows_of_set(samples, core_set(samples, share), kind), kind)


def write_core_set(samples: Samples, chosen: CoreSet, path: Path) -> tuple[int, int]:
    """Write the rows of a core set to `path`, as `write_dataset` writes all; returns what that returns."""
    return write_dataset(samples, path, rows_of_set(samples, chosen, CORE_SET))


def read_subset(path: Path) -> SubsetFile | None:
    """What `write_subset` wrote; None for any other file."""
    return _subset_in(path, file_version(path))


@lru_cache(maxsize=64)
def _subset_in(path: Path, _version: str) -> SubsetFile | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kind, kept, of = found["kind"], found["kept"], found["of"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    is_whole = kind in SUBSETS and type(kept) is int and type(of) is int and 0 < kept <= of
    return SubsetFile(path, kind, kept, of) if is_whole else None


def runs_on(root: Path, files: Iterable[Path]) -> list[RunFolder]:
    """The complete runs in `root` that were started with one of the files of sets; the newest first.

    Sets of two runs can have files of the same name: a file is known by its folder, too. A page asks with every poll, so the folder
    is listed anew only when one is added or gone, and a configuration read anew only when it changes.

    Args:
        root: folder of the runs. files: paths such as runs/20260101-120000-model/core_set-120-0a1b2c3d.json.
    """
    wanted = {file.resolve() for file in files}
    if not wanted:
        return []
    folders = [RunFolder(path) for path in _folders_in(root, file_version(root))]
    return [folder for folder in folders if _set_of(folder) in wanted and _is_complete(folder)]


@lru_cache(maxsize=8)
def _folders_in(root: Path, _version: str) -> Sequence[Path]:
    """All folders in `root`, also those that are no runs (yet), the newest run first."""
    return tuple(sorted((path for path in root.iterdir() if path.is_dir()), reverse=True))


def _set_of(folder: RunFolder) -> Path | None:
    """The file of a set that a run was started with; None for other runs."""
    return _set_named_in(folder.config_path, file_version(folder.config_path))


@lru_cache(maxsize=4096)
def _set_named_in(config_path: Path, _version: str) -> Path | None:
    text = _text(config_path)
    if not any(f"{kind}-" in text for kind in SUBSETS):  # most runs have none: their configuration need not be parsed
        return None
    try:
        row_flags = RunFolder(config_path.parent).config().data.row_flags
        return expand(row_flags).resolve() if row_flags else None
    except (GekoError, OSError, ValueError):  # the latter two for a path that no system has
        return None


def _is_complete(folder: RunFolder) -> bool:
    return (status := folder.status()) is not None and status.end == "complete"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
