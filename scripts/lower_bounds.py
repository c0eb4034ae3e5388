"""The oldest versions that pyproject.toml allows, as pip constraints: `python scripts/lower_bounds.py > lower.txt`.

Only what users install (dependencies and extras), not the development tools. Knows no index and installs nothing.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*>=\s*(?P<version>[0-9][0-9.]*)$")


def lower_bounds(project: dict[str, Any]) -> list[str]:
    """`name==version` of each requirement of the `project` table that names another package.

    Raises:
        ValueError: naming the requirement that has no lower bound.
    """
    extras = {name: group for name, group in project["optional-dependencies"].items() if name != "dev"}
    requirements = [*project["dependencies"], *(entry for group in extras.values() for entry in group)]
    found = []
    for requirement in requirements:
        if requirement.startswith(f"{project['name']}["):
            continue
        match = BOUND.match(requirement)
        if match is None:
            raise ValueError(f"The requirement {requirement!r} has no lower bound: write name>=version.")
        found.append(f"{match['name']}=={match['version']}")
    return found


if __name__ == "__main__":
    with PYPROJECT.open("rb") as file:
        print("\n".join(lower_bounds(tomllib.load(file)["project"])))
