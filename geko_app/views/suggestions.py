"""What the form suggests for the model and the data: what is on this computer, and what the Hub finds. Asks the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geko_app.form.roots import AllowedRoots
from geko_app.formatting import format_bytes, format_count, run_name
from geko_app.hardware import training_memory
from geko_app.runs.store import UPLOADS, RunStore
from geko_engine.config.sections import DEMO
from geko_engine.data.local_files import FILE_KINDS
from geko_engine.data.text_files import file_kind
from geko_engine.demo import demo_path
from geko_engine.hub.search import HubEntry, search_hub
from geko_engine.models.inventory import StoredModel, cached_models, model_in
from geko_engine.storage.user_paths import FILE, FOLDER, expand, kind_of

RESULTS, FILES, ENTRIES = 20, 20, 500  # runs with a model, files of a folder, and what is looked at in one
# Bytes of each weight: itself, its gradient and two moments of AdamW in float32; frozen for LoRA, itself alone.
FULL, FROZEN = 16, 4
SPARE = 1.25  # for activations; the check estimates them
MODEL, DATA = "model.name", "data.train"

Option = dict[str, str]


@dataclass(frozen=True)
class Suggestions:
    """Suggests values for two fields of the form.

    Args:
        store: has the results and the uploads.
        roots: folders that may be looked into.
    """

    store: RunStore
    roots: AllowedRoots

    def local(self, field: str, text: str) -> list[Option]:
        """What is on this computer; below a path that is being typed, what is there."""
        if text.startswith((".", "~", os.sep)):
            return self._below(field, text)
        return self._models() if field == MODEL else self._data() if field == DATA else []

    def _models(self) -> list[Option]:
        demo = model_in(demo_path("model"), DEMO)
        found = [_model(demo, "Demo", "Built-in demo model")] if demo else []
        results = (self.store.folder(run_id) for run_id in self.store.ids())
        stored = ((run_name(folder.id), model_in(folder.model_path.resolve())) for folder in results)
        found += [_model(model, "Your run", title) for title, model in _first(stored, RESULTS)]
        return found + [_model(model, "Cached") for model in cached_models()] + self._here(MODEL)

    def _data(self) -> list[Option]:
        demo = _option(DEMO, "Demo", "Built-in demo data", "10,000 short tasks")
        uploads = sorted(self.store.root.glob(f"{UPLOADS}/*/*"), key=lambda path: path.parent.stat().st_mtime)
        kept = [_file(path, "Upload") for path in uploads[::-1][:FILES] if kind_of(path) == FILE]
        return [demo, *kept, *self._here(DATA)]

    def _here(self, field: str) -> list[Option]:
        """Models or data files in the folder that the page was started in."""
        return self._inside(Path.cwd(), field, prefix="", only_usable=True)

    def _below(self, field: str, text: str) -> list[Option]:
        folder, _, begun = text.rpartition(os.sep)
        inside = self._inside(expand(folder or os.sep), field, prefix=f"{folder}{os.sep}", only_usable=False)
        return [option for option in inside if option["label"].startswith(begun)]

    def _inside(self, folder: Path, field: str, *, prefix: str, only_usable: bool) -> list[Option]:
        if not self.roots.allows(folder):
            return []
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry, _ in zip(entries, range(ENTRIES), strict=False))
        except (OSError, ValueError):
            return []
        found = []
        for path in (folder / name for name in names if not name.startswith(".")):
            model = model_in(path, prefix + path.name) if field == MODEL and kind_of(path) == FOLDER else None
            if model:
                found.append(_model(model, "Folder", path.name))
            elif field == DATA and kind_of(path) == FILE and file_kind(path) in FILE_KINDS:
                found.append(_file(path, "File", prefix + path.name))
            elif not only_usable and kind_of(path) == FOLDER:
                found.append(_option(f"{prefix}{path.name}{os.sep}", "Folder", path.name))
        return found[:FILES]


def hub_options(field: str, text: str) -> list[Option] | None:
    """What the Hub finds, or None when it cannot be reached."""
    found = search_hub(text, "model" if field == MODEL else "dataset")
    return None if found is None else [_hub(entry) for entry in found]


def fit(parameters: int | None) -> str:
    """Whether training a model of so many parameters fits into the memory of this computer: full, lora, none or ""."""
    if not parameters:
        return ""
    room = training_memory() / SPARE / parameters
    return "full" if room >= FULL else "lora" if room >= FROZEN else "none"


def _first(found: Iterable[tuple[str, StoredModel | None]], count: int) -> list[tuple[str, StoredModel]]:
    kept: list[tuple[str, StoredModel]] = []
    for title, model in found:
        if model is not None and len(kept) < count:
            kept.append((title, model))
    return kept


def _model(model: StoredModel, kind: str, label: str = "") -> Option:
    size = format_bytes(model.size)
    count = f"{format_count(model.parameters)} parameters · " if model.parameters else ""
    note = f"adapter · {size}" if model.is_adapter else f"{count}{size}"
    return _option(model.name, kind, label or model.name, note, "" if model.is_adapter else fit(model.parameters))


def _file(path: Path, kind: str, value: str = "") -> Option:
    return _option(value or str(path), kind, path.name, format_bytes(path.stat().st_size))


def _hub(entry: HubEntry) -> Option:
    count = f"{format_count(entry.parameters)} parameters" if entry.parameters else ""
    parts = [count, entry.license, "gated" if entry.gated else "", f"{format_count(entry.downloads)} downloads"]
    return _option(entry.name, "Hub", entry.name, " · ".join(filter(None, parts)), fit(entry.parameters))


def _option(value: str, kind: str, label: str, note: str = "", fit: str = "") -> Option:
    return {"value": value, "kind": kind, "label": label, "note": note, "fit": fit}


def as_query(query: Any) -> tuple[str, str]:
    """(field, text) of what a script asks for; "" for a field without suggestions."""
    field = query.get("field") if isinstance(query, dict) else ""
    text = query.get("text") if isinstance(query, dict) else ""
    return field if field in (MODEL, DATA) else "", text if isinstance(text, str) else ""
