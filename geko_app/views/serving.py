"""The commands that serve a run's model with other programs, or what has to be exported first. Pure but for looking at files."""

from __future__ import annotations

import re
import shlex
from typing import Any

from geko_engine.runs.folder import RunFolder

MERGE_FIRST = "This run saved an adapter. Export it first with “Merge into one model”, then the command is here."
MODELFILE_FIRST = "Ollama takes a GGUF file. Export it first with “GGUF and Modelfile”, then the commands are here."
NO_MODEL = "The run has not saved a model yet: only the model at its end can be served."
PROGRAMS = (("vLLM", "vllm serve {}"), ("transformers", "transformers serve {}"))


def serving(folder: RunFolder) -> list[dict[str, Any]]:
    """What the Playground offers to serve a run's model with.

    Args:
        folder: of the run.

    Returns:
        program, commands ("" where there are none yet), hint, and export: the target to export first, or "". Every path in
        a command is that of a file or folder that is there.
    """
    whole = (folder.model_path / "config.json").is_file()
    adapter = (folder.model_path / "adapter_config.json").is_file()
    merged = folder.exports_path / "merged"
    served = merged if (merged / "config.json").is_file() else folder.model_path if whole and not adapter else None
    if not whole and not adapter:
        return [_program(name, hint=NO_MODEL) for name in (*(name for name, _ in PROGRAMS), "Ollama")]
    found = [
        _program(name, command.format(shlex.quote(str(served.resolve()))))
        if served
        else _program(name, hint=MERGE_FIRST, export="merged")
        for name, command in PROGRAMS
    ]
    return [*found, _ollama(folder)]


def _ollama(folder: RunFolder) -> dict[str, Any]:
    modelfile = folder.exports_path / "ollama" / "Modelfile"
    if not modelfile.is_file():
        return _program("Ollama", hint=MODELFILE_FIRST, export="ollama")
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.id.split("-", 2)[-1].lower()).strip("-.")
    return _program("Ollama", f"ollama create {name} -f {shlex.quote(str(modelfile.resolve()))}\nollama run {name}")


def _program(name: str, commands: str = "", hint: str = "", export: str = "") -> dict[str, Any]:
    return {"program": name, "commands": commands, "hint": hint, "export": export}
