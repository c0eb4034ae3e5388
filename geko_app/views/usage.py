"""What a run takes of the machine -> small charts beside its settings: a name, the value now, and the last minutes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geko_app.formatting import format_memory, format_ram
from geko_app.telemetry import Usage

ROOM = 1.15  # above the highest memory


def usage_charts(history: Sequence[Usage]) -> list[dict[str, Any]]:
    """One chart for the processor, one for the memory, and two for each GPU that the run uses.

    Args:
        history: the last usages, the newest last.

    Returns:
        name, value (in words) and points (the newest last, as shares of the height) of each.
    """
    if not history:
        return []
    last = history[-1]
    charts = []
    shares = [100 * usage.cpu for usage in history if usage.cpu is not None]
    if shares:
        charts.append(_chart("CPU", f"{shares[-1]:.0f} %", shares, max(100.0, *shares)))
    memory = [float(usage.memory) for usage in history]
    charts.append(_chart("Memory", format_memory(last.memory), memory, ROOM * max(memory)))
    for number, gpu in enumerate(last.gpus):
        name = "GPU" if len(last.gpus) == 1 else f"GPU {number}"
        known = [usage.gpus[number] for usage in history if len(usage.gpus) > number]
        charts.append(_chart(name, f"{gpu.busy} % · {gpu.warm} °C", [float(use.busy) for use in known], 100.0))
        used = f"{gpu.used / 2**30:.1f} of {format_ram(gpu.total)}"
        charts.append(_chart(f"{name} memory", used, [float(use.used) for use in known], float(gpu.total)))
    return charts


def _chart(name: str, value: str, points: Sequence[float], top: float) -> dict[str, Any]:
    return {"name": name, "value": value, "points": [float(f"{point / top:.3g}") for point in points]}
