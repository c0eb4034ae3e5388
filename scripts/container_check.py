"""Builds the image and tries what docs/deploy.md says of it, with docker or podman: `make container-check`.

A run as another user on a read-only root without a network, SIGTERM, a restart that goes on with the run. The container is
asked through its own Python and the REST API, so no port is opened. Each step is a line of a Markdown log; the first one that
fails ends the check with exit code 1. What follows `--` is given to the build.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NAME, TOKEN = "geko-container-check", "a-token-for-this-check-only"
BASE = "docker.io/library/debian:bookworm-slim"
USER = "12345:12345"
LIMIT = 300  # seconds that a step may take
ASK = """
import json, sys, urllib.request
method, path, token, body = sys.argv[1:]
request = urllib.request.Request("http://127.0.0.1:7860/api/v1" + path, method=method, data=body.encode() or None)
request.add_header("Authorization", "Bearer " + token)
request.add_header("Content-Type", "application/json")
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
# The image for CUDA has compilers; that for the CPU has none, and GEKO says so.
COMPILE = """
import torch
from geko_engine.models.precision import missing_for_compilation
build = f"{torch.__version__}, CUDA {torch.version.cuda}"
missing = missing_for_compilation()
if torch.version.cuda and missing:
    raise SystemExit(missing)
if not missing:
    torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(3))
print(f"{build}; {'needs ' + missing if missing else 'compiled'}")
"""
ALONE = (
    "--rm",
    "--network",
    "none",
    "--no-healthcheck",
)  # the check of the health is done by hand, also without systemd
RUN = {"demo": True, "config": {"data": {"sample_count": 400}, "training": {"num_epochs": 500, "num_processes": 1}}}


class Wrong(Exception):
    """A step did not do what it should."""


