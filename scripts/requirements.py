"""What the package needs, as a requirements file: `python scripts/requirements.py app peft > requirements.txt`.

For images: dependencies are installed from it before the code is copied, so that a change of the code leaves them alone.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PYPROJECT = "pyproject.toml"  # in the working directory


def requirements(project: dict[str, Any], extras: Iterable[str]) -> list[str]:
    """The requirements of the `project` table and of some of its extras.

    Raises:
        ValueError: naming the extra that there is not.
    """
    found, known = list(project["dependencies"]), project["optional-dependencies"]
    for extra in extras:
        if extra not in known:
            raise ValueError(f"There is no extra {extra!r}: choose from {', '.join(known)}.")
        found += known[extra]
    return found


if __name__ == "__main__":
    table = tomllib.loads(Path(PYPROJECT).read_text(encoding="utf-8"))["project"]
    print("\n".join(requirements(table, sys.argv[1:])))
