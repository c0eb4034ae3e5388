"""Whether a name can be a model. Loads nothing and imports neither torch nor transformers."""

from __future__ import annotations

import json
from pathlib import Path

from geko_engine.config.sections import DEMO
from geko_engine.data.local_files import is_local
from geko_engine.hub.client import hub_id_problem
from geko_engine.storage.user_paths import FILE, FOLDER, expand, kind_of, path_problem, shown_path

ADAPTER = "adapter_config.json"
ROUNDED_BASE = "fits_4bit_only.json"  # beside an adapter of LoftQ
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")


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


def is_rounded_base(folder: Path) -> bool:
    """Whether a folder holds an adapter of LoftQ, which fits its base model in 4 bits alone."""
    return kind_of(folder / ROUNDED_BASE) == FILE


def loftq_problem(name: str) -> str:
    """Why adapters cannot begin with LoftQ on the model `name`, or "". Says nothing on the Hub's models, and on none."""
    if name == DEMO or not name.strip() or not is_local(name) or path_problem(name):
        return ""
    folder = expand(name)
    whole = kind_of(folder / "config.json") == FILE
    if not whole or any(kind_of(folder / file) == FILE for file in SAFETENSORS):
        return ""
    return (
        f"loftq reads the weights before the rounding from safetensors files, and the folder {shown_path(name)} has none: give "
        "a model with such files, or choose default."
    )


def rounded_base_problem(name: str, quantization: str) -> str:
    """Why a run cannot start from the adapter in the folder `name`, if it needs its base model in 4 bits, or ""."""
    if quantization == "4bit" or not name.strip() or not is_local(name) or path_problem(name):
        return ""
    return needs_4bit(name) if is_rounded_base(expand(name)) else ""


def needs_4bit(name: str) -> str:
    """What is wrong when the adapter `name`, which begins with LoftQ, is given another base model than one in 4 bits."""
    return (
        f"The adapter {shown_path(name)} was trained with LoftQ and fits its base model in 4 bits alone: set model.quantization "
        "to 4bit, with LoRA, or give the merged model."
    )


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
