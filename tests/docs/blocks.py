"""The code blocks of a Markdown file, and how they are run: files written, Python and shell commands executed.

A block with a title, ```yaml title="run.yaml", is written to a file of that name, so that later blocks can use it.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
DEMO_MODEL = ROOT / "assets" / "demo" / "model"
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=indent)```[ \t]*$", re.MULTILINE | re.DOTALL
)
TITLE = re.compile(r'title="([^"]+)"')
# Tests have no network: the small model that ships with GEKO stands in for one of the Hub.
REPLACED = {"HuggingFaceTB/SmolLM2-135M": str(DEMO_MODEL)}
# Of the 10,000 samples of the demo a test needs a few.
SHORTER = " --set data.sample_count=64 --set data.eval_count=16"
NOT_RUN = {  # the beginning of a command: why it is not run here, and what tests it instead
    "pip ": "fetches packages; the extras are compared with pyproject.toml below",
    "docker ": "needs docker; scripts/container_check.py builds the image and runs it",
    "GEKO_APP_PASSWORD=choose-one docker ": "needs docker",
    "GEKO_API_TOKEN=choose-at-least-16-characters geko-app": "serves until it is stopped; tests/app/api start it",
    "ssh ": "needs another machine",
    "geko-app": "serves until it is stopped; tests/app/test_container.py and tests/browser start it",
    "GEKO_APP_PASSWORD=choose-one geko-app": "serves until it is stopped; tests/app/test_cli.py checks the password",
    "torchrun ": "tests/engine/training/test_exactness.py trains in two processes",
    "python -m tests.faults ": "takes ten minutes; tests/faults/test_campaign.py tries a fault of every kind",
    "geko-train --resume ": "needs a run that was cut off; tests/engine/test_cli.py resumes one",
}


@dataclass(frozen=True)
class Block:
    """One fenced block: language, title or "", text without its indentation, and the line it begins at."""

    language: str
    title: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return list(_blocks(text))


def _blocks(text: str) -> Iterator[Block]:
    for found in FENCE.finditer(text):
        title = TITLE.search(found["info"])
        language = (found["info"].split() or [""])[0]
        line = text.count("\n", 0, found.start()) + 1
        yield Block(language, title[1] if title else "", textwrap.dedent(found["body"]), line)


def commands_of(block: Block) -> list[str]:
    """The commands of a shell block, one each, continued lines joined, comments left out."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def why_not_run(command: str) -> str:
    """The reason in NOT_RUN, or ""."""
    return next((reason for beginning, reason in NOT_RUN.items() if command.startswith(beginning.strip())), "")


def run_page(page: Path, folder: Path) -> None:
    """Write the files and run the code of a page in `folder`, as a reader would from its top to its end."""
    for language, group in groupby(blocks_of(page), key=lambda block: block.language):
        mine = list(group)
        for block in mine:
            if block.title:
                (folder / block.title).write_text(_replaced(block.text), encoding="utf-8")
        if language == "python":  # one after the other in one process, as in a notebook
            _run([sys.executable, "-c", _replaced("\n".join(block.text for block in mine))], folder, mine[0].line)
        elif language == "sh":
            for block in mine:
                _run_shell(block, folder)


def _run_shell(block: Block, folder: Path) -> None:
    for command in commands_of(block):
        if why_not_run(command):
            continue
        if command.startswith("make "):
            _run(["make", "--dry-run", *command.split()[1:]], ROOT, block.line)
        elif command.startswith("python -m benchmarks."):
            _check_benchmark(command)
        else:
            shorter = SHORTER if command.startswith("geko-train --demo") else ""
            _run(["bash", "-euo", "pipefail", "-c", _replaced(command) + shorter], folder, block.line)


def _check_benchmark(command: str) -> None:
    """Its arguments are those that the benchmark takes; nothing is measured, that would take hours."""
    _, _, module, *arguments = shlex.split(command)
    with patch.object(sys, "argv", [module, *arguments, "--help"]), redirect_stdout(StringIO()) as said:
        try:
            importlib.import_module(module).main()
        except SystemExit as end:
            assert end.code == 0, command
    assert "usage:" in said.getvalue()


def _replaced(text: str) -> str:
    for name, stand_in in REPLACED.items():
        text = text.replace(name, stand_in)
    return text


def environment(folder: Path) -> dict[str, str]:
    """Offline, on the CPU, with this checkout's packages and a cache of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **quiet, "PATH": path, "HF_HOME": str(folder / ".hub")}


def _run(command: list[str], folder: Path, line: int) -> None:
    assert shutil.which(command[0]), command[0]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"line {line}: {command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
