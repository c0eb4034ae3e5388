"""Name and tags of a run: kept beside it, bounded, and never in the way of the run itself."""

from __future__ import annotations

import pytest

from geko_app.formatting import run_name
from geko_app.runs.labels import (
    LABEL,
    NAME_LIMIT,
    TAG_LIMIT,
    TAGS_LIMIT,
    Label,
    display_name,
    read_label,
    write_label,
)
from geko_app.runs.store import RunStore
from geko_app.views.dashboard import run_label
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError


def test_a_name_and_tags_are_kept_beside_the_run_and_shown_wherever_it_is_listed(
    store: RunStore, config: RunConfig
) -> None:
    folder = store.create(config)
    before = folder.config_path.read_bytes()
    assert display_name(folder) == run_name(folder.id)
    write_label(folder, "  support\nv2 ", ["banking", "Banking", " ", "for <b>Ada</b>"])
    assert read_label(folder) == Label("support v2", ("banking", "for <b>Ada</b>"))
    assert display_name(folder) == store.name(folder.id) == "support v2"
    assert run_label(store.entry(folder.id)).startswith("support v2 · ")
    assert folder.config_path.read_bytes() == before
    write_label(folder, "", [])
    assert not (folder.path / LABEL).exists() and read_label(folder) == Label()


def test_what_is_too_long_or_too_much_is_refused_and_changes_nothing(store: RunStore, config: RunConfig) -> None:
    folder = store.create(config)
    write_label(folder, "kept", ["one"])
    for name, tags in (
        ("x" * (NAME_LIMIT + 1), []),
        ("", ["t" * (TAG_LIMIT + 1)]),
        ("", [f"tag {i}" for i in range(TAGS_LIMIT + 1)]),
    ):
        with pytest.raises(RunError, match=r"Shorten it|the limit is|remove one first"):
            write_label(folder, name, tags)
    assert read_label(folder) == Label("kept", ("one",))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": 3}', '{"name": "a", "tags": 7}', '{"name": "a", "tags": null}']
)
def test_a_damaged_label_is_no_label(store: RunStore, config: RunConfig, text: str) -> None:
    folder = store.create(config)
    (folder.path / LABEL).write_text(text, encoding="utf-8")
    assert read_label(folder) == Label() and store.entry(folder.id).name == ""


def test_half_a_character_is_left_out(store: RunStore, config: RunConfig) -> None:
    folder = store.create(config)
    write_label(folder, "a\ud800b", ["\ud800"])
    assert read_label(folder) == Label("ab")
