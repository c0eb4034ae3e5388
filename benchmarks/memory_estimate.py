"""The estimate of memory and time that is shown before a start, against what a run then really takes.

python -m benchmarks.memory_estimate [--repetitions N] [--large]
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import torch

from benchmarks.common import Ratio, arguments, in_child, interleave, print_table, write_results
from benchmarks.memory import lora_config, run_memory
from benchmarks.workload import Size, make_model, make_rows, run_geko, watch
from geko_engine.config.run_config import RunConfig
from geko_engine.preflight.memory_estimate import footprint, measure_speed

LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}
CASES: dict[str, tuple[Size, dict[str, Any] | None, dict[str, Any]]] = {
    "all weights": (Size(hidden=256, layers=6, vocabulary=8192, tokens=256, batch=8), None, {}),
    "large vocabulary": (Size(hidden=192, layers=3, vocabulary=32_000, tokens=256, batch=8), None, {}),
    "LoRA": (Size(hidden=256, layers=8, vocabulary=8192, tokens=256, batch=8), LORA, {}),
    "gradient checkpointing": (
        Size(hidden=256, layers=8, vocabulary=8192, tokens=256, batch=8),
        None,
        {"gradient_checkpointing": True},
    ),
    "bf16": (Size(hidden=256, layers=6, vocabulary=8192, tokens=256, batch=8), None, {"bf16": True}),
}
SMALL_STEPS = 3  # the second one is timed, and holds all that the memory is needed for
LARGE: dict[str, tuple[Size, dict[str, Any] | None, dict[str, Any]]] = {
    "135 M parameters": (Size(hidden=576, layers=30, vocabulary=49_152, tokens=256, batch=4, steps=3), None, {}),
}


def estimated(size: Size, lora: dict[str, Any] | None, changes: dict[str, Any]) -> tuple[int, float]:
    """(peak bytes, seconds of a step) that the page would show."""
    config = RunConfig.from_dict({"training": changes})
    if lora:
        config.lora.enabled, config.lora.r, config.lora.alpha = True, lora["r"], lora["lora_alpha"]
        config.lora.target_modules = lora["target_modules"]
    found = footprint(config, make_model(size).config, size.batch, size.tokens, size.batch * (size.tokens - 1))
    speed = measure_speed(size.hidden, torch.bfloat16 if changes.get("bf16") else torch.float32)
    return found.peak, found.seconds(size.batch * size.tokens, 1, speed)


def measured_time(size: Size, lora: dict[str, Any] | None, changes: dict[str, Any]) -> float:
    """Median seconds of a step of GEKOTrainer."""
    model = make_model(size)
    seen = watch(model)
    run_geko(model, make_rows(size), size.batch, lora=lora_config(lora), **changes)
    return statistics.median(seen.step_seconds)


def measured_memory(size: Size, lora: dict[str, Any] | None, changes: dict[str, Any]) -> int:
    """Peak bytes of a whole run."""
    return run_memory(size, make_rows(size), lora, changes)


def main() -> None:
    """Entry of the command line."""
    options = arguments(__doc__ or "", 3)
    rows, results = [], {}
    for name, (full, lora, changes) in (CASES | (LARGE if options.large else {})).items():
        size = dataclasses.replace(full, steps=SMALL_STEPS) if options.small else full
        peak = in_child(measured_memory, size, lora, changes)
        # Times are taken in this process: a child gives freed memory back at once, and gets it anew at a price.
        seconds = interleave(
            {
                "estimate": lambda s=size, c=lora, ch=changes: estimated(s, c, ch),
                "run": lambda s=size, c=lora, ch=changes: measured_time(s, c, ch),
            },
            options.repetitions,
        )
        memory = Ratio.of([float(bytes_) for bytes_, _ in seconds["estimate"]], [float(peak)] * options.repetitions)
        pace = Ratio.of([s for _, s in seconds["estimate"]], seconds["run"])
        rows.append([name, f"{peak / 1e6:.0f} MB", memory, pace])
        results[name] = {"measured_bytes": peak, "memory": memory.to_dict(), "time": pace.to_dict()}
    print_table("Estimate / measured", ["case", "measured peak", "memory", "time of a step"], rows)
    settings = {"repetitions": options.repetitions, "threads": 1, "cases": {n: vars(c[0]) for n, c in CASES.items()}}
    write_results("memory_estimate", settings, results, options)


if __name__ == "__main__":
    main()
