"""Paths that a user gives: what is there, or why nothing can be, in one sentence. Opens nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

FILE, FOLDER, MISSING = "file", "folder", ""
SHOWN = 200  # characters of a path in a sentence
OTHER_KINDS = ((stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"), (stat.S_ISFIFO, "a pipe"))


def expand(name: str | Path) -> Path:
    """`name` as a path, with "~" as the home folder where there is one."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # the home of a user that does not exist
        return Path(name)


def kind_of(name: str | Path) -> str:
    """FILE or FOLDER, links followed; MISSING where neither is, or where that cannot be found out."""
    try:
        mode = expand(name).stat().st_mode
    except (OSError, ValueError):
        return MISSING
    return FILE if stat.S_ISREG(mode) else FOLDER if stat.S_ISDIR(mode) else MISSING


def path_problem(name: str | Path) -> str:
    """Why nothing can be read at the path `name`, or "". A path with nothing there is no problem here."""
    text = str(name)
    shown = shown_path(text)
    if "\0" in text:
        return f"{shown} is no path, because it holds a NUL character: type the path again."
    try:
        os.fsencode(text)
        mode = expand(name).stat().st_mode
    except UnicodeEncodeError:
        return f"{shown} is no path, because it holds half a character (a lone surrogate): type the path again."
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"{shown} cannot be read ({error.strerror}): check the path and its permissions."
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    other = next((word for test, word in OTHER_KINDS if test(mode)), "a socket")
    return f"{shown} is {other}, not a file or a folder: give a file or a folder."


def shown_path(name: str | Path) -> str:
    """A path in quotes, for a sentence: on one line, and not longer than a sentence should be."""
    text = str(name)
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
