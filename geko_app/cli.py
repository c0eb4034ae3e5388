"""geko-app: serves the page on localhost:7860. Checks what can go wrong before it imports anything heavy.

Exit code: 0 after a signal; 2, with one sentence, if it cannot start.
"""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from geko_app.space.facts import Space
from geko_engine import __version__
from geko_engine.exceptions import GekoError, RunError

if TYPE_CHECKING:
    from geko_app.api.tokens import ApiOptions

PASSWORD_VARIABLE = "GEKO_APP_PASSWORD"
TOKEN_VARIABLE = "GEKO_API_TOKEN"


def build_parser() -> argparse.ArgumentParser:
    """The argument parser of geko-app."""
    parser = argparse.ArgumentParser(
        prog="geko-app", description="The web page of GEKO: start, watch, stop and compare training runs."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this computer only)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    parser.add_argument("--runs", default="runs", help="folder for runs (default: ./runs)")
    parser.add_argument("--no-password", action="store_true", help="serve other computers without a password")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name that the page is opened by, such as that of a proxy; repeat it for more (localhost and the "
        "address of --host are always allowed)",
    )
    parser.add_argument(
        "--root-path",
        default="",
        metavar="PATH",
        help="where a reverse proxy puts the page, such as /geko (default: at the top)",
    )
    parser.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="DIR",
        help="folder that files named in the form may lie in; repeat it for more (default: every folder where only this "
        "computer reaches the page, else the runs, the uploads and the model cache)",
    )
    parser.add_argument(
        "--max-upload",
        type=float,
        default=2.0,
        metavar="GB",
        help="largest file that can be uploaded, in gigabytes (default: 2)",
    )
    parser.add_argument(
        "--api-token",
        metavar="TOKEN",
        help=f"offer the REST API to programs that send this token (default: none; better from {TOKEN_VARIABLE}, as other "
        "users of this machine can read the arguments of a process)",
    )
    parser.add_argument("--mcp", action="store_true", help="offer the functions of the API as MCP tools at /mcp, too")
    parser.add_argument(
        "--resume-on-restart",
        action="store_true",
        help="when a signal ends the page during a training, let the next start go on with it",
    )
    parser.add_argument("--version", action="version", version=f"geko {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script.

    Args:
        argv: arguments; those of the process if None.

    Returns:
        The exit code.
    """
    options = build_parser().parse_args(argv)
    # Set early, for a signal during the imports; process 1 of a container has no default handlers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    try:
        password = check(options)
        from geko_app.access import Access
        from geko_app.form.roots import AllowedRoots

        is_open = reached_by_others(options.host, options.allow_host)
        space = Space.of(os.environ)
        runs = space.runs_folder(options.runs) if space else options.runs
        api = api_of(options)
        from geko_app.server import ServerOptions, serve

        serve(
            ServerOptions(
                host=options.host,
                port=options.port,
                runs=runs,
                password=password,
                access=Access.of(options.host, tuple(options.allow_host), os.environ.get("SPACE_HOST", "")),
                roots=AllowedRoots.of(options.root, runs=runs, is_open=is_open),
                max_upload=int(options.max_upload * 1e9),
                root_path=options.root_path.rstrip("/"),
                api=api,
                requeue=options.resume_on_restart,
                space=space if space and space.signs_in and password is None else None,
            )
        )
    except GekoError as error:
        print(f"geko-app: {error}", file=sys.stderr)
        return 2
    return 0


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def check(options: argparse.Namespace) -> str | None:
    """Check that the page can start.

    Returns:
        The password to ask visitors for, or None.

    Raises:
        RunError: a package is missing, a password is needed, or the port cannot be used.
    """
    missing = [name for name in ("gradio", "plotly") if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(f'The page needs {" and ".join(missing)}: run `pip install "geko-finetune[app]"`.')
    if options.root_path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", options.root_path):
        raise RunError(f"--root-path {options.root_path!r} is no path: give one such as /geko.")
    if not 0 < options.max_upload < float("inf"):
        raise RunError(f"--max-upload {options.max_upload:g} is no size: give gigabytes, such as 2 or 0.5.")
    password = os.environ.pop(PASSWORD_VARIABLE, None) or None  # no process that the page starts inherits it
    space = Space.of(os.environ)
    signs_in = space is not None and space.signs_in  # then only its owner may change something
    if not is_loopback(options.host) and password is None and not options.no_password and not signs_in:
        raise RunError(
            f"--host {options.host} makes the page reachable from other computers: set a password in the environment "
            f"variable {PASSWORD_VARIABLE} (the user name is 'geko'), or add --no-password on a trusted network."
        )
    check_port(options.host, options.port)
    return password


def api_of(options: argparse.Namespace) -> ApiOptions | None:
    """The interface for programs that is asked for, or None.

    Raises:
        RunError: the token is too short, or --mcp lacks a token or its package.
    """
    given = os.environ.pop(TOKEN_VARIABLE, None)  # no process that the page starts inherits it
    token = options.api_token or given
    if options.mcp and not token:
        raise RunError(f"--mcp needs a token: set one in the environment variable {TOKEN_VARIABLE}.")
    if options.mcp and importlib.util.find_spec("mcp") is None:
        raise RunError('--mcp needs the package mcp: run `pip install "geko-finetune[mcp]"`.')
    if not token:
        return None
    from geko_app.api.tokens import ApiOptions, ApiToken

    return ApiOptions(ApiToken(token), mcp=options.mcp)


def reached_by_others(host: str, allowed: Sequence[str]) -> bool:
    """Whether other computers open the page: directly, or through a proxy whose names are allowed."""
    return not is_loopback(host) or bool(allowed)


def check_port(host: str, port: int) -> None:
    """Check that host:port is free.

    Raises:
        RunError: the port is out of range, or nothing can listen there.
    """
    if not 0 < port < 65536:
        raise RunError(f"--port {port} is not a port: give a number from 1 to 65535.")
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise RunError(
            f"Port {port} on {host} cannot be used ({error.strerror or error}): end the program that uses it, or choose "
            "another port with --port."
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