class Check:
    """The steps and their log.

    Args:
        engine: docker or podman.
        image: to try.
    """

    def __init__(self, engine: str, image: str) -> None:
        self._engine, self._image = engine, image
        self._lines: list[str] = []

    # ------------------------------------------------------------ helpers
    def call(self, *arguments: str, code: int | None = 0, typed: bytes = b"") -> str:
        """What a command of the engine printed.

        Args:
            arguments: of the engine.
            code: the exit code that it must end with; None for any but 0.
            typed: its standard input.
        """
        done = subprocess.run([self._engine, *arguments], input=typed, capture_output=True, check=False)
        printed = (done.stdout + done.stderr).decode("utf-8", "replace")
        if done.returncode == 0 if code is None else done.returncode != code:
            raise Wrong(f"{self._engine} {' '.join(arguments)} ended with {done.returncode}:\n{printed[-4000:]}")
        return done.stdout.decode("utf-8", "replace").strip()

    def step(self, title: str, action: Callable[[], str]) -> None:
        """Do it, and log how it went: `action` returns what was seen."""
        began = time.monotonic()
        seen = action()
        self._lines.append(f"| {title} | {seen} | {time.monotonic() - began:.0f} s |")
        print(f"container-check: {title}: {seen}", flush=True)

    def inside(self, *command: str, code: int | None = 0) -> str:
        """What a command inside of the running container printed."""
        return self.call("exec", NAME, *command, code=code)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of the page's API."""
        given = "" if body is None else json.dumps(body)
        return json.loads(self.inside("python", "-c", ASK, method, path, TOKEN, given))

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds; what cannot be asked yet does not hold."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            try:
                if holds():
                    return
            except Wrong:
                pass
            time.sleep(0.5)
        raise Wrong(f"Waited in vain for {what}:\n{self.call('logs', NAME)}")

    def markdown(self, notes: Sequence[str]) -> str:
        """The log, with what to know about it."""
        version = self.call("--version")
        head = f"{len(self._lines)} steps of `scripts/container_check.py` with {version}, on the CPU; all went as they should."
        return "\n".join(
            [head, *(f"\n{note}" for note in notes), "", "| Step | Seen | Time |", "|---|---|---|", *self._lines, ""]
        )

    # ------------------------------------------------------------ steps
    def build(self, options: Sequence[str]) -> None:
        """Build the image with further options."""
        self.step("build", lambda: self._built(options))

    def _built(self, options: Sequence[str]) -> str:
        self.call("build", "--tag", self._image, *options, str(ROOT))
        size = int(self.call("image", "inspect", "--format", "{{.Size}}", self._image))
        return f"{size / 1e9:.2f} GB"

    def contents(self) -> None:
        """Who runs in it, and what is not in it."""
        facts = json.loads(self.call("image", "inspect", self._image))[0]
        config = facts["Config"]
        if config["User"] != "1000:1000" or set(config["Volumes"]) != {"/runs", "/cache"}:
            raise Wrong(f"The image has user {config['User']!r} and volumes {config['Volumes']}.")
        entry = config["Entrypoint"]
        self.step("user, volumes, entry point", lambda: f"{config['User']}; /runs, /cache; {' '.join(entry)}")
        find = "find / -xdev \\( -path '*geko_*' -o -path '/build/*' \\) \\( -name '*.png' -o -name 'test_*.py' -o -name '.git' \\)"
        found = self.call("run", *ALONE, self._image, "sh", "-c", f"{find} 2>/dev/null || true")
        if found:
            raise Wrong(f"The image has files that it does not need: {found}.")
        self.step("no pictures, tests or history of GEKO inside", lambda: "none found")
        self.step("PyTorch, and a model that is compiled", lambda: self._alone("python", "-c", COMPILE))
        converter = self.call(
            "run", *ALONE, self._image, "sh", "-c", "python $LLAMA_CPP_DIR/convert_hf_to_gguf.py --help | head -1"
        )
        self.step("llama.cpp's converter starts", lambda: f"`{converter}`")

    def _alone(self, *command: str) -> str:
        """The last line that a command prints in a container of its own, with a folder to write to."""
        return self.call("run", *ALONE, "--tmpfs", "/cache:mode=1777,exec", self._image, *command).split("\n")[-1]

    def start(self) -> None:
        """Start the container as another user, with a read-only root and without a network."""
        options = ["--detach", "--name", NAME, "--user", USER, "--read-only", "--tmpfs", "/tmp", "--network", "none"]
        options += ["--no-healthcheck"]
        options += ["--volume", f"{NAME}-runs:/runs", "--volume", f"{NAME}-cache:/cache"]
        options += ["--env", "GEKO_APP_PASSWORD=a-password", "--env", f"GEKO_API_TOKEN={TOKEN}"]
        self.call("run", *options, self._image)
        self.until(lambda: self.ask("GET", "/runs")["total"] == 0, "the page")
        self.step("start with --user, --read-only, --network none", lambda: f"answers as uid {self.inside('id', '-u')}")
        for path in ("/opt/geko/x", "/home/geko/x", "/etc/x"):
            self.inside("touch", path, code=None)
        self.inside("touch", "/runs/.probe", "/cache/.probe", "/tmp/.probe")
        self.step("only the volumes and /tmp can be written", lambda: "/opt, /home and /etc refused")
        health = self._health()
        self.step("the health check", lambda: f"`{' '.join(health)[:60]}...` passes")

    def _health(self) -> list[str]:
        facts = json.loads(self.call("image", "inspect", self._image))[0]
        check = facts["Config"].get("Healthcheck") or facts.get("HealthCheck") or facts.get("Healthcheck")
        command = [str(part) for part in check["Test"][1:]]
        self.inside(*command)
        return command

    def train_stop_and_resume(self) -> None:
        """A run that SIGTERM stops, and that the next start of the container goes on with."""
        run = self.ask("POST", "/runs", RUN)["id"]
        self.until(lambda: (self.ask("GET", f"/runs/{run}")["steps"] or 0) >= 30, "thirty steps")
        self.step("a run", lambda: f"{self.ask('GET', f'/runs/{run}')['steps']} steps")
        self.step("SIGTERM", lambda: self._stopped(run))
        self.call("start", NAME)
        self.until(lambda: (self.ask("GET", f"/runs/{run}")["steps"] or 0) > self._steps, "further steps")
        state = self.ask("GET", f"/runs/{run}")
        self.step("restart", lambda: f"{state['state']}, at step {state['steps']} of the same run")
        started = [e for e in self._events(run) if e.get("type") == "RunStarted"]
        if started[-1]["resumed_from_step"] != self._steps:
            raise Wrong(f"The run went on from step {started[-1]['resumed_from_step']}.")
        self.ask("POST", f"/runs/{run}/stop")
        self.until(lambda: bool(self.ask("GET", f"/runs/{run}")["ended"]), "the stop")
        self.step("stop by the API", lambda: str(self.ask("GET", f"/runs/{run}")["state"]))
        self.step("SIGTERM without a run", self._ended)

    def _stopped(self, run: str) -> str:
        self.call("stop", "--time", "60", NAME)
        code = self.call("inspect", "--format", "{{.State.ExitCode}}", NAME)
        if code != "0":
            raise Wrong(f"The container ended with {code}: {self.call('logs', NAME)}")
        shown = self.call(
            "run", *ALONE, "--volume", f"{NAME}-runs:/runs", self._image, "cat", f"/runs/{run}/report.json"
        )
        report = json.loads(shown)
        self._steps = int(report["steps"])
        return f"exit code {code}; the run is {report['end']} at step {self._steps}, with a checkpoint"

    def _events(self, run: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.inside("cat", f"/runs/{run}/events.jsonl").splitlines()]

    def _ended(self) -> str:
        self.call("stop", "--time", "60", NAME)
        return f"exit code {self.call('inspect', '--format', '{{.State.ExitCode}}', NAME)}"

    def clean(self) -> None:
        """Remove the container and its volumes."""
        for arguments in (("rm", "--force", NAME), ("volume", "rm", "--force", f"{NAME}-runs", f"{NAME}-cache")):
            subprocess.run([self._engine, *arguments], capture_output=True, check=False)


