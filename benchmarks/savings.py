"""Quality against counted compute: GEKO, plain training, and plain training at GEKO's own budget.

The control that decides is the last one: the same number of tokens as GEKO spent, spent on all samples alike, with a
learning rate that decays to zero over that shorter run.

python -m benchmarks.savings [--mixes demo wrong new duplicates] [--arms plain geko short ...] [--seeds 5]

One record per arm, mix and seed goes to benchmarks/results/savings.json; what is there already is not run again
(--fresh starts anew).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from benchmarks.peers import load_gekolib, silence
from benchmarks.workload import watch
from geko_engine import Bucket, GEKOConfig, GEKOTrainer, GEKOTrainingArgs, PartitionStats
from geko_engine.config import GEKO_AGGRESSIVE, GEKO_BALANCED, GEKO_CONSERVATIVE, ModelConfig
from geko_engine.data import TokenizedData, tokenise
from geko_engine.models import load_model_and_tokenizer
from geko_engine.progress import Progress
from geko_engine.sample_states import SampleStates
from geko_engine.scoring import IGNORED
from geko_engine.shapes import Columns
from scripts.demo_tasks import DEFAULT_MIX, Row, make_rows

RESULTS = Path(__file__).parent / "results" / "savings.json"
PRESETS_PATH = Path(__file__).parent.parent / "assets" / "presets.json"  # shown beside the presets on the page
PRESET_ARMS = {"plain": "plain", "recommended": "geko"} | {n: n for n in ("aggressive", "balanced", "conservative")}
COLUMNS = Columns("prompt", "completion")
OFF = GEKOConfig(enabled=False)
Record = dict[str, Any]


def demo_mix(count: int, seed: int, avoid: set[str]) -> list[Row]:
    """Half known, 3 % wrong answers: what the demo ships."""
    return make_rows(count, seed, wrong_ratio=0.03, avoid=avoid)


def wrong_mix(count: int, seed: int, avoid: set[str]) -> list[Row]:
    """The same with 10 % wrong answers."""
    return make_rows(count, seed, wrong_ratio=0.10, avoid=avoid)


def new_mix(count: int, seed: int, avoid: set[str]) -> list[Row]:
    """Nothing that the base model knows."""
    return make_rows(count, seed, mix={"new": 0.6, "hard": 0.4}, avoid=avoid)


def duplicate_mix(count: int, seed: int, avoid: set[str]) -> list[Row]:
    """Every row twice, the second with another wording of its beginning."""
    half = make_rows(count // 2, seed, wrong_ratio=0.03, avoid=avoid)
    return half + [{**row, "prompt": f"Please: {row['prompt']}"} for row in half]


MIXES: dict[str, Callable[[int, int, set[str]], list[Row]]] = {
    "demo": demo_mix,
    "wrong": wrong_mix,
    "new": new_mix,
    "duplicates": duplicate_mix,
}
EVALUATED: dict[str, dict[str, float]] = {"new": {"new": 0.6, "hard": 0.4}}
ARMS: dict[str, GEKOConfig] = {
    "plain": OFF,
    "geko": GEKOConfig(),
    "geko, no replay": GEKOConfig(frozen_replay=0.0),
    "geko, re-check instead of replay": GEKOConfig(frozen_replay=0.0, recheck_ratio=0.5),
    "geko, no noise guard": GEKOConfig(noise_guard=False),
    "geko, initial scan": GEKOConfig(initial_scan=True),
    "geko, pruning after 1": GEKOConfig(prune_frozen_after=1),
    "InfoBatch's rule": GEKOConfig(mastery="relative", frozen_replay=0.5, noise_guard=False),
    "aggressive": GEKO_AGGRESSIVE,
    "balanced": GEKO_BALANCED,
    "conservative": GEKO_CONSERVATIVE,
    "seed": GEKOConfig.seed(),
}
FEWEST_SEEDS = 5  # for any claim
SHORT = "short"  # plain training at the budget that "geko" spent with the same mix and seed
RANDOM = "random pruning"  # at that budget too: the first epoch on everything, then random samples left out
GEKOLIB = "gekolib 0.3.1"  # as published, from its own package
AT_BUDGET = (SHORT, RANDOM)
OTHERS = (*AT_BUDGET, GEKOLIB)


class ShortTrainer(GEKOTrainer):
    """Plain training that ends after `steps` optimizer steps, its learning rate decayed to zero by then."""

    def __init__(self, *args: Any, steps: int, **options: Any) -> None:
        self.steps = steps
        super().__init__(*args, should_stop=lambda: self.progress.step >= steps, **options)

    @property
    def share_done(self) -> float:
        return min(1.0, self.progress.step / self.steps)


class RandomStates(SampleStates):
    """A record whose partition freezes random samples; nothing of it comes from the model."""

    def __init__(self, count: int, share: float, seed: int) -> None:
        super().__init__(count)
        self._share, self._rng = share, np.random.default_rng(seed)

    def partition(self, config: GEKOConfig) -> PartitionStats:
        if self.visits().any():  # the first epoch trains on everything, as GEKO's does
            left_out = self._rng.random(self.count) >= self._share
            self.arrays["bucket"][:] = np.where(left_out, Bucket.FREEZE, Bucket.FOCUS)
            self._counts = self._count(self.bucket)
        return self.counts()


def random_trainer(budget: float, *args: Any) -> GEKOTrainer:
    """GEKOTrainer that spends `budget` of plain training's compute on random samples."""
    trainer = GEKOTrainer(*args)
    epochs = trainer.args.num_epochs
    share = (budget * epochs - 1) / (epochs - 1)
    trainer.states = RandomStates(len(trainer.samples), share, trainer.args.seed)
    return trainer


