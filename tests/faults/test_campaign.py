"""A small fault campaign: one fault or two of every kind. The whole one is `python -m tests.faults --n 200`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.__main__ import table
from tests.faults.kinds import Fault, chosen, rows_of
from tests.faults.outcome import differences

ROOT = Path(__file__).parents[2]
COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]
KINDS = 33  # rows of the table


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which(COMPILER), reason="needs Linux and a C compiler")
def test_a_fault_of_every_kind_is_survived(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults", "--n", str(KINDS + 3), "--table", str(tmp_path / "table.md")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    rows = [line.split(" | ") for line in (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()[4:]]
    assert rows[-1] == ["| **All**", str(KINDS + 3), str(KINDS + 3), "0 |"]
    assert len(rows) == KINDS + 1 and all(tried == survived for _, tried, survived, _ in rows)


def test_the_table_counts_what_was_tried_and_lost() -> None:
    assert table({"a": 3, "b": 2}, Counter(b=1)).splitlines()[2:] == [
        "| a | 3 | 3 | 0 |",
        "| b | 2 | 1 | 1 |",
        "| **All** | 5 | 4 | 1 |",
    ]


def test_an_outcome_that_differs_is_named() -> None:
    expected = {"ends": 1, "tensors": {"model": {"w": "1a"}}, "files": ["a", "b"]}
    assert differences(expected, expected) == []
    assert differences(expected, {"ends": 2, "tensors": {"model": {"w": "2b"}}, "files": ["a", "c"]}) == [
        "ends: 1 expected, 2 found",
        "tensors: model: w: '1a' expected, '2b' found",
        "files: 2 expected, 2 found; too many: ['c']; missing: ['b']",
    ]


@pytest.mark.parametrize(
    ("operation", "rows"),
    [
        ("write /runs/r/events.jsonl", ("SIGKILL before a write", "SIGKILL inside a write, half of it done")),
        ("pwrite /runs/r/.tmpAbCdEf", ("SIGKILL before a write", "SIGKILL inside a native write, half of it done")),
        ("remove weights.safetensors", ("SIGKILL inside rmtree", "SIGKILL inside rmtree")),
        ("rename /runs/r/model", ("SIGKILL before a rename", "SIGKILL right after a rename")),
    ],
)
def test_operations_are_sorted_into_the_rows_of_the_table(operation: str, rows: tuple[str, str]) -> None:
    assert rows_of(operation) == rows


def test_faults_are_drawn_by_turns_of_each_kind_and_by_the_seed() -> None:
    known = [Fault(kind, f"{n}", lambda place: []) for kind, count in (("a", 9), ("b", 2)) for n in range(count)]
    first = chosen(known, 6, seed=0)
    assert Counter(fault.kind for fault in first) == {"a": 4, "b": 2}
    assert first == chosen(known, 6, seed=0) != chosen(known, 6, seed=1)
    assert len(chosen(known, 99, seed=0)) == 11
