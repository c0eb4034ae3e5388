"""A training step of GEKOTrainer against transformers.Trainer and TRL's SFTTrainer, by the share of the output layer.

Three shapes: the output layer takes 83 %, 21 % (that of SmolLM2-135M) and 4 % of the multiplications of a forward pass; each
with all weights trained and with LoRA, with half and with all of the tokens as targets. Random weights.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
import time
from collections.abc import Callable
from typing import Any

from benchmarks.common import arguments, print_table, write_results
from benchmarks.report import write_page
from benchmarks.workload import Forwarded, Rows, Size, make_model, make_rows, run_geko, run_sft, run_transformers, watch

SHAPES = {
    "small, large vocabulary": Size(128, 4, 32_000, tokens=256, batch=4, steps=4),
    "SmolLM2-135M": Size(576, 30, 49_152, tokens=128, batch=4, steps=3, heads=9, key_values=3, inner=8 / 3),
    "deep, small vocabulary": Size(256, 12, 1664, tokens=256, batch=4, steps=4),
}
QUICK = {"small, large vocabulary": Size(64, 2, 8000, tokens=64, batch=4, steps=4)}
TARGET_SHARES = {"half": 0.5, "all": 1.0}
LORA = {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
GEKO, PEERS = "GEKO", ("transformers", "SFTTrainer")
STARTERS: dict[str, Callable[..., object]] = {
    GEKO: functools.partial(run_geko, on_event=lambda event: None),
    "transformers": run_transformers,
    "SFTTrainer": run_sft,
}


def seconds_of_steps(trainer: str, size: Size, rows: Rows, *, lora: bool) -> list[float]:
    """Processor seconds of each step of one epoch but the first and the last, from one forward pass to the next."""
    from peft import LoraConfig

    model = make_model(size)
    seen: Forwarded = watch(model.model, time.process_time)  # adapters call the layers, and not the model around them
    adapters = {"lora": LoraConfig(**LORA)} if lora else {}
    STARTERS[trainer](model, rows, size.batch, **adapters)
    expected = (size.steps, size.steps * size.batch * size.tokens)
    if (len(seen.starts), seen.tokens) != expected:
        raise RuntimeError(f"Unequal work: {len(seen.starts)} steps and {seen.tokens} tokens instead of {expected}.")
    del model
    gc.collect()
    return seen.step_seconds


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table: a shape, what is trained, and which share of the tokens are targets."""

    name: str
    size: Size
    lora: bool
    targets: str

    def repetition(self, number: int) -> dict[str, list[float]]:
        """Seconds of the steps of each trainer, beginning with another one each time."""
        rows = make_rows(self.size, target_share=TARGET_SHARES[self.targets])
        names = [*STARTERS][number % len(STARTERS) :] + [*STARTERS][: number % len(STARTERS)]
        return {name: seconds_of_steps(name, self.size, rows, lora=self.lora) for name in names}

    def result(self, repetitions: list[dict[str, list[float]]]) -> dict[str, Any]:
        """The figures of all repetitions, and GEKO's least time of a step as a ratio to each peer's."""
        steps = {name: [value for found in repetitions for value in found[name]] for name in STARTERS}
        least = {name: min(values) for name, values in steps.items()}
        return {
            "name": self.name,
            "shape": dataclasses.asdict(self.size) | {"head_share": round(self.size.head_share, 3)},
            "lora": self.lora,
            "targets": self.targets,
            "repetitions": len(repetitions),
            "ratio": {peer: round(least[GEKO] / least[peer], 4) for peer in PEERS},
            "steps": {name: [round(value, 4) for value in values] for name, values in steps.items()},
        }


def measured(cases: list[Case], repetitions: int) -> dict[Case, list[dict[str, list[float]]]]:
    """The repetitions of each case; after Ctrl+C those that were whole, if every case has one."""
    found: dict[Case, list[dict[str, list[float]]]] = {case: [] for case in cases}
    try:
        for number in range(repetitions):
            for case in cases:
                found[case].append(case.repetition(number))
                print(number, case.name, case.lora, case.targets, found[case][-1], flush=True)
    except KeyboardInterrupt:
        if not all(found.values()):
            raise
    return found


def main() -> None:
    """Measure, print and write results/head_shares.jsonl."""
    os.environ["CI"] = "1"  # TRL reports itself to its makers otherwise
    options = arguments(__doc__ or "", repetitions=3, few=1)
    shapes = QUICK if options.small else SHAPES
    cases = [
        Case(name, size, lora, t) for name, size in shapes.items() for lora in (False, True) for t in TARGET_SHARES
    ]
    write(measured(cases, options.repetitions), options)


def write(found: dict[Case, list[dict[str, list[float]]]], options: Any) -> None:
    """Print the table, and write it and the figures."""
    results = [case.result(repetitions) for case, repetitions in found.items()]
    rows = [
        (
            f"{r['shape']['head_share']:.0%}",
            "x".join(str(r["shape"][key]) for key in ("hidden", "layers", "vocabulary", "batch", "tokens")),
            "LoRA" if r["lora"] else "full",
            r["targets"],
            *(f"{r['ratio'][peer]:.2f}" for peer in PEERS),
        )
        for r in results
    ]
    header = ("head", "hidden x layers x vocabulary x batch x tokens", "trained", "targets", *PEERS)
    print_table("Processor time of a step of GEKO, that of the peer = 1 (least of all steps of each)", header, rows)
    settings = {"repetitions": options.repetitions, "threads": 1, "lora": LORA, "peers": list(PEERS)}
    write_results("head_shares", settings, {"steps": results}, options)
    if not options.small:
        write_page()


if __name__ == "__main__":
    main()
