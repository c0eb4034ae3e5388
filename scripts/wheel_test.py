"""Builds wheel and sdist, looks into them, and uses the wheel as a stranger would: `make wheel-test`.

Two new virtual environments: one with the build tools, and an empty one that gets the wheel alone, with the versions of
constraints.txt. Demo and page run in a folder outside of the repository. Each step prints a line; the first thing that
is wrong ends it with exit code 1. Needs a package index; knows none by name.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("build>=1.2", "twine>=6.1", "uv>=0.8")
PYTHONS = ("3.11.9", "3.12.9", "3.13.9", "3.14.2")
ADDRESS = "https://example.org/geko"  # a stand-in: what is tested is that every link begins with it
SDIST = {"geko_engine", "geko_app", "assets", "hatch_build.py", "constraints.txt", "CHANGELOG.md", "README.md"}
SDIST |= {"LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}  # hatchling adds the last two
NOT_SHIPPED = (".png", ".jpg", ".ipynb", ".d.ts", ".pyc")
SHORT = ("--set", "data.sample_count=256", "--set", "data.eval_count=64", "--set", "training.num_epochs=1")
ANSWER_SECONDS = 120


class Wrong(Exception):
    """Something that the package must have is not there."""


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only-build", action="store_true", help="build and look, install nothing else")
    only_build = parser.parse_args().only_build
    with tempfile.TemporaryDirectory(prefix="geko-wheel-") as name:
        folder = Path(name)
        try:
            wheel, sdist, tools = build(folder)
            check_wheel(wheel)
            check_sdist(sdist)
            check_metadata(wheel, sdist, tools)
            if not only_build:
                check_extras(wheel, tools)
                used_as_a_stranger(wheel, folder)
        except Wrong as error:
            print(f"wheel-test: {error}", file=sys.stderr)
            return 1
    return 0


# ------------------------------------------------------------ building
def build(folder: Path) -> tuple[Path, Path, Path]:
    """(wheel, sdist, folder of the build tools' commands); the wheel is built from the sdist."""
    tools = new_environment(folder / "tools", *TOOLS)
    made = folder / "dist"
    run([tools / "python", "-m", "build", "--outdir", made, ROOT], env={**os.environ, "GEKO_REPOSITORY": ADDRESS})
    (wheel,), (sdist,) = made.glob("*.whl"), made.glob("*.tar.gz")
    said(
        f"built {wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB) and {sdist.name} ({sdist.stat().st_size / 1e6:.1f} MB)"
    )
    return wheel, sdist, tools


def new_environment(folder: Path, *packages: str | Path) -> Path:
    """The folder of the commands of a new virtual environment with `packages`."""
    venv.create(folder, with_pip=True)
    commands = folder / ("Scripts" if os.name == "nt" else "bin")
    run([commands / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    return commands


# ------------------------------------------------------------ contents and metadata
def check_wheel(wheel: Path) -> None:
    """Every file of both packages and the demo, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = run(["git", "-C", ROOT, "ls-files", "geko_engine", "geko_app", "assets/demo"]).split("\n")
    wanted = {f.replace("assets/demo/", "geko_engine/demo_files/") for f in listed if f and not f.endswith(".d.ts")}
    check_same(wheel.name, found, wanted)


def check_sdist(sdist: Path) -> None:
    """What the wheel is built from, and neither tests nor pictures."""
    with tarfile.open(sdist) as archive:
        names = [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]
    found = {name.split("/")[0] for name in names}
    check_same(sdist.name, found, SDIST)
    unwanted = sorted(name for name in names if name.endswith(NOT_SHIPPED[:3]) or "/tests/" in f"/{name}")
    if unwanted:
        raise Wrong(f"{sdist.name} has files that are not needed: {', '.join(unwanted)}.")


def check_same(where: str, found: set[str], wanted: set[str]) -> None:
    """Raise Wrong with the differences of two sets of names."""
    missing, more = sorted(wanted - found), sorted(found - wanted)
    if missing or more:
        raise Wrong(
            f"{where} lacks {', '.join(missing) or 'nothing'}, and should not have {', '.join(more) or 'anything'}."
        )
    said(f"{where} has what it should have: {len(found)} names")


def check_metadata(wheel: Path, sdist: Path, tools: Path) -> None:
    """twine renders the README; no link of it is relative; the addresses are those of the repository."""
    run([tools / "python", "-m", "twine", "check", "--strict", wheel, sdist])
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        facts = Parser().parsestr(archive.read(name).decode("utf-8"))
    readme = str(facts.get_payload())
    relative = [line for line in readme.splitlines() if "](docs/" in line or line.startswith("---")]
    if relative or f"]({ADDRESS}/" not in readme:
        raise Wrong(f"The README for the index has links to files: {relative}.")
    urls = facts.get_all("Project-URL") or []
    if len(urls) < 4 or not all(url.split(", ")[1].startswith(ADDRESS) for url in urls):
        raise Wrong(f"The project's addresses are not those of the repository: {urls}.")
    said(f"twine check passed; {len(urls)} project addresses; no relative link in the README")


def check_extras(wheel: Path, tools: Path) -> None:
    """On every Python all extras together have a solution of wheels in constraints.txt, so each alone has one, too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = ",".join(project["optional-dependencies"])
    for python in PYTHONS:
        command = [tools / "uv", "pip", "compile", "--quiet", "--no-config", "--python-version", python]
        command += ["--only-binary", ":all:", "--constraints", ROOT / "constraints.txt", "-"]
        run(command, typed=f"geko-finetune[{extras}] @ {wheel.as_uri()}")
        said(f"Python {python}: every extra can be installed from wheels")


# ------------------------------------------------------------ as a stranger
def used_as_a_stranger(wheel: Path, folder: Path) -> None:
    """Install the wheel with the page into an empty environment; train the demo, and open the page."""
    constraints = ("-c", str(ROOT / "constraints.txt"))
    commands = new_environment(folder / "empty", *constraints, f"geko-finetune[app] @ {wheel.as_uri()}")
    away = folder / "elsewhere"
    away.mkdir()
    where = run([commands / "python", "-c", "import geko_engine; print(geko_engine.__file__)"], cwd=away).strip()
    if not Path(where).is_relative_to(folder):
        raise Wrong(f"The package that is used is not the installed one: {where}.")
    run([commands / "geko-train", "--demo", *SHORT], cwd=away)
    (trained,) = (away / "runs").iterdir()
    report = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    if report["end"] != "complete" or not (trained / "model" / "model.safetensors").is_file():
        raise Wrong(f"The demo did not end as it should: {report['end']}.")
    said(f"geko-train --demo: {report['steps']} steps, {report['end']}")
    run([commands / "geko-export", "--help"], cwd=away)
    with page(commands, away) as ask:
        shown = json.loads(ask("config"))
        if shown["title"] != "GEKO" or len(shown["components"]) < 50:
            raise Wrong(f"The page lacks most of its parts: {shown['title']}, {len(shown['components'])} of them.")
    said("geko-app: the page answered, and ended at SIGTERM")


@contextmanager
def page(commands: Path, folder: Path) -> Iterator[Callable[[str], str]]:
    """geko-app in `folder` while the block runs; gives a function from a path to the text of the answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "page.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [commands / "geko-app", "--port", str(port)], cwd=folder, stdout=output, stderr=output
        )

    def ask(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=30) as answer:
            return str(answer.read().decode("utf-8"))

    try:
        wait_for(ask, server, log)
        yield ask
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    if code != 0:
        raise Wrong(f"geko-app ended with exit code {code}: {log.read_text(encoding='utf-8')}")


def wait_for(ask: Callable[[str], str], server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the page answers; raise Wrong if it ends or takes too long."""
    for _ in range(ANSWER_SECONDS * 5):
        try:
            ask("")
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        try:
            server.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
        break
    raise Wrong(f"geko-app did not answer: {log.read_text(encoding='utf-8')}")


# ------------------------------------------------------------ helpers
def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    typed: str = "",
    code: int = 0,
) -> str:
    """What a command printed.

    Args:
        command: and its arguments.
        cwd: its folder.
        env: its environment, that of this process by default.
        typed: its standard input.
        code: the exit code that it must end with.

    Raises:
        Wrong: it ended with another one.
    """
    environment = {name: value for name, value in (env or os.environ).items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != code:
        shown = " ".join(str(part) for part in command)
        raise Wrong(f"{shown} ended with exit code {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def said(sentence: str) -> None:
    """Print a step that is done."""
    print(f"wheel-test: {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
