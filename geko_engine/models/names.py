"""Whether a name can be a model. Loads nothing and imports neither torch nor transformers."""

from __future__ import annotations

from geko_engine.config.sections import DEMO
from geko_engine.data.local_files import is_local
from geko_engine.hub.client import hub_id_problem
from geko_engine.storage.user_paths import FILE, FOLDER, expand, kind_of, path_problem, shown_path


def model_problem(name: str) -> str:
    """Why `name` cannot be a model, or ""."""
    if not name.strip():
        return "No model is given: give a Hub id, a local folder, or 'demo'."
    if name == DEMO:
        return ""
    if not is_local(name):
        return hub_id_problem(name, "model")
    problem = path_problem(name)
    if problem:
        return problem
    path = expand(name)
    if path.suffix == ".gguf":
        return "A GGUF file cannot be fine-tuned: give the Hub id or the folder of the original model."
    if kind_of(path) != FOLDER:
        return f"There is no folder {shown_path(name)}: give the folder of a model, a Hub id such as 'HuggingFaceTB/SmolLM2-135M', or 'demo'."
    if kind_of(path / "config.json") != FILE:
        return f"The folder {shown_path(name)} has no config.json, so it is not a model: give a folder that save_pretrained wrote."
    return ""
