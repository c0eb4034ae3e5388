"""What a model forgets that is trained on new rows only, and what replayed rows of the earlier run keep.

python -m benchmarks.replay --data DIR [--seeds 3] [--small]

banking77, whose intents are two halves of 12 and 13: a run learns the first half, another one continues it on the second half
with data.replay, at several shares of replayed rows, through geko_engine.run as a user would. Loss on test rows of both halves,
and compute in units of the second run without replay. All arms of a seed continue the same first run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, SMALL, write_lines
from benchmarks.datasets import MIXES
from benchmarks.real_data import VARIABLE, banking77
from benchmarks.savings import settle
from benchmarks.tables import mean_and_spread, table
from geko_engine.config.run_config import RunConfig
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.writer import RunWriter
from scripts.demo_tasks import Row

MIX, INTENTS, FIRST_HALF = "banking77, 25 intents", 25, 12
SHARES = (0.0, 0.1, 0.2, 0.4)
WRONG = 0.05  # of the first half's labels: what is likely mislabeled is not replayed
EPOCHS = {"first": 4, "second": 4}
Record = dict[str, Any]


def halves(split: str) -> tuple[list[Row], list[Row]]:
    """Rows of the first intents by name, and of the others."""
    rows = banking77(split, INTENTS)
    first = set(sorted({row["completion"] for row in rows})[:FIRST_HALF])
    return [r for r in rows if r["completion"] in first], [r for r in rows if r["completion"] not in first]


def with_wrong_labels(rows: list[Row], seed: int) -> list[Row]:
    """A copy in which the share WRONG has another label of the same half."""
    rng, labels = random.Random(seed), sorted({row["completion"] for row in rows})
    wrong = set(rng.sample(range(len(rows)), round(WRONG * len(rows))))
    other = [rng.choice([label for label in labels if label != row["completion"]]) for row in rows]
    return [{**row, "completion": other[i]} if i in wrong else row for i, row in enumerate(rows)]


def one_seed(seed: int, folder: Path, count: int) -> list[Record]:
    """The first run, and one second run for each share."""
    train, test = halves("train"), halves("test")
    random.Random(seed).shuffle(train[0])
    files = {
        "first": with_wrong_labels(train[0][:count], seed),
        "second": random.Random(seed).sample(train[1], min(count, len(train[1]))),
        "first-test": test[0],
        "second-test": test[1],
    }
    for name, rows in files.items():
        lines = (json.dumps({key: row[key] for key in ("prompt", "completion")}) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    first = trained(seed, folder, MIXES[MIX].base(), "first", {})
    records = []
    for share in SHARES:
        second = trained(
            seed, folder, str(first.model_path), "second", {"replay": str(first.path), "replay_share": share}
        )
        records.append({"seed": seed, "share": share, "rows": count, **measured(second)})
        print(records[-1], flush=True)
    return records


def trained(seed: int, folder: Path, base: str, half: str, data: dict[str, Any]) -> RunFolder:
    """A run on one half, which measures the loss on the first half's test rows too."""
    values = {
        "model": {"name": base},
        "data": {
            "train": str(folder / f"{half}.jsonl"),
            "eval": str(folder / f"{half}-test.jsonl"),
            "retention": str(folder / "first-test.jsonl"),
            "chat_template": "raw",
            "max_length": MIXES[MIX].longest,
            **data,
        },
        "training": {
            "num_epochs": EPOCHS[half],
            "batch_size": MIXES[MIX].batch_size,
            "learning_rate": MIXES[MIX].learning_rate,
            "save_at_end": False,
            "save_steps": 0,
            "answers_per_epoch": 0,
            "seed": seed,
        },
        "output_dir": str(folder / "runs"),
    }
    made = RunFolder.create(RunConfig.from_dict(values))
    with RunWriter(made) as write:
        report = run(made, on_event=write)
    assert report["end"] == "complete", report["reason"]
    return made


def measured(folder: RunFolder) -> Record:
    """Losses on both halves before and after, and the tokens that were trained on."""
    old = [event["loss"] for _, event in folder.events() if event["type"] == "RetentionMeasured"]
    new = [event for _, event in folder.events() if event["type"] == "Evaluated"]
    return {
        "old_before": old[0],
        "old_after": old[-1],
        "new_after": new[-1]["eval_loss"],
        "new_exact": new[-1]["exact_match"],
        "tokens": new[-1]["tokens_trained"],
    }


def tables(records: Sequence[Record]) -> str:
    """A row for each share."""
    base = {record["seed"]: record["tokens"] for record in records if record["share"] == 0}
    rows = []
    for share in SHARES:
        mine = [record for record in records if record["share"] == share]
        cost = [record["tokens"] / base[record["seed"]] for record in mine]
        names = ("old_before", "old_after", "new_after")
        losses = [mean_and_spread([record[name] for record in mine], ".3f") for name in names]
        exact = mean_and_spread([100 * record["new_exact"] for record in mine], ".1f")
        rows.append([f"{100 * share:.0f} %", *losses, exact, mean_and_spread(cost, ".2f")])
    header = ["replayed", "old rows before", "old rows after", "new rows", "exact match, new (%)", "trained tokens"]
    seeds = len(base)
    said = f"Loss on test rows, mean and standard deviation of {seeds} seed{'s' * (seeds > 1)}; {records[0]['rows']:,} rows a half."
    return "\n".join([said, "", *table(header, rows)])


def main() -> None:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the real rows (see real_data.py)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="one seed, 200 rows a half")
    options = parser.parse_args()
    os.environ[VARIABLE] = str(options.data.resolve())
    settle()
    seeds, count = (1, 200) if options.small else (options.seeds, 1200)
    records = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            records += one_seed(seed, Path(folder), count)
    path = (SMALL if options.small else RESULTS) / "replay.jsonl"
    path.parent.mkdir(exist_ok=True, parents=True)
    write_lines(path, records)
    found = tables(records)
    path.with_suffix(".md").write_text(f"`python -m benchmarks.replay`\n\n{found}\n", encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