def base_image(engine: str) -> None:
    """Make BASE from Debian's packages, where no registry of images can be reached."""
    with tempfile.TemporaryDirectory(prefix="geko-base-") as name:
        root = Path(name) / "root"
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root], check=True, stdout=subprocess.DEVNULL)
        archive = Path(name) / "root.tar"
        subprocess.run(["tar", "--create", "--file", archive, "--directory", root, "."], check=True)
        subprocess.run([engine, "import", archive, BASE], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", help="docker or podman (default: the one that is installed)")
    parser.add_argument("--image", help="image to try, which is not built then")
    parser.add_argument("--debootstrap", action="store_true", help="make the base image from Debian's packages first")
    parser.add_argument("--log", type=Path, help="file for the log, in Markdown")
    parser.add_argument("--note", action="append", default=[], help="what to know about the log; repeat it for more")
    parser.add_argument("build", nargs="*", help="after --: options of the build, such as --build-arg VARIANT=cpu")
    options = parser.parse_args()
    engine = options.engine or next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if engine is None:
        print("container-check: neither docker nor podman is installed.", file=sys.stderr)
        return 2
    check = Check(engine, options.image or "geko:check")
    check.clean()
    try:
        if options.debootstrap:
            base_image(engine)
        if not options.image:
            check.build(options.build)
        check.contents()
        check.start()
        check.train_stop_and_resume()
        if options.log:
            options.log.write_text(check.markdown(options.note), encoding="utf-8")
    except (Wrong, subprocess.CalledProcessError) as error:
        print(f"container-check: {error}", file=sys.stderr)
        return 1
    finally:
        check.clean()
    return 0


if __name__ == "__main__":
    sys.exit(main())