def run_published(module: Any, model: Any, data: TokenizedData, args: GEKOTrainingArgs) -> float:
    """Train with gekolib's own trainer at its own defaults; the share of plain training's compute that it spent."""
    longest = int(data.lengths.max())
    rows = []
    for index in range(len(data)):
        sample = data[index]
        padding = longest - len(sample["input_ids"])
        rows.append(
            {
                "input_ids": torch.tensor(np.pad(sample["input_ids"], (0, padding))).long(),
                "attention_mask": torch.tensor(np.pad(np.ones_like(sample["input_ids"]), (0, padding))).long(),
                "labels": torch.tensor(np.pad(sample["labels"], (0, padding), constant_values=IGNORED)),
            }
        )
    names = ("output_dir", "num_epochs", "batch_size", "learning_rate", "warmup_steps", "seed")
    own = {name: getattr(args, name) for name in names}
    quiet = {"save_steps": 10**9, "eval_steps": 10**9, "logging_steps": 10**9, "save_at_end": False}
    published = module.GEKOTrainingArgs(**own, **quiet, dataloader_num_workers=0, use_rich_ui=False)
    seen = watch(model)
    with silence():
        module.GEKOTrainer(model=model, train_dataset=rows, args=published).train()
    return seen.tokens / (args.num_epochs * float(data.lengths.sum()))


def one_run(mix: str, arm: str, seed: int, options: argparse.Namespace, budget: float = 0.0) -> Record:
    """Train once and return what was counted."""
    model, tokenizer = load_model_and_tokenizer(ModelConfig("demo"))
    evaluation = make_rows(1200, 900, mix=EVALUATED.get(mix, DEFAULT_MIX))
    rows = MIXES[mix](options.samples, 1000 + seed, {row["prompt"] for row in evaluation})
    held_out = tokenise(evaluation, COLUMNS, tokenizer, 256)
    data = tokenise(rows, COLUMNS, tokenizer, 256)
    with tempfile.TemporaryDirectory() as folder:
        args = GEKOTrainingArgs(
            output_dir=folder,
            num_epochs=options.epochs,
            batch_size=16,
            learning_rate=7e-4,
            warmup_steps=30,
            save_steps=0,
            eval_steps=0,
            save_at_end=False,
            seed=seed,
        )
        trainer = build(model, data, tokenizer, arm, args, budget)
        if arm == GEKOLIB:
            spent = run_published(load_gekolib(), model, data, args)
            found = {**trainer_figures(trainer, evaluation, held_out), "cost": spent}
        else:
            trainer.train()
            found = trainer_figures(trainer, evaluation, held_out)
    return {"mix": mix, "arm": arm, "seed": seed, "samples": options.samples, "epochs": options.epochs, **found}


