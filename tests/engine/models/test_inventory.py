"""Models on this computer are found with their sizes, from their files alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geko_engine.demo import demo_path
from geko_engine.models.inventory import StoredModel, cached_models, model_in


def write_model(folder: Path, config: str = "config.json", shards: int = 1) -> int:
    """A folder with `shards` files of 6 weights; returns their bytes."""
    folder.mkdir(parents=True)
    (folder / config).write_text("{}", encoding="utf-8")
    names = [f"model-{i}.safetensors" for i in range(shards)]
    for name in names:
        save_file({"a": torch.ones(2, 3)}, folder / name)
    return sum((folder / name).stat().st_size for name in names)


def test_a_model_is_what_has_a_config_and_weights(tmp_path: Path) -> None:
    size = write_model(tmp_path / "whole", shards=2)
    assert model_in(tmp_path / "whole") == StoredModel(str(tmp_path / "whole"), size, 12)
    size = write_model(tmp_path / "adapter", "adapter_config.json")
    assert model_in(tmp_path / "adapter", "mine") == StoredModel("mine", size, 6, is_adapter=True)
    for name, file in (("empty", ""), ("config only", "config.json"), ("weights only", "model.safetensors")):
        (tmp_path / name).mkdir()
        if file:
            (tmp_path / name / file).write_text("{}", encoding="utf-8")
        assert model_in(tmp_path / name) is None
    assert model_in(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 30, (3).to_bytes(8, "little") + b"[1]", (2).to_bytes(8, "little") + b"{"]
)
def test_damaged_weights_have_no_count(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(content)
    assert model_in(tmp_path) == StoredModel(str(tmp_path), len(content), None)


def test_older_weights_have_a_size_and_no_count(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}), encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 9)
    assert model_in(tmp_path) == StoredModel(str(tmp_path), 9, None)


def test_the_cache_of_the_hub_is_listed_by_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    write_model(tmp_path / "models--owner--tiny--model" / "snapshots" / "abc")
    (tmp_path / "models--owner--only-a-config" / "snapshots" / "abc").mkdir(parents=True)
    write_model(tmp_path / "datasets--owner--data" / "snapshots" / "abc")
    assert [(model.name, model.parameters) for model in cached_models()] == [("owner/tiny--model", 6)]


def test_the_demo_model_has_as_many_weights_as_it_says() -> None:
    found = model_in(demo_path("model"), "demo")
    assert found is not None and found.parameters and found.size > 4 * found.parameters
