"""The Hub token on its way to a worker: by a pipe, as other programs can read a process's environment and arguments."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from geko_engine.exceptions import RunError

TOKEN_OPTION = "--token-on-stdin"
LONGEST = 1000  # characters; far below what a pipe holds, so that writing never waits


def check_token(token: str) -> None:
    """Raise RunError for what cannot be a token of the Hub; "" is fine. The message does not contain it."""
    if token and not re.fullmatch(rf"[!-~]{{1,{LONGEST}}}", token):
        raise RunError(
            "The Hub token has spaces, unusual characters, or more than 1,000 characters: copy it again from the settings "
            "of your Hugging Face account."
        )


def start_worker(command: Sequence[str], token: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a worker process.

    Args:
        command: how it is started; TOKEN_OPTION is appended if there is a token.
        token: written to its standard input; "" for none.
        options: of subprocess.Popen.
    """
    if not token:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    process = subprocess.Popen([*command, TOKEN_OPTION], stdin=subprocess.PIPE, **options)
    with contextlib.suppress(BrokenPipeError):  # it has ended already, and its follower says so
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(token.encode())
    return process


def receive_token() -> None:
    """In a worker: take the token from standard input, and set it where the libraries expect it."""
    os.environ["HF_TOKEN"] = sys.stdin.read().strip()
