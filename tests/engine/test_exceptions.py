"""The errors that a user can solve: their family, and the one test for running out of memory."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from geko_app.workers.inference_worker import unexpected_error
from geko_engine.exceptions import CheckpointError, CheckpointNotFoundError, ConfigError, is_out_of_memory
from geko_engine.training.checkpoint_files import read_manifest


def caused_by(cause: Exception) -> Exception:
    error = RuntimeError("the step failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("No executable batch size found, reached zero."), True),
        (caused_by(MemoryError()), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_running_out_of_memory_is_decided_in_one_place(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
    assert unexpected_error(error).startswith("Memory ran out") is expected


def test_errors_are_of_pythons_families_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too low") as invalid:
        raise ConfigError("The value is too low.", "training.num_epochs")
    assert invalid.value.problems == [("training.num_epochs", "The value is too low.")]  # type: ignore[attr-defined]
    with pytest.raises(FileNotFoundError, match="no whole checkpoint") as missing:
        read_manifest(tmp_path / "nothing")
    assert isinstance(missing.value, CheckpointNotFoundError) and isinstance(missing.value, CheckpointError)
    assert missing.value.errno is None and str(missing.value).startswith(repr(str(tmp_path / "nothing")))
