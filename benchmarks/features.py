"""Each efficiency feature against the same run without it: time of a step, peak memory, and compute for pruning.

Time is that from one StepCompleted event to the next; memory is the peak of a child process that does the whole run.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.common import Ratio, arguments, in_child, interleave, print_table, write_results
from benchmarks.memory import lora_config, run_memory
from benchmarks.workload import Rows, Size, make_model, make_rows, run_geko
from geko_engine.config.run_config import RunConfig
from geko_engine.config.selection import GEKOConfig
from geko_engine.data.formats import recognise
from geko_engine.data.sources import load_rows
from geko_engine.data.tokenization import tokenise
from geko_engine.exceptions import GekoError
from geko_engine.models.loading import load_model_and_tokenizer
from geko_engine.reporting.events import StepCompleted

BASE = "none"
PRUNE_AFTER = 1


@dataclass(frozen=True)
class Feature:
    """What is switched on: a peft.LoraConfig's values, or training arguments."""

    lora: dict[str, Any] | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    optional: bool = False  # needs a package or a compiler that may be missing


FEATURES = {
    BASE: Feature(),
    "LoRA": Feature(lora={"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}, optional=True),
    "bf16": Feature(changes={"bf16": True}),
    "gradient checkpointing": Feature(changes={"gradient_checkpointing": True}),
    "8-bit optimizer": Feature(changes={"use_8bit_optimizer": True}, optional=True),
    "torch.compile": Feature(changes={"compile_model": True}, optional=True),
    "2 loader processes": Feature(changes={"dataloader_num_workers": 2}),
}


def step_seconds(feature: Feature, size: Size, rows: Rows) -> float:
    """Median seconds of a step; the first two, in which memory is allocated and code compiled, are left out."""
    ends: list[float] = []
    torch.compiler.reset()  # every run compiles its own model; the compiler's cache on disk shortens that

    def on_event(event: object) -> None:
        if isinstance(event, StepCompleted):
            ends.append(time.perf_counter())

    lora = lora_config(feature.lora)
    trainer = run_geko(make_model(size), rows, size.batch, on_event=on_event, lora=lora, **feature.changes)
    if trainer.progress.counter.forwarded != size.steps * size.batch * size.tokens:
        raise RuntimeError("Unequal work: not every token was forwarded once.")
    return statistics.median(b - a for a, b in itertools.pairwise(ends[1:]))


def usable(size: Size, rows: Rows) -> tuple[dict[str, Feature], dict[str, str]]:
    """The features that run here, and for each other one the reason why it does not."""
    short = dataclasses.replace(size, steps=3)
    found, missing = {}, {}
    for name, feature in FEATURES.items():
        try:
            if feature.optional:
                step_seconds(feature, short, rows[: short.steps * size.batch])
            found[name] = feature
        except (GekoError, ImportError, RuntimeError, OSError) as error:
            missing[name] = str(error).strip().splitlines()[0][:100]
    return found, missing


def time_and_memory(size: Size, repetitions: int) -> dict[str, Any]:
    """Ratios of step time and of peak memory to those of the run without any feature."""
    rows = make_rows(size, target_share=0.5)
    found, missing = usable(size, rows)
    times = interleave({n: functools.partial(step_seconds, f, size, rows) for n, f in found.items()}, repetitions)
    few = rows[: 3 * size.batch]
    runs = {n: functools.partial(in_child, run_memory, size, few, f.lora, f.changes) for n, f in found.items()}
    peaks = interleave(runs, 1)
    results: dict[str, Any] = {BASE: {"seconds": times[BASE], "bytes": peaks[BASE]}}
    table: list[tuple[object, ...]] = []
    for name in FEATURES:
        if name in missing:
            results[name] = {"not_available": missing[name]}
            table.append((name, f"not available here: {missing[name]}", ""))
        elif name != BASE:
            ratio, memory = Ratio.of(times[name], times[BASE]), Ratio.of(peaks[name], peaks[BASE])
            results[name] = {"time": ratio.to_dict(), "memory": memory.to_dict(), "seconds": times[name]}
            results[name]["bytes"] = peaks[name]
            table.append((name, ratio, f"{memory.median:.2f}"))
    header = ("feature", "time of a step", "peak memory")
    print_table("Against the same run without it = 1 (median, least–most)", header, table)
    return results


def demo_report(samples: int, epochs: int, config: GEKOConfig) -> dict[str, Any]:
    """The report of the demo run on its first `samples` rows, evaluated on 200."""
    run = RunConfig.demo()
    run.data.sample_count, run.data.eval_count = samples, 200
    model, tokenizer = load_model_and_tokenizer(run.model)
    data = []
    for evaluation in (False, True):
        rows = load_rows(run.data, evaluation=evaluation)
        data.append(tokenise(rows, recognise(rows, run.data), tokenizer, run.data.max_length))
    training = dataclasses.asdict(run.training) | {"num_epochs": epochs, "save_steps": 0, "save_at_end": False}
    for own in ("output_dir", "batch_size"):
        training.pop(own)
    return run_geko(model, data[0], run.training.batch_size, config=config, **training).get_efficiency_report(
        "complete"
    )


def pruning(samples: int, epochs: int) -> dict[str, Any]:
    """Counted compute of the demo run with prune_frozen_after, as a ratio to the run without it; no time is taken."""
    makers: dict[str, Callable[[], GEKOConfig]] = {
        "GEKO off": lambda: GEKOConfig(enabled=False),
        "no pruning": GEKOConfig,
        "pruning": lambda: GEKOConfig(prune_frozen_after=PRUNE_AFTER),
    }
    reports = {name: demo_report(samples, epochs, make()) for name, make in makers.items()}
    compute = {name: r["tokens_forwarded"] + 2 * r["tokens_backwarded"] for name, r in reports.items()}
    results: dict[str, Any] = {}
    table = []
    for name, report in reports.items():
        results[name] = {
            "compute_ratio": round(compute[name] / compute["no pruning"], 4),
            "tokens_forwarded": report["tokens_forwarded"],
            "tokens_backwarded": report["tokens_backwarded"],
            "frozen_at_the_end": report["final_buckets"]["freeze"],
        }
        table.append((name, f"{results[name]['compute_ratio']:.3f}", results[name]["frozen_at_the_end"]))
    title = f"Counted compute of the demo, {samples} rows, {epochs} epochs, prune_frozen_after = {PRUNE_AFTER}"
    print_table(title, ("run", "ratio to no pruning", "mastered"), table)
    return results


def main() -> None:
    """Measure, print and write results/features.jsonl."""
    options = arguments(__doc__ or "", repetitions=3)
    size = Size(hidden=256, layers=12, steps=8) if options.large else Size(layers=6, vocabulary=8192)
    samples, epochs = (10_000, 8) if options.large else (1000, 6)
    results = {
        "time_and_memory": time_and_memory(size, options.repetitions),
        "pruning": pruning(samples, epochs),
    }
    settings = {
        "repetitions": options.repetitions,
        "model": {**dataclasses.asdict(size), "head_share": round(size.head_share, 3)},
        "features": {name: dataclasses.asdict(feature) for name, feature in FEATURES.items()},
        "pruning": {"samples": samples, "epochs": epochs, "prune_frozen_after": PRUNE_AFTER},
        "threads": 1,
    }
    write_results("features", settings, results, options)


if __name__ == "__main__":
    main()
