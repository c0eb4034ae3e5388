"""Whether a name can be a model. Loads nothing and imports neither torch nor transformers."""

from __future__ import annotations

import json
from pathlib import Path

from geko_engine.config.sections import DEMO
from geko_engine.data.local_files import is_local
from geko_engine.hub.client import hub_id_problem
from geko_engine.storage.user_paths import FILE, FOLDER, expand, kind_of, path_problem, shown_path

ADAPTER = "adapter_config.json"


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
    if kind_of(path / "config.json") != FILE and kind_of(path / ADAPTER) == FILE:
        return _adapter_problem(path)
    if kind_of(path / "config.json") != FILE:
        return f"The folder {shown_path(name)} has no config.json, so it is not a model: give a folder that save_pretrained wrote."
    return ""


def _adapter_problem(path: Path) -> str:
    """Why a run cannot start from the adapter in a folder, or ""; its base model is loaded with it."""
    try:
        base = json.loads((path / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str) or not base:
        return f"The adapter in {shown_path(path)} names no base model: give the base model, or a merged model."
    problem = (
        model_problem(base)
        if expand(base) != path
        else "It is its own base model: give the base model, or a merged model."
    )
    return f"The adapter in {shown_path(path)} is of the base model {base!r}. {problem}" if problem else ""
