"""The errors that a user can solve, and which errors mean that memory ran out or a process is gone. Imports nothing of the engine.

GekoError
├── ConfigError (ValueError)    a setting is unknown, of the wrong type or out of range
├── DataError                   rows that cannot be read, rendered or trained on
├── ModelError                  a model or tokenizer that cannot be loaded or adapted
├── CheckpointError             a checkpoint that is incomplete, damaged or of another run
│   └── CheckpointNotFoundError (FileNotFoundError)   there is no checkpoint in the folder
├── RunError                    a run that cannot start or continue (folder, disk, device)
│   └── RunLockedError          another process writes this run
└── ExportError                 a model that cannot be merged, converted or pushed

Each carries `problems`: (field, message) pairs, where field is the dotted name of the setting to change
("training.num_epochs"), or "" if no setting is to blame. The page shows each message at its field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# torch on GPU and CPU, and accelerate after it has tried every batch size
OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|No executable batch size", re.IGNORECASE)

# torch with gloo and with NCCL, once a process at the other end is gone
CONNECTION_LOST = re.compile(
    "gloo/transport|Connection (closed|reset) by (remote )?peer|remote process exited|NCCL communicator was aborted",
    re.IGNORECASE,
)


class GekoError(Exception):
    """A problem that the user can solve. Its message names the value and what to do.

    Args:
        message: what is wrong and what to do, in one or two sentences.
        field: dotted name of the setting to change, or "".

    Attributes:
        problems: (field, message) of each problem; several if a form has several wrong fields.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.problems: list[tuple[str, str]] = [(field, message)]

    @classmethod
    def from_problems(cls, problems: Sequence[tuple[str, str]]) -> GekoError:
        """One error for several (field, message) pairs, so that a form can mark all fields at once.

        Args:
            problems: at least one pair.
        """
        error = cls("\n".join(f"{field}: {text}" if field else text for field, text in problems), problems[0][0])
        error.problems = list(problems)
        return error


class ConfigError(GekoError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(GekoError):
    """Rows that cannot be read, rendered or trained on."""


class ModelError(GekoError):
    """A model or tokenizer that cannot be loaded or adapted."""


class CheckpointError(GekoError):
    """A checkpoint that is incomplete, damaged or belongs to another run."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no checkpoint in the folder."""


class RunError(GekoError):
    """A run that cannot start or continue: folder, disk or device."""


class RunLockedError(RunError):
    """Another process writes this run."""


class ExportError(GekoError):
    """A model that cannot be merged, converted or pushed."""


class Stopped(Exception):
    """The user requested a stop during a long operation. Not an error."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether `error`, or an error that caused it, means that GPU or main memory ran out.

    The one place that decides this. torch's OutOfMemoryError is recognized by its name, so that torch is not imported.
    """
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if OUT_OF_MEMORY.search(str(error)):
            return True
        error = error.__cause__
    return False


def is_connection_lost(error: BaseException) -> bool:
    """Whether `error` means that another process of the run no longer answers."""
    return bool(CONNECTION_LOST.search(str(error)))
