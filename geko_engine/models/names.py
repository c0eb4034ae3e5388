"""Whether a name can be a model. Loads nothing and imports neither torch nor transformers."""

from __future__ import annotations

import contextlib
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
        return (
            f"The folder {shown_path(name)} holds a LoRA adapter and no whole model{_of_base(path)}: give the base model, or "
            "merge the adapter into it (merge_and_unload of peft) and give the folder of the result."
        )
    if kind_of(path / "config.json") != FILE:
        return f"The folder {shown_path(name)} has no config.json, so it is not a model: give a folder that save_pretrained wrote."
    return ""


def _of_base(path: Path) -> str:
    """The base model that an adapter names, for a sentence; "" where its settings cannot be read."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        base = json.loads((path / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
        return f" (its base is {base!r})" if isinstance(base, str) and base else ""
    return ""
