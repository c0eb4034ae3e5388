"""docs/promises.md: beside each promise stands a test that exists, and the campaign's table is of a whole campaign."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| Promise ")]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
TABLE = ROOT / "benchmarks" / "results" / "faults.md"


def functions_of(path: Path) -> set[str]:
    """Names of the test functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_beside_each_promise_stands_a_test_that_exists(row: str) -> None:
    named = NAMED.findall(row)
    assert named, "no test is named"
    for file, name in named:
        assert (ROOT / file).is_file() and name in functions_of(ROOT / file), f"{file}::{name}"


def test_the_table_is_of_a_whole_campaign_in_which_nothing_was_lost() -> None:
    first, *_, last = TABLE.read_text(encoding="utf-8").splitlines()
    tried = int(re.match(r"([\d,]+) of [\d,]+ faults", first)[1].replace(",", ""))
    assert tried >= 200 and last == f"| **All** | {tried} | {tried} | 0 |"
