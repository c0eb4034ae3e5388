"""What the form suggests: models and data of this computer, with whether they fit, and nothing outside of its folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from geko_app.form.roots import AllowedRoots
from geko_app.runs.store import RunStore
from geko_app.views import suggestions
from geko_app.views.suggestions import DATA, MODEL, Suggestions, as_query, fit
from geko_engine.config.run_config import RunConfig
from tests.engine.models.test_inventory import write_model


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suggestions:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    write_model(tmp_path / "cache" / "models--owner--small" / "snapshots" / "abc")
    return Suggestions(RunStore(tmp_path / "runs"), AllowedRoots())


def test_models_are_the_demo_own_results_cached_ones_and_folders(made: Suggestions, tmp_path: Path) -> None:
    config = RunConfig.demo()
    config.output_dir = str(made.store.root)
    finished, _unfinished = made.store.create(config), made.store.create(config)
    write_model(finished.model_path)
    write_model(tmp_path / "here" / "my-model")
    (tmp_path / "here" / "no-model").mkdir()
    found = made.local(MODEL, "")
    assert [(option["kind"], option["value"]) for option in found] == [
        ("Demo", "demo"),
        ("Your run", str(finished.model_path.resolve())),
        ("Cached", "owner/small"),
        ("Folder", "my-model"),
    ]
    assert "6 parameters" in found[2]["note"] and found[2]["fit"] == "full"


def test_data_are_the_demo_uploads_and_files(made: Suggestions, tmp_path: Path) -> None:
    (tmp_path / "talks.csv").write_text("a,b\n", encoding="utf-8")
    kept = made.store.keep_upload(tmp_path / "talks.csv")
    for name in ("rows.jsonl.gz", "notes.md", ".hidden.csv"):
        (tmp_path / "here" / name).write_text("", encoding="utf-8")
    found = [(option["kind"], option["value"]) for option in made.local(DATA, "")]
    assert found == [("Demo", "demo"), ("Upload", str(kept)), ("File", "rows.jsonl.gz")]


def test_below_a_path_that_is_typed_is_what_is_there(made: Suggestions, tmp_path: Path) -> None:
    write_model(tmp_path / "here" / "models" / "mine")
    (tmp_path / "here" / "models" / "more").mkdir()
    assert [o["value"] for o in made.local(MODEL, "./mod")] == ["./models/"]
    assert [o["value"] for o in made.local(MODEL, "./models/m")] == ["./models/mine", "./models/more/"]
    assert made.local(MODEL, "/nowhere/at/all") == [] and made.local(MODEL, "./models/x") == []


def test_nothing_outside_of_its_folders_is_listed(made: Suggestions, tmp_path: Path) -> None:
    write_model(tmp_path / "here" / "secret")
    closed = Suggestions(made.store, AllowedRoots.of([], runs=made.store.root, is_open=True))
    assert [option["kind"] for option in closed.local(MODEL, "")] == ["Demo", "Cached"]
    assert closed.local(MODEL, f"{tmp_path}/here/") == []


def test_whether_a_model_fits_follows_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggestions, "training_memory", lambda: 2 * 10**9)
    assert [fit(count) for count in (10**8, 3 * 10**8, 10**9, None)] == ["full", "lora", "none", ""]


@pytest.mark.parametrize("query", [None, [], {"field": "output_dir", "text": "/"}, {"field": 3}])
def test_only_two_fields_have_suggestions(query: object) -> None:
    assert as_query(query)[0] == ""
