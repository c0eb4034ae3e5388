"""geko-export: what it prints, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from geko_engine.export.command import build_parser, main
from geko_engine.export.request import TARGETS
from geko_engine.runs.folder import RunFolder


def test_a_merge_prints_its_folder(finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(finished.path), "--to", "merged", "--out", str(tmp_path / "out"), "--prompts", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'out'}\n" and (tmp_path / "out" / "config.json").is_file()
    assert "[GEKO] Merging the adapter" in printed.err and "1 of 1 are the same" in printed.err


def test_what_is_refused_is_one_sentence(
    finished_whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(finished_whole.path), "--to", "merged"]) == 1
    assert capsys.readouterr().err.startswith(f"geko-export: The run {finished_whole.id} trained all weights")
    assert main([str(tmp_path), "--to", "merged"]) == 1
    assert "There is no run in" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main([str(finished_whole.path), "--to", "hub"])
    assert end.value.code == 2 and "needs --repo OWNER/NAME" in capsys.readouterr().err


def test_help_names_every_target() -> None:
    said = build_parser().format_help()
    assert all(name in said for name in TARGETS)
