"""The checks of a form before a start: folders that a page may use, then names and files in a process with limits.

The page's process itself reads no file that a form names. Knows no page.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from geko_app.form.roots import AllowedRoots, paths_of
from geko_app.hardware import visible_gpus
from geko_app.runs.lanes import gpu_words
from geko_app.workers.process_limits import most_of_free_memory
from geko_engine.config.declaration import Problem
from geko_engine.config.run_config import RunConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.preflight.checks import preflight

CHECK_COMMAND = (sys.executable, "-P", "-m", "geko_app.workers.check_worker")
MEMORY = 4 << 30  # bytes
SECONDS = 30
MAX_ACTIVE = 2  # further ones wait


class FormChecks:
    """Finds what is wrong with the names, files and folders of a configuration.

    Args:
        roots: folders that its paths must lie in.
        command: starts a check worker; its limits are appended.
        memory: bytes that the worker may use, and no more than most of what is free.
        seconds: that it may take.
    """

    def __init__(
        self,
        roots: AllowedRoots | None = None,
        *,
        command: Sequence[str] = CHECK_COMMAND,
        memory: int = MEMORY,
        seconds: int = SECONDS,
    ) -> None:
        self.roots = roots or AllowedRoots()
        self._command, self._memory, self._seconds = tuple(command), memory, seconds
        self._slots = threading.BoundedSemaphore(MAX_ACTIVE)

    def __call__(self, config: RunConfig) -> list[Problem]:
        """(dotted field, message) of every problem; none if a run can start."""
        outside = self.roots.problems(config)
        if outside:
            return outside  # what lies there is not even looked for
        if not any(field != "output_dir" for field in paths_of(config)):
            found = preflight(config)  # names only
        else:
            found = self._in_worker(config)
        return [*gpu_problems(config.training, len(visible_gpus())), *found]

    def _in_worker(self, config: RunConfig) -> list[Problem]:
        asked = json.dumps(config.to_dict()).encode()
        command = [*self._command, str(min(self._memory, most_of_free_memory())), str(self._seconds)]
        try:
            with self._slots:
                done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, timeout=self._seconds, check=False)
        except subprocess.TimeoutExpired as error:
            return read_answer(error.stdout or b"", f"took longer than {self._seconds} s", config)
        except OSError as error:
            sentence = (
                f"The files cannot be checked, because no process can be started ({error.strerror}): try again later."
            )
            return [("data.train", sentence)]
        return read_answer(done.stdout, describe_end(done.returncode), config)


def gpu_problems(args: GEKOTrainingArgs, count: int) -> list[Problem]:
    """What is wrong with the GPUs that a run names.

    Args:
        args: of the run, and valid.
        count: of the GPUs that runs of this page can use; 0 where nvidia-smi lists none, and nothing is known.
    """
    missing = [int(gpu) for gpu in args.gpus if int(gpu) >= count]
    if not count or not missing:
        return []
    there = "are" if len(missing) > 1 else "is"
    sentence = f"There {there} no {gpu_words(missing)} here: runs of this page can use {gpu_words(range(count))}."
    return [("training.gpu_ids", sentence)]


def describe_end(code: int) -> str:
    """How a check worker ended, for `read_answer`."""
    if code < 0:
        return f"ended the process that reads it ({signal.Signals(-code).name})"
    return f"ended with exit code {code}, as the terminal of the page says"


def read_answer(answer: bytes, end: str, config: RunConfig) -> list[Problem]:
    """The problems in the lines of a check worker.

    Args:
        answer: what it wrote, to the end of the configuration or to its own.
        end: how it ended, for the check that it did not answer.
        config: that was checked.
    """
    found: list[Problem] = []
    field = ""
    for line in answer.decode().splitlines():
        if not line:
            return found
        values = json.loads(line)
        if "field" in values:
            field = values["field"]
        elif values["problem"]:
            found.append((field, values["problem"]))
    what = paths_of(config).get(field, Path("The check"))
    return [
        *found,
        (field or "data.train", f"{str(what)!r} {end}: it is damaged or too large. Write it again, or another way."),
    ]
