"""The estimate of memory and time that is shown before a start, against what a run then really takes.

python -m benchmarks.memory_estimate [--repetitions N] [--large]
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.common import Ratio, arguments, in_child, interleave, print_table, write_results
from benchmarks.memory import lora_config, run_memory
from benchmarks.workload import Size, make_model, make_rows, run_geko, watch
from geko_engine.config.run_config import RunConfig
from geko_engine.models.precision import weights_dtype
from geko_engine.preflight.memory_estimate import footprint, measure_speed

LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}


@dataclass(frozen=True)
class Case:
    """A model, the values of its adapters if it has any, training arguments, and model.dtype."""

    size: Size
    lora: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    dtype: str = "auto"

    @property
    def config(self) -> RunConfig:
        """The run that the page would estimate."""
        lora = {} if self.lora is None else {"enabled": True, "r": self.lora["r"], "alpha": self.lora["lora_alpha"]}
        lora |= {} if self.lora is None else {"target_modules": self.lora["target_modules"]}
        return RunConfig.from_dict({"training": self.training, "lora": lora, "model": {"dtype": self.dtype}})


SIX, EIGHT = (Size(hidden=256, layers=layers, vocabulary=8192, tokens=256, batch=8) for layers in (6, 8))
CASES: dict[str, Case] = {
    "all weights": Case(SIX),
    "large vocabulary": Case(Size(hidden=192, layers=3, vocabulary=32_000, tokens=256, batch=8)),
    "LoRA": Case(EIGHT, LORA),
    "gradient checkpointing": Case(EIGHT, training={"gradient_checkpointing": True}),
    "all weights, bf16": Case(SIX, training={"bf16": True}),
    "all weights, held in bfloat16": Case(SIX, training={"bf16": True}, dtype="bfloat16"),
    "LoRA, bf16": Case(EIGHT, LORA, {"bf16": True}),
    "LoRA, bf16, large vocabulary": Case(
        Size(hidden=256, layers=8, vocabulary=49_152, tokens=256, batch=8), LORA, {"bf16": True}
    ),
}
SMALL_STEPS = 3  # the second one is timed, and holds all that the memory is needed for
MILLIONS = Size(hidden=576, layers=30, vocabulary=49_152, tokens=256, batch=4, steps=3)
LARGE = {"135 M parameters": Case(MILLIONS), "135 M parameters, LoRA, bf16": Case(MILLIONS, LORA, {"bf16": True})}


def estimated(case: Case) -> tuple[int, float]:
    """(peak bytes, seconds of a step) that the page would show."""
    size = case.size
    found = footprint(case.config, make_model(size).config, size.batch, size.tokens, size.batch * (size.tokens - 1))
    speed = measure_speed(size.hidden, torch.bfloat16 if case.training.get("bf16") else torch.float32)
    return found.peak, found.seconds(size.batch * size.tokens, 1, speed)


def measured_time(case: Case) -> float:
    """Median seconds of a step of GEKOTrainer."""
    model = make_model(case.size).to(weights_dtype(case.config))
    seen = watch(model)
    run_geko(model, make_rows(case.size), case.size.batch, lora=lora_config(case.lora), **case.training)
    return statistics.median(seen.step_seconds)


def measured_memory(case: Case) -> int:
    """Peak bytes of a whole run, above a run of next to nothing: code that a first step loads (25 to 40 MB) is left out."""
    tiny = Size(hidden=32, layers=1, vocabulary=64, tokens=8, batch=2, steps=2)
    for size in (tiny, case.size):
        peak = run_memory(size, make_rows(size), case.lora, case.training, weights_dtype(case.config))
    return peak


def main() -> None:
    """Entry of the command line."""
    options = arguments(__doc__ or "", 3)
    rows, results = [], {}
    for name, full in (CASES | (LARGE if options.large else {})).items():
        size = dataclasses.replace(full.size, steps=SMALL_STEPS) if options.small else full.size
        case = dataclasses.replace(full, size=size)
        peak = in_child(measured_memory, case)
        # Times are taken in this process: a child gives freed memory back at once, and gets it anew at a price.
        runs: dict[str, Callable[[], Any]] = {
            "estimate": functools.partial(estimated, case),
            "run": functools.partial(measured_time, case),
        }
        found = interleave(runs, options.repetitions)
        memory = Ratio.of([float(bytes_) for bytes_, _ in found["estimate"]], [float(peak)] * options.repetitions)
        pace = Ratio.of([seconds for _, seconds in found["estimate"]], found["run"])
        rows.append([name, f"{peak / 1e6:.0f} MB", memory, pace])
        results[name] = {"measured_bytes": peak, "memory": memory.to_dict(), "time": pace.to_dict()}
    print_table("Estimate / measured", ["case", "measured peak", "memory", "time of a step"], rows)
    settings = {
        "repetitions": options.repetitions,
        "threads": 1,
        "cases": {n: dataclasses.asdict(c) for n, c in CASES.items()},
    }
    write_results("memory_estimate", settings, results, options)


if __name__ == "__main__":
    main()
