"""The commands that serve a model: only of what is there, and otherwise what to export first."""

from __future__ import annotations

from pathlib import Path

from geko_app.runs.store import RunStore
from geko_app.views.serving import MERGE_FIRST, MODELFILE_FIRST, NO_MODEL, serving
from geko_engine.config.run_config import RunConfig


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}", encoding="utf-8")
    return path


def test_commands_name_only_what_is_there(store: RunStore, config: RunConfig) -> None:
    folder = store.create(config)
    assert {(one["commands"], one["hint"]) for one in serving(folder)} == {("", NO_MODEL)}

    adapter = write(folder.model_path / "adapter_config.json")
    assert [(one["program"], one["hint"], one["export"]) for one in serving(folder)] == [
        ("vLLM", MERGE_FIRST, "merged"),
        ("transformers", MERGE_FIRST, "merged"),
        ("Ollama", MODELFILE_FIRST, "ollama"),
    ]
    merged = write(folder.exports_path / "merged" / "config.json").parent.resolve()
    modelfile = write(folder.exports_path / "ollama" / "Modelfile").resolve()
    vllm, transformers, ollama = (one["commands"] for one in serving(folder))
    assert (vllm, transformers) == (f"vllm serve {merged}", f"transformers serve {merged}")
    assert ollama.startswith("ollama create demo-") and f"-f {modelfile}\nollama run demo-" in ollama

    adapter.unlink()
    merged.joinpath("config.json").unlink()
    write(folder.model_path / "config.json")
    assert serving(folder)[0]["commands"] == f"vllm serve {folder.model_path.resolve()}"
