"""What a run came to, as plain values: two runs that went alike have equal outcomes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from geko_engine.reporting.event_lines import without_undone
from geko_engine.runs.folder import RunFolder

TIMES = {
    "seq",
    "time",
    "path",
    "seconds",
    "train_seconds",
    "scan_seconds",
    "plain_train_seconds",
    "seconds_saved_ratio",
}
COUNTED = {"StepCompleted", "Evaluated", "EpochEnded", "Partitioned", "RunEnded"}


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of each tensor of a file."""
    return {
        name: hashlib.sha256(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, tensor in tensors(path).items()
    }


def without_times(values: Any) -> Any:
    """Values without those that depend on the clock or the place."""
    if isinstance(values, dict):
        return {name: without_times(value) for name, value in values.items() if name not in TIMES | {"model_path"}}
    return values


def outcome(path: Path) -> dict[str, Any]:
    """Everything about an ended run that must not depend on what happened to it on the way."""
    folder = RunFolder(path)
    log = [event for _, event in folder.events()]
    numbers = [event["seq"] for event in log]
    status = folder.status()
    return {
        "tensors": {str(file.relative_to(path)): digests(file) for file in sorted(path.glob("*.safetensors"))}
        | {"model": digests(path / "model" / "model.safetensors")},
        "events": [without_times(event) for event in without_undone(log) if event["type"] in COUNTED],
        "numbered": numbers == list(range(1, len(numbers) + 1)),
        "ends": sum(event["type"] == "RunEnded" for event in without_undone(log)),
        "report": without_times(json.loads(folder.report_path.read_text(encoding="utf-8"))),
        "status": (status.phase, status.end, status.reason) if status else None,
        "files": files(path),
        "beside": sorted(file.name for file in path.parent.iterdir() if file != path),
        "not finite": not_finite(path),
    }


def files(path: Path) -> list[str]:
    """The files of a run. Its checkpoints are numbered: a run that was stopped has kept one of that step."""
    steps = sorted(path.glob("checkpoints/checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    found = sorted(str(file.relative_to(path)) for file in path.rglob("*"))
    for number, step in enumerate(steps, 1):
        found = [name.replace(f"{step.name}/", f"{number}/") for name in found if name != f"checkpoints/{step.name}"]
    return sorted(found)


def not_finite(path: Path) -> list[str]:
    """Saved weights that are NaN or infinite, of the model and of all checkpoints."""
    files = [*path.glob("model/*.safetensors"), *path.glob("checkpoints/*/weights.safetensors")]
    return [
        f"{file.relative_to(path)}: {name}"
        for file in files
        for name, tensor in tensors(file).items()
        if not np.isfinite(tensor.float().numpy()).all()
    ]


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What differs, in words."""
    return [f"{name}: {_difference(value, found[name])}" for name, value in expected.items() if value != found[name]]


def _difference(expected: Any, found: Any) -> str:
    if isinstance(expected, list) and isinstance(found, list):
        more = [item for item in found if item not in expected]
        less = [item for item in expected if item not in found]
        return f"{len(expected)} expected, {len(found)} found; too many: {more[:3]}; missing: {less[:3]}"
    if isinstance(expected, dict) and isinstance(found, dict):
        names = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
        return "; ".join(f"{name}: {_difference(expected.get(name), found.get(name))}" for name in sorted(names)[:4])
    return f"{expected!r} expected, {found!r} found"[:300]
