"""What a GPU really does: the tests that need one, and GEKO against transformers.Trainer and TRL at sizes that people train.

python -m benchmarks.gpu [--minutes N]              on one NVIDIA GPU (make gpu)
python -m benchmarks.gpu --small --device cpu       tiny shapes: proves the path without a GPU; no memory is measured

Random weights, random tokens, every token a target. LoRA on a base in bfloat16, full fine-tuning in bfloat16 with float32
weights. What does not fit, or is not reached in time, is a row with the reason.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_padding
from benchmarks.common import print_table, write_results
from benchmarks.gpu_table import HEADER, comparison_rows, estimate_rows
from benchmarks.gpu_trainers import (
    LORA,
    QLORA,
    TRAINERS,
    Shape,
    estimated_bytes,
    full_bytes,
    make_rows_of,
    random_model,
    timed,
)
from benchmarks.report import write_page
from geko_engine.exceptions import is_out_of_memory

ROOT = Path(__file__).parent.parent
# Layers, widths and vocabularies of SmolLM2-135M, Qwen2.5-0.5B, TinyLlama-1.1B and Llama-2-7B.
SHAPES = (
    Shape("135M", 576, 1536, 30, 9, 3, 49_152, tied=True, batch=16),
    Shape("0.5B", 896, 4864, 24, 14, 2, 151_936, tied=True, batch=8),
    Shape("1.1B", 2048, 5632, 22, 32, 4, 32_000, tied=False, batch=8),
    Shape("7B", 4096, 11_008, 32, 32, 32, 32_000, tied=False, batch=4),
)
SMALL = (
    Shape("tiny", 64, 128, 2, 4, 2, 512, tied=True, batch=2, tokens=32, steps=6),
    Shape("tiny, untied", 64, 128, 2, 4, 4, 512, tied=False, batch=2, tokens=32, steps=6),
)
WAYS = ("LoRA", "full")
MINUTES = 8.0
OneRun = Callable[[Shape, str, str, str], dict[str, Any]]


def arguments() -> argparse.Namespace:
    """The command line, with what the result files need to know."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny shapes; writes to results/small")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu goes with --small")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"time for all of it (default {MINUTES:g})")
    options = parser.parse_args()
    if options.device == "cpu" and not options.small:
        parser.error("--device cpu goes with --small: the full shapes would take hours on a CPU.")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            "There is no NVIDIA GPU here: run it where there is one, or prove the path with --small --device cpu."
        )
    options.large, options.repetitions = False, 1
    return options


# ------------------------------------------------------------ the tests
def run_tests(device: str, seconds: float) -> list[dict[str, Any]]:
    """The outcome of each test that needs a GPU: name, outcome, reason, seconds."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-q", f"--junitxml={report}"]
        environment = os.environ | ({"GEKO_GPU_TESTS": "cpu", "CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})
        try:
            subprocess.run(command, cwd=ROOT, env=environment, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return [{"name": "all", "outcome": "not over in time", "reason": f"{seconds:.0f} s", "seconds": seconds}]
        return outcomes(report.read_text(encoding="utf-8"))


def outcomes(report: str) -> list[dict[str, Any]]:
    """What a JUnit report says of each test."""
    found = []
    for case in ET.fromstring(report).iter("testcase"):
        other = next((child for child in case if child.tag in ("skipped", "failure", "error")), None)
        outcome = "passed" if other is None else "skipped" if other.tag == "skipped" else "failed"
        reason = "" if other is None else other.get("message", "").splitlines()[0][:120]
        name = case.get("name", "").removeprefix("test_").replace("_", " ")
        found.append({"name": name, "outcome": outcome, "reason": reason, "seconds": float(case.get("time", 0))})
    return found


# ------------------------------------------------------------ the table
def compare(shapes: tuple[Shape, ...], device: str, deadline: float) -> list[dict[str, Any]]:
    """A record for each shape, way and trainer: figures, or why there are none."""
    records = []
    for shape in shapes:
        for way in WAYS:
            for trainer in TRAINERS:
                record = {"model": shape.name, "way": way, "trainer": trainer}
                records.append(record | measured(shape, way, trainer, device, deadline))
    return records


def unequal_lengths(shapes: tuple[Shape, ...], device: str, deadline: float) -> list[dict[str, Any]]:
    """The same for rows of unequal length, with padding and without."""
    way, run = gpu_padding.LENGTHS, gpu_padding.one_run
    return [
        {"model": shape.name, "way": way, "trainer": trainer} | measured(shape, way, trainer, device, deadline, run)
        for shape in shapes
        for trainer in gpu_padding.RUNS
    ]


def measured(
    shape: Shape, way: str, trainer: str, device: str, deadline: float, run: OneRun | None = None
) -> dict[str, Any]:
    """Seconds and tokens of a step and peak bytes (of a GPU only), or `missing`: why they could not be had."""
    needed = full_bytes(shape) if way == "full" else 0
    if device == "cuda" and needed > torch.cuda.mem_get_info()[1]:
        return {"missing": f"does not fit: weights, gradients and AdamW alone take {needed / 1e9:.0f} GB"}
    if time.monotonic() > deadline:
        return {"missing": "not reached in time"}
    try:
        return (run or one_run)(shape, way, trainer, device)
    except (RuntimeError, ValueError, ImportError) as error:
        if is_out_of_memory(error):
            return {"missing": "does not fit: memory ran out"}
        return {"missing": f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"}
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def one_run(shape: Shape, way: str, trainer: str, device: str) -> dict[str, Any]:
    """One short run on a fresh model."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    where = "cpu" if way == QLORA else device  # whose weights come to the device in 4 bits
    model = random_model(shape, torch.float32 if way == "full" else torch.bfloat16, where)
    config = model.config
    rows = make_rows_of(shape)
    seconds = timed(TRAINERS[trainer], model, rows, shape, way)
    del model
    found: dict[str, Any] = {
        "seconds": seconds,
        "tokens_per_second": shape.batch * shape.tokens / seconds,
        "bytes": None,
    }
    if device == "cuda":
        found["bytes"] = torch.cuda.max_memory_allocated() - before
    if trainer == "GEKO":
        found["estimated_bytes"] = estimated_bytes(shape, way, config)
    return found


def main() -> None:
    """Entry of the command line; ends with 1 where a test failed."""
    options = arguments()
    began = time.monotonic()
    deadline = began + 60 * options.minutes
    tests = run_tests(options.device, 60 * options.minutes / 2)
    lines = [[t["name"], t["outcome"], t["reason"], f"{t['seconds']:.1f} s"] for t in tests]
    print_table("Tests that need a GPU", ("test", "outcome", "reason", "time"), lines)
    shapes = SMALL if options.small else SHAPES
    records = compare(shapes, options.device, deadline) + unequal_lengths(shapes[:3], options.device, deadline)
    print_table("A training step in bfloat16, random weights", HEADER, comparison_rows(records))
    quantized = [
        {"model": shape.name, "way": QLORA, "trainer": "GEKO"}
        | measured(shape, QLORA, "GEKO", options.device, deadline)
        for shape in shapes[: 1 if options.small else 3]
    ]
    estimates = estimate_rows([*records, *quantized])
    print_table("Estimate before the start / measured", ("model", "way", "estimate", "measured", "ratio"), estimates)
    settings = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "shapes": [dataclasses.asdict(shape) for shape in shapes],
        "lora": LORA,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    write_results("gpu", settings, {"tests": tests, "steps": records, "estimates": quantized}, options)
    if not options.small:
        write_page()
    sys.exit(any(test["outcome"] not in ("passed", "skipped") for test in tests))


if __name__ == "__main__":
    main()
