"""Whether a name can be a model; nothing is loaded, and neither torch nor transformers is imported."""

from __future__ import annotations

from pathlib import Path

from geko_engine.config.sections import DEMO
from geko_engine.data.local_files import is_local
from geko_engine.hub.client import hub_id_problem


def model_problem(name: str) -> str:
    """Why `name` cannot be a model, or ""."""
    if not name.strip():
        return "No model is named: give a Hub id, a local folder, or 'demo'."
    if name == DEMO:
        return ""
    if not is_local(name):
        return hub_id_problem(name, "model")
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return "A GGUF file cannot be fine-tuned and saved again: give the original model's Hub id or folder."
    if not path.is_dir():
        return f"There is no folder {name!r}: give a model's folder, a Hub id such as 'HuggingFaceTB/SmolLM2-135M', or 'demo'."
    if not (path / "config.json").is_file():
        return (
            f"The folder {name!r} holds no config.json, so it is no model: give the folder that save_pretrained wrote."
        )
    return ""
