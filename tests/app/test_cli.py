"""geko-app as a user types it: quick to import, and one sentence for everything that is wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from geko_app import cli


def geko_app(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "geko_app", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def test_importing_the_command_brings_neither_torch_nor_gradio() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import geko_app.cli"], capture_output=True, text=True, check=True
    )
    assert "geko_app.cli" in done.stderr
    assert not any(name in done.stderr for name in ("torch", "gradio", "transformers", "pandas"))


def test_the_whole_server_brings_no_torch() -> None:
    code = "import sys, geko_app.server; print(sorted({'torch', 'transformers', 'accelerate'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_a_busy_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        done = geko_app("--port", str(port), cwd=tmp_path)
    assert done.returncode == 2 and f"Port {port}" in done.stderr and "--port" in done.stderr
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = geko_app("--runs", "/proc/runs", "--port", str(port), cwd=tmp_path)
    assert done.returncode == 2 and "/proc/runs" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SPACE_ID": "ada/geko", "OAUTH_CLIENT_ID": "x"},
        {"SPACE_ID": "ada/geko", "SPACE_HOST": "ada-geko.hf.space", "OAUTH_CLIENT_ID": ""},
    ],
)
def test_beyond_this_computer_it_asks_for_a_password(tmp_path: Path, environment: dict[str, str]) -> None:
    """Also in a Space whose owner could not sign in."""
    done = geko_app("--host", "0.0.0.0", "--port", "1", cwd=tmp_path, **environment)
    assert done.returncode == 2 and "GEKO_APP_PASSWORD" in done.stderr


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.0.4", False),
        ("box", False),
    ],
)
def test_what_counts_as_this_computer(host: str, inside: bool) -> None:
    assert cli.is_loopback(host) == inside
    assert cli.reached_by_others(host, []) != inside
    assert cli.reached_by_others(host, ["train.example.org"])  # a proxy before it


def test_ports_out_of_range_are_named(tmp_path: Path) -> None:
    done = geko_app("--port", "70000", cwd=tmp_path)
    assert done.returncode == 2 and "70000 is not a port" in done.stderr
