"""Every benchmark of this version, one after the other.

python -m benchmarks [--data FOLDER] [--small] [--list]

In full, these are the commands that stand beside the figures of docs/results.md, and the rest of those of benchmarks/README.md:
many hours; what `savings`, `auto` and `replay` have recorded is not run again. With --small each runs once in its small version. A
command that fails does not keep the others from running; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.report import PAGE

README = Path(__file__).parent / "README.md"
COMMAND = re.compile(r"python -m (benchmarks\.\w+)([^`\n#]*)")
FOLDER = "FOLDER"  # stands for that of --data in the documents
NEEDS_DATA = "needs --data"
NEEDS_GPU = "needs a GPU"
NO_SMALL = {"benchmarks.plots"}
MEASURE_NOTHING = {"benchmarks.report", "benchmarks.long_base", "benchmarks.smollm2"}


@dataclass(frozen=True)
class Command:
    """A module of this package, and its arguments."""

    module: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return shlex.join(["python", "-m", self.module, *self.arguments])

    @property
    def needs_data(self) -> bool:
        return FOLDER in self.arguments

    def on(self, folder: str | None) -> Command:
        """The same with the folder of the real rows in its place."""
        return Command(self.module, tuple(folder or one if one == FOLDER else one for one in self.arguments))

    def why_not(self, folder: str | None) -> str:
        """Why it cannot run here, or ""."""
        if self.needs_data and not folder:
            return NEEDS_DATA
        if self.module == "benchmarks.gpu" and not torch.cuda.is_available():
            return NEEDS_GPU
        return ""


def commands_in(text: str) -> list[Command]:
    """Every command of the benchmarks in a Markdown text, once, in its order."""
    joined = text.replace("\\\n", " ")
    found = [Command(module, tuple(shlex.split(rest.strip(" ()")))) for module, rest in COMMAND.findall(joined)]
    return list(dict.fromkeys(command for command in found if command.module not in MEASURE_NOTHING))


def in_full() -> list[Command]:
    """Those of docs/results.md, and those of the README whose module is not among them; `plots` last, as it draws them."""
    published = commands_in(PAGE.read_text(encoding="utf-8"))
    modules = {command.module for command in published}
    found = published + [c for c in commands_in(README.read_text(encoding="utf-8")) if c.module not in modules]
    return sorted(found, key=lambda command: command.module in NO_SMALL)


def in_small() -> list[Command]:
    """Each module of the README once, in its small version."""
    commands = commands_in(README.read_text(encoding="utf-8"))
    return [c if c.module in NO_SMALL else Command(c.module, (*c.arguments, "--small")) for c in commands]


def run_all(commands: Iterable[Command], folder: str | None) -> list[str]:
    """Run them; a line for each: how it ended, after how many seconds."""
    lines = []
    for command in commands:
        why = command.why_not(folder)
        if why:
            lines.append(f"left out ({why}): {command}")
            continue
        wanted, began = command.on(folder), time.monotonic()
        print(f"\n$ {wanted}", flush=True)
        code = subprocess.run([sys.executable, "-m", wanted.module, *wanted.arguments], check=False).returncode
        end = f"failed with exit code {code}" if code else "done"
        lines.append(f"{end} after {time.monotonic() - began:.0f} s: {wanted}")
    return lines


def main() -> int:
    """Entry of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with the real rows (see real_data.py)")
    parser.add_argument("--small", action="store_true", help="quick versions, into results/small")
    parser.add_argument("--list", action="store_true", help="print the commands, and run none")
    options = parser.parse_args()
    commands = in_small() if options.small else in_full()
    if options.list:
        print("\n".join(str(command.on(options.data)) for command in commands))
        return 0
    lines = run_all(commands, options.data)
    print("\n" + "\n".join(lines))
    return int(any(line.startswith("failed") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
