"""The errors that a user can cause. Knows nothing else of the engine.

GekoError
├── ConfigError       a setting is unknown, of the wrong type or out of range
├── DataError         rows that cannot be read, rendered or trained on
├── ModelError        a model or tokenizer that cannot be loaded or adapted
├── CheckpointError   a checkpoint that is incomplete, damaged or of another run
└── RunError          a run that cannot start or go on (folder, disk, device)

Each carries `problems`: (field, message) pairs, where field is the dotted name of the setting that the
user can change ("training.num_epochs"), or "" where none is to blame. The page shows each message at its field.
"""

from __future__ import annotations

from collections.abc import Sequence


class GekoError(Exception):
    """A problem that the user can solve; its text names the value and the way out.

    Args:
        message: what is wrong and what to do, in one or two sentences.
        field: dotted name of the setting to change, or "".
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.problems: list[tuple[str, str]] = [(field, message)]

    @classmethod
    def from_problems(cls, problems: Sequence[tuple[str, str]]) -> GekoError:
        """One error that carries several problems, so that a form can mark all its fields at once."""
        error = cls("\n".join(f"{field}: {text}" if field else text for field, text in problems), problems[0][0])
        error.problems = list(problems)
        return error


class ConfigError(GekoError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(GekoError):
    """Rows that cannot be read, rendered or trained on."""


class ModelError(GekoError):
    """A model or tokenizer that cannot be loaded or adapted."""


class CheckpointError(GekoError):
    """A checkpoint that is incomplete, damaged or belongs to another run."""


class RunError(GekoError):
    """A run that cannot start or go on: folder, disk or device."""


class Stopped(Exception):
    """The user asked for a stop inside a long piece of work; not an error."""