def build(
    model: Any, data: TokenizedData, tokenizer: Any, arm: str, args: GEKOTrainingArgs, budget: float
) -> GEKOTrainer:
    """The trainer of an arm. The held-out set is scored after the run, so it costs no arm any time."""
    if arm == RANDOM:
        guardless = GEKOConfig(frozen_replay=0.0, noise_guard=False)
        return random_trainer(budget, model, data, tokenizer, None, guardless, args)
    if arm != SHORT:
        return GEKOTrainer(model, data, tokenizer, None, ARMS.get(arm, OFF), args)
    steps = round(budget * args.num_epochs * -(-len(data) // args.batch_size))
    return ShortTrainer(model, data, tokenizer, None, OFF, args, steps=steps)


def trainer_figures(trainer: GEKOTrainer, rows: Sequence[Row], held_out: TokenizedData) -> Record:
    """Counted compute, and loss and exact match on the held-out rows, by group too."""
    found = trainer.machine.scan(held_out, np.arange(len(held_out)), lambda: False, lambda done, total: None)
    groups: dict[str, list[bool]] = {}
    for index, correct in zip(found.ids, found.correct, strict=True):
        groups.setdefault(rows[int(held_out.rows[index])]["group"], []).append(bool(correct))
    progress: Progress = trainer.progress
    full = trainer.tokens_per_epoch * trainer.args.num_epochs
    counter = progress.counter
    return {
        "cost": (counter.forwarded + 2 * counter.backwarded) / (3 * full),
        "steps": progress.step,
        "eval_loss": found.mean_loss,
        "exact_match": found.exact_match,
        "groups": {name: statistics.fmean(values) for name, values in sorted(groups.items())},
        "train_seconds": progress.train_seconds,
        "buckets": progress.buckets,
    }


def key(record: Record) -> tuple[Any, ...]:
    """What makes a record that of one run."""
    return tuple(record[name] for name in ("mix", "arm", "seed", "samples", "epochs"))


def run_all(options: argparse.Namespace) -> list[Record]:
    """Every run that is not recorded yet; the file is written after each."""
    records: list[Record] = [] if options.fresh or not RESULTS.exists() else json.loads(RESULTS.read_text("utf-8"))
    done = {key(record): record for record in records}
    arms = sorted(options.arms, key=lambda arm: arm in AT_BUDGET)  # these need the budget of "geko"
    for mix in options.mixes:
        for seed in range(options.seeds):
            for arm in arms:
                wanted = (mix, arm, seed, options.samples, options.epochs)
                if wanted in done:
                    continue
                budget = done[(mix, "geko", *wanted[2:])]["cost"] if arm in AT_BUDGET else 0.0
                done[wanted] = one_run(mix, arm, seed, options, budget)
                print(f"{mix} seed {seed} {arm}: cost {done[wanted]['cost']:.3f}", flush=True)
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(list(done.values()), indent=1), encoding="utf-8")
    return list(done.values())


def spread(values: Sequence[float], form: str) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):{form}} ±{deviation:{form}}"


def table(records: Sequence[Record], options: argparse.Namespace) -> str:
    """Markdown, one block per mix."""
    lines: list[str] = []
    for mix in options.mixes:
        chosen = [r for r in records if (r["mix"], r["samples"], r["epochs"]) == (mix, options.samples, options.epochs)]
        groups = sorted({name for record in chosen for name in record["groups"]})
        lines += [
            f"\n{mix}: {MIXES[mix].__doc__}\n",
            f"| {mix} | compute | evaluation loss | exact match % | {' | '.join(groups)} | seeds |",
            "|---" * (5 + len(groups)) + "|",
        ]
        for arm in dict.fromkeys(record["arm"] for record in chosen):
            mine = [record for record in chosen if record["arm"] == arm]
            cells = [spread([r["cost"] for r in mine], ".3f"), spread([r["eval_loss"] for r in mine], ".4f")]
            cells.append(spread([100 * r["exact_match"] for r in mine], ".1f"))
            cells += [spread([100 * r["groups"][name] for r in mine], ".1f") for name in groups]
            lines.append(f"| {arm} | {' | '.join(cells)} | {len(mine)} |")
    return "\n".join(lines)


def write_presets(records: Sequence[Record], options: argparse.Namespace) -> None:
    """What the page shows beside the presets: means over the seeds on the demo's mix, once all of them were run."""
    arms = {}
    for name, arm in PRESET_ARMS.items():
        key_ = ("demo", arm, options.samples, options.epochs)
        mine = [r for r in records if (r["mix"], r["arm"], r["samples"], r["epochs"]) == key_]
        if len(mine) < FEWEST_SEEDS:
            return
        arms[name] = {
            "compute": round(statistics.fmean(r["cost"] for r in mine), 4),
            "exact_match": round(statistics.fmean(r["exact_match"] for r in mine), 4),
            "eval_loss": round(statistics.fmean(r["eval_loss"] for r in mine), 4),
        }
    what = f"{options.samples:,} short tasks like the demo's, {options.epochs} epochs, mean of {len(mine)} seeds"
    PRESETS_PATH.write_text(json.dumps({"what": what, "arms": arms}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixes", nargs="+", default=["demo"], choices=MIXES)
    parser.add_argument("--arms", nargs="+", default=["plain", "geko", SHORT], choices=[*ARMS, *OTHERS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--fresh", action="store_true", help="forget what was recorded")
    options = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # the model is small: more threads wait for one another
    records = run_all(options)
    print(table(records, options))
    write_presets(records, options)


if __name__ == "__main__":
    main()
