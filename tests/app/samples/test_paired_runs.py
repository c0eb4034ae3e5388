"""Two runs compared on their evaluation rows: read once for each version of the files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from geko_app.samples.paired_runs import paired_difference
from geko_engine.runs.evaluation_scores import save
from geko_engine.runs.folder import RunFolder


def evaluated(path: Path, right: int) -> RunFolder:
    folder, rows = RunFolder(path), np.arange(20)
    folder.path.mkdir(exist_ok=True)
    save(
        folder.evaluation_path,
        digest=rows.astype(np.uint64),
        loss_sum=np.ones(20),
        targets=np.ones(20),
        correct=rows < right,
        step=1,
    )
    return folder


def gain(first: RunFolder, second: RunFolder) -> float | None:
    found = paired_difference(first, second)
    return None if found is None else round(found.exact_match.value, 6)


def test_evaluations_are_read_again_only_when_they_have_changed(tmp_path: Path) -> None:
    first, second = evaluated(tmp_path / "first", 5), evaluated(tmp_path / "second", 10)
    assert (gain(first, second), gain(second, first)) == (0.25, -0.25)
    known = second.evaluation_path.stat()
    with second.evaluation_path.open("r+b") as file:  # not to be noticed: whoever reads it again finds nothing
        file.write(b"\0" * known.st_size)
    os.utime(second.evaluation_path, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert gain(first, second) == 0.25
    evaluated(second.path, 15)
    assert gain(first, second) == 0.5


def test_a_run_without_an_evaluation_is_compared_once_it_has_one(tmp_path: Path) -> None:
    first, second = evaluated(tmp_path / "first", 5), RunFolder(tmp_path / "second")
    assert gain(first, second) is None
    assert gain(first, evaluated(second.path, 5)) == 0.0
