"""Whether a name can be a model. Loads nothing and imports neither torch nor transformers."""

from __future__ import annotations

from pathlib import Path

from geko_engine.config.sections import DEMO
from geko_engine.data.local_files import is_local
from geko_engine.hub.client import hub_id_problem


def model_problem(name: str) -> str:
    """Why `name` cannot be a model, or ""."""
    if not name.strip():
        return "No model is given: give a Hub id, a local folder, or 'demo'."
    if name == DEMO:
        return ""
    if not is_local(name):
        return hub_id_problem(name, "model")
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return "A GGUF file cannot be fine-tuned: give the Hub id or the folder of the original model."
    if not path.is_dir():
        return f"There is no folder {name!r}: give the folder of a model, a Hub id such as 'HuggingFaceTB/SmolLM2-135M', or 'demo'."
    if not (path / "config.json").is_file():
        return (
            f"The folder {name!r} has no config.json, so it is not a model: give a folder that save_pretrained wrote."
        )
    return ""
