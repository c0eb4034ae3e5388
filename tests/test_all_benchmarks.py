"""`python -m benchmarks`: no benchmark is forgotten, what cannot run is said, and a failure does not end the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as all_benchmarks
from benchmarks.__main__ import MEASURE_NOTHING, Command, commands_in, in_full, in_small, run_all

FOLDER = Path(all_benchmarks.__file__).parent


def test_commands_are_read_from_a_page_once_and_with_their_continuation() -> None:
    page = """As measured (`python -m benchmarks.clock`, two repetitions):

```sh
python -m benchmarks.savings --mixes "demo, batch 8" \\
  --seeds 2     # a remark
python -m benchmarks.clock
python -m benchmarks.report
```
"""
    assert commands_in(page) == [
        Command("benchmarks.clock"),
        Command("benchmarks.savings", ("--mixes", "demo, batch 8", "--seeds", "2")),
    ]


def test_every_benchmark_is_run_and_the_drawing_comes_last() -> None:
    entries = (path for path in FOLDER.glob("*.py") if path.name != "__main__.py")
    modules = {f"benchmarks.{path.stem}" for path in entries if 'if __name__ == "__main__":' in path.read_text("utf-8")}
    for commands in (in_full(), in_small()):
        assert {command.module for command in commands} == modules - MEASURE_NOTHING
        assert commands[-1].module == "benchmarks.plots"


def test_every_command_for_the_real_rows_is_left_out_without_them() -> None:
    commands = [command for command in in_full() if command.needs_data]
    assert commands
    assert {line.split(":")[0] for line in run_all(commands, None)} == {"left out (needs --data)"}


def test_a_benchmark_that_fails_does_not_end_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    lines = run_all([Command("benchmarks.nothing"), Command("benchmarks.clock", ("--help",))], None)
    assert lines[0].startswith("failed with exit code 1 after")
    assert lines[1].startswith("done after")
    assert "usage" in capfd.readouterr().out
