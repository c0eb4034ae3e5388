"""geko-app: the page on localhost:7860. Checks what can go wrong before anything heavy is imported.

Ends with 0 after a signal, or 2 with one sentence when it cannot start.
"""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Sequence

from geko_engine import __version__
from geko_engine.exceptions import GekoError, RunError

PASSWORD_VARIABLE = "GEKO_APP_PASSWORD"


def build_parser() -> argparse.ArgumentParser:
    """The command line of geko-app."""
    parser = argparse.ArgumentParser(prog="geko-app", description="The page of GEKO: train, watch, stop, resume.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default 7860)")
    parser.add_argument("--runs", default="runs", help="folder that runs are kept in (default ./runs)")
    parser.add_argument(
        "--no-password", action="store_true", help="allow another address than this machine's own without a password"
    )
    parser.add_argument("--version", action="version", version=f"geko {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the console script; returns the exit code."""
    options = build_parser().parse_args(argv)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # also while the page is being imported; process 1 hears nothing else
        signal.signal(number, _leave)
    try:
        password = check(options)
        from geko_app.server import serve

        serve(host=options.host, port=options.port, runs=options.runs, password=password)
    except GekoError as error:
        print(f"geko-app: {error}", file=sys.stderr)
        return 2
    return 0


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def check(options: argparse.Namespace) -> str | None:
    """The password to ask visitors for, or None. Raises RunError for what would not start."""
    missing = [name for name in ("gradio", "plotly") if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(f"The page needs {' and '.join(missing)}: install GEKO with the extra 'app'.")
    password = os.environ.get(PASSWORD_VARIABLE) or None
    if not is_loopback(options.host) and password is None and not options.no_password:
        raise RunError(
            f"--host {options.host} opens the page to other machines: set a password in {PASSWORD_VARIABLE} "
            "(the user is 'geko'), or add --no-password if the network around it is closed."
        )
    check_port(options.host, options.port)
    return password


def check_port(host: str, port: int) -> None:
    """Raise RunError when nothing can listen on host:port."""
    if not 0 < port < 65536:
        raise RunError(f"--port {port} is no port: give a number from 1 to 65535.")
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise RunError(
            f"Port {port} on {host} cannot be used ({error.strerror or error}): end the program that holds it, or give "
            "another one with --port."
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
