"""Checkpoints whose checksums are right and whose content is not: one sentence, and no code of theirs is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geko_engine.exceptions import CheckpointError
from geko_engine.training.checkpoint_files import MANIFEST, write_checkpoint
from tests.engine.training.test_trainer import trainer_for

READ_BY_LOAD = "weights.safetensors", "states.pt", "policy.safetensors"


class Hostile:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "checkpoint-0"
    trainer_for(path.parent).save_checkpoint(path)
    return path


def forged(source: Path, target: Path, change: Callable[[dict[str, Any], Path], None]) -> Path:
    """A copy with something changed and all checksums made anew."""
    facts = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    facts = {name: value for name, value in facts.items() if name not in ("files", "checksum")}
    files = target.parent / "files"
    files.mkdir()
    for name in READ_BY_LOAD:
        (files / name).write_bytes((source / name).read_bytes())
    change(facts, files)
    write_checkpoint(target, lambda folder: shutil.copytree(files, folder, dirs_exist_ok=True) and None, facts)
    return target


def test_a_checkpoint_runs_no_code_of_its_own(saved: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"

    def change(facts: dict[str, Any], folder: Path) -> None:
        torch.save({"optimizer": Hostile(made), "random": []}, folder / "states.pt")

    path = forged(saved, tmp_path / "checkpoint-0", change)
    with pytest.raises(CheckpointError, match=r"cannot be read \(UnpicklingError"):
        trainer_for(tmp_path).load_checkpoint(path)
    assert not made.exists()
    pickle.loads(pickle.dumps(Hostile(made)))  # it would have
    assert made.exists()


CHANGES: dict[str, Callable[[dict[str, Any], Path], object]] = {
    "weights are no tensors": lambda facts, folder: (folder / "weights.safetensors").write_bytes(b"\x00" * 100),
    "states are text": lambda facts, folder: (folder / "states.pt").write_bytes(b"text"),
    "states are empty": lambda facts, folder: torch.save({}, folder / "states.pt"),
    "policy is no record": lambda facts, folder: (folder / "policy.safetensors").write_bytes(b""),
    "no state": lambda facts, folder: facts.pop("state"),
    "a state of another type": lambda facts, folder: facts.update(state=[1]),
    "an unknown field": lambda facts, folder: facts["state"].update(surprise=1),
    "no policy": lambda facts, folder: facts.update(policy={}),
    "no identity": lambda facts, folder: facts.pop("identity"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_checkpoint_inside_is_one_sentence(name: str, saved: Path, tmp_path: Path) -> None:
    path = forged(saved, tmp_path / "checkpoint-0", lambda facts, folder: CHANGES[name](facts, folder) and None)
    with pytest.raises(CheckpointError, match=r"cannot be read \(.*\): resume from another one\."):
        trainer_for(tmp_path).load_checkpoint(path)
