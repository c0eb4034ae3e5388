"""What a visitor uploads is kept under its own name, and harms nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from geko_app.runs.store import NAME_BYTES, UPLOADS, RunStore, upload_name
from geko_engine.exceptions import RunError


def test_an_upload_keeps_its_name_and_does_not_replace_another(store: RunStore, tmp_path: Path) -> None:
    source = tmp_path / "Kunden Fragen (März).csv"
    kept = []
    for content in ("one", "two"):
        source.write_text(content, encoding="utf-8")
        kept.append(store.keep_upload(source))
    assert [path.name for path in kept] == [source.name] * 2
    assert [path.read_text(encoding="utf-8") for path in kept] == ["one", "two"]
    assert store.ids() == []


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "etc-passwd"),
        (".hidden.csv", "hidden.csv"),
        ("a\nb\0c.csv", "a-b-c.csv"),
        ("..", "data"),
        ("質" * 100 + ".csv", "質" * 65 + ".csv"),
        ("a\ud800.csv", "a-.csv"),
    ],
)
def test_a_name_that_no_file_can_have_is_changed(name: str, kept: str) -> None:
    assert upload_name(name) == kept and len(kept.encode()) <= NAME_BYTES


def test_an_upload_that_cannot_be_kept_leaves_nothing(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be saved"):
        store.keep_upload(tmp_path / "gone.csv")
    assert list((store.root / UPLOADS).iterdir()) == []
