"""What the benchmarks wrote -> the tables of docs/results.md, each between two marks there.

No figure of them is typed by hand: `savings`, `speed` and `label_noise` write them anew whenever they have run in full, and a
test compares.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.arms import PLAIN, Record, read_records
from benchmarks.auto_table import rows_of
from benchmarks.common import RESULTS, read_lines
from benchmarks.compute_budgets import LOSS, RIGHT, reaches
from benchmarks.datasets import MIXES
from benchmarks.gpu_table import HEADER, comparison_rows
from benchmarks.tables import GEKO, MISSING, SHORT, groups_of, main_table, mean_and_spread, of_most_samples, said, table

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(\n<!-- end of table -->)", re.DOTALL)
RANDOM = "random pruning"
IN_WORDS = {
    GEKO: "**GEKO**",
    SHORT: "a shorter plain run",
    "short, tuned": "a shorter plain run, learning rate and batch size tuned",
    "geko, skipping always": "GEKO, skipping whatever was known before",
    "plain with the guard": "plain training with the noise guard",
    RANDOM: "random samples left out",
    "selective backprop": "selective backprop: smallest losses left out",
    "InfoBatch's rule": "InfoBatch's rule (`mastery: below_mean_loss`)",
    "gekolib 0.3.1": "gekolib 0.3.1, its own package and defaults",
    "geko, no look-alikes": "no predictions from similar prompts (`prediction_confidence=1`)",
    "geko, replay of a quarter": "`frozen_replay=0.25`",
    "geko, no look-alikes, replay of a quarter": "both of these",
    "geko, no replay": "no replay (`frozen_replay=0`)",
    "geko, re-check instead of replay": "forward-only re-check of half instead of replay",
    "geko, no noise guard": "no noise guard",
    "geko, initial scan": "`initial_scan`",
    "geko, pruning after 1": "pruning after one epoch (`prune_frozen_after=1`)",
    "geko, weights 3/1/0": "weights 3/1/0",
    "aggressive": "preset Aggressive (weights 5/2/0)",
    "balanced": "preset Balanced (weights 3/2/1)",
    "conservative": "preset Conservative (weights 2/2/1)",
    "seed": "`GEKOConfig.seed()` (mountain curriculum; it sets the weights)",
}
PRESETS = ("aggressive", "balanced", "conservative", "seed")
NO_GPU = (
    "Not run on a GPU: no machine with one was at hand. `make gpu` runs, in about ten minutes, the tests that need one and a "
    "table against `transformers.Trainer` and TRL, with padding-free batches on rows of unequal length, and writes it here."
)
PARTS_OF, TEN = "demo", "demo, ten epochs"


def is_part(arm: str) -> bool:
    """Whether an arm is GEKO with something changed, and no contestant."""
    return arm in PRESETS or arm.startswith("geko,")


def cells(records: Sequence[Record]) -> list[str]:
    """Compute, evaluation loss, right answers; with their number where it is not the usual one."""
    return [
        mean_and_spread([r["cost"] for r in records], ".3f"),
        mean_and_spread([r[LOSS] for r in records], ".3f"),
        mean_and_spread([100 * r[RIGHT] for r in records], ".1f") + said(len(records)),
    ]


def at_own_epochs(records: Sequence[Record]) -> dict[str, dict[str, list[Record]]]:
    """Records by mix and arm, of each mix's own number of epochs."""
    found: dict[str, dict[str, list[Record]]] = {}
    for mix, mine in of_most_samples(records).items():
        for record in mine:
            if record["epochs"] == MIXES[mix].epochs:
                found.setdefault(mix, {}).setdefault(record["arm"], []).append(record)
    return found


def saves(records: Sequence[Record]) -> list[str]:
    """Each contestant on each mix."""
    rows = []
    for mix, arms in at_own_epochs(records).items():
        contestants = [arm for arm in arms if not is_part(arm)]
        for arm in contestants:
            name = MIXES[mix].what if arm == contestants[0] else ""
            rows.append([name, IN_WORDS.get(arm, arm), *cells(arms[arm])])
    return table(["data", "arm", "compute", "evaluation loss", "right %"], rows)


def reach(records: Sequence[Record]) -> list[str]:
    """The compute at which each arm that was run over several epochs comes as far as plain training's whole run."""
    rows = []
    for mix, mine in of_most_samples(records).items():
        loss, right = (reaches(mine, field, MIXES[mix].epochs) for field in (LOSS, RIGHT))
        for arm in (arm for arm in loss if loss[arm].seeds and arm != PLAIN):
            rows.append([MIXES[mix].what, IN_WORDS.get(arm, arm), str(loss[arm]), str(right[arm])])
    return table(["data", "arm", "compute to its loss", "compute to its right answers"], rows)


def ten(records: Sequence[Record]) -> list[str]:
    """GEKO and plain training over several numbers of epochs, compute in runs of ten plain ones."""
    mine = of_most_samples(records).get(TEN, [])
    rows = []
    for epochs in sorted({r["epochs"] for r in mine}):
        row = [str(epochs)]
        for arm in (GEKO, PLAIN):
            runs = [r for r in mine if r["epochs"] == epochs and r["arm"] == arm]
            cost = f"{statistics.fmean(r['cost'] for r in runs) * epochs / MIXES[TEN].epochs:.3f}" if runs else MISSING
            row += [cost, *cells(runs)[1:]] if runs else [MISSING] * 3
        rows.append(row)
    short = [r for r in mine if r["arm"] == SHORT]
    rows += [[IN_WORDS[SHORT], "", "", "", *cells(short)]] if short else []
    header = ["epochs", "GEKO: compute", "evaluation loss", "right %", "plain: compute", "evaluation loss", "right %"]
    return table(header, rows)


def few(records: Sequence[Record]) -> list[str]:
    """The demo's mix with fewer and fewer samples, so of shorter and shorter runs."""
    mix, arms = MIXES[PARTS_OF], (PLAIN, GEKO, SHORT, RANDOM)
    rows = []
    for (name, samples), mine in groups_of(records).items():
        own = {arm: [r for r in mine if r["arm"] == arm and r["epochs"] == mix.epochs] for arm in arms}
        if name != PARTS_OF or not all(own.values()):
            continue
        steps = mix.epochs * -(-samples // mix.batch_size)
        for arm in arms:
            first = f"{samples:,} samples, {steps} steps" if arm == PLAIN else ""
            rows.append([first, IN_WORDS.get(arm, arm), *cells(own[arm])])
    return table(["run", "arm", "compute", "evaluation loss", "right %"], rows)


def parts(records: Sequence[Record]) -> list[str]:
    """GEKO with one part switched off or changed, and the presets, on the demo's mix."""
    arms = at_own_epochs(records).get(PARTS_OF, {})
    rows = []
    for arm in (arm for arm in arms if arm == GEKO or is_part(arm)):
        groups = [f"{statistics.fmean(100 * r['groups'][name] for r in arms[arm]):.1f}" for name in ("known", "new")]
        rows.append([IN_WORDS.get(arm, arm), *cells(arms[arm]), *groups])
    return table(["arm", "compute", "evaluation loss", "right %", "known", "new"], rows)


def speed() -> list[str]:
    """A step, its memory, real tokens per second and a scan, against their peers."""
    found = results_of("speed")
    steps, memory = found["time_of_a_step"], found["memory_of_the_loss"]
    pace, half, whole = found["tokens_per_second"], "half are targets", "all are targets"
    rows = [
        ["time of a step, half of the tokens are targets", ratio(steps[half]["GEKO"])],
        ["time of a step, all tokens are targets", ratio(steps[whole]["GEKO"])],
        ["peak memory of the loss, half / all", f"{memory[half]['GEKO']['median']:.2f} / {memory[whole]['GEKO']['median']:.2f}"],
        ["real tokens per second, lengths log-normal", ratio(pace["GEKO"])],
        ["the same with its own `group_by_length`", ratio(pace["transformers, group_by_length"])],
        ["time of a scan without training, GEKO's training on the same samples = 1", ratio(found["time_of_a_scan"])],
    ]  # fmt: skip
    return table(["", "against `transformers.Trainer`"], rows)


def steps() -> list[str]:
    """A step against both peers, by the share of the output layer in the forward pass."""
    rows = []
    for found in results_of("head_shares")["steps"]:
        shape = found["shape"]
        size = f"{shape['hidden']} x {shape['layers']} x {shape['vocabulary']:,}"
        batch = f"{shape['batch']} x {shape['tokens']}"
        trained, share = "LoRA" if found["lora"] else "all weights", f"{shape['head_share']:.0%}".replace("%", " %")
        ratios = [f"{found['ratio'][peer]:.2f}" for peer in ("transformers", "SFTTrainer")]
        rows.append([share, size, batch, trained, found["targets"], *ratios])
    header = ["output layer", "hidden x layers x vocabulary", "batch x tokens", "trained", "targets"]
    return table([*header, "`transformers.Trainer` = 1", "TRL's `SFTTrainer` = 1"], rows)


def ratio(found: dict[str, float]) -> str:
    """Median, least and most."""
    return f"{found['median']:.2f} ({found['min']:.2f} to {found['max']:.2f})"


def label_noise() -> list[str]:
    """What the noise guard lists after the first and the second epoch, and what of it is wrong."""
    rows = []
    for mix, runs in results_of("label_noise").items():
        row = [MIXES[mix].what]
        for epoch in (0, 1):
            listed, right, wrong = ([run["all"][epoch][name] for run in runs] for name in ("listed", "right", "wrong"))
            row += [
                f"{statistics.fmean(listed):.0f}",
                shares(right, listed) if any(wrong) else MISSING,
                shares(right, wrong),
            ]
        rows.append(row)
    columns = ["suspects", "of these wrong", "of the wrong found"]
    header = ["data", *(f"after {epochs}: {column}" for epochs in ("one epoch", "two epochs") for column in columns)]
    return table(header, rows)


def label_errors() -> list[str]:
    """The list of each arm on banking77, by how many labels were changed and how; of unchanged labels nothing is known."""
    rows = []
    for data, found in results_of("label_errors").items():
        for flips, trials in found.items():
            if not trials[0][next(iter(trials[0]))]["wrong"]:
                continue
            for arm in trials[0]:
                mine = [trial[arm] for trial in trials if arm in trial]
                right, listed, wrong = ([trial[name] for trial in mine] for name in ("right", "listed", "wrong"))
                precision = f"{statistics.fmean(trial['ap'] for trial in mine):.3f}"
                cells = [precision, f"{statistics.fmean(listed):.0f}", shares(right, listed), shares(right, wrong)]
                rows.append([data, flips, arm, *cells])
    return table(
        ["banking77", "changed", "list", "average precision", "rows", "of these wrong", "of the wrong found"], rows
    )


def trained_label_errors() -> list[str]:
    """What a training run says about wrong labels, beside the list that is made before it."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in read_lines(RESULTS / "trained_label_errors.jsonl"):
        found.setdefault((record["data"], record["kind"]), []).append(record["arms"])
    rows = []
    for (data, kind), runs in found.items():
        for arm in runs[-1]:
            mine = [run[arm] for run in runs if arm in run]
            right, listed, wrong = ([one[name] for one in mine] for name in ("right", "listed", "wrong"))
            precision = f"{statistics.fmean(one['ap'] for one in mine):.3f}"
            cells = [precision, f"{statistics.fmean(listed):.0f}", shares(right, listed), shares(right, wrong)]
            rows.append([data, f"{kind} ({len(mine)})", arm, *cells])
    header = ["data", "changed (seeds)", "list", "average precision", "rows", "of these wrong", "of the wrong found"]
    return table(header, rows)


def gpu() -> list[str]:
    """A training step on a GPU against other trainers; a sentence where there is no record of one."""
    path = RESULTS / "gpu.jsonl"
    if not path.exists():
        return [NO_GPU]
    latest = read_lines(path)[-1]
    lines = comparison_rows(latest["results"]["steps"])
    return [f"{latest['settings']['device']}, {latest['date']}.", "", *table(list(HEADER), lines)]


def shares(parts: Sequence[int], wholes: Sequence[int]) -> str:
    """Mean share in percent, with the smallest and the largest; of the pairs whose whole is not 0."""
    found = [100 * part / whole for part, whole in zip(parts, wholes, strict=True) if whole]
    return f"{statistics.fmean(found):.0f} % ({min(found):.0f}–{max(found):.0f})" if found else MISSING


def results_of(name: str) -> dict[str, Any]:
    """What the latest full run of a benchmark found."""
    found: dict[str, Any] = read_lines(RESULTS / f"{name}.jsonl")[-1]["results"]
    return found


TABLES: dict[str, Callable[[Sequence[Record]], list[str]]] = {
    "main": lambda records: main_table([r for r in records if r["samples"] == MIXES[r["mix"]].samples])[:-1],
    "saves": saves,
    "reach": reach,
    "ten": ten,
    "few": few,
    "parts": parts,
    "speed": lambda _: speed(),
    "steps": lambda _: steps(),
    "label_noise": lambda _: label_noise(),
    "label_errors": lambda _: label_errors(),
    "trained_label_errors": lambda _: trained_label_errors(),
    "auto": lambda _: rows_of(read_lines(RESULTS / "auto.jsonl")),
    "gpu": lambda _: gpu(),
}


def renewed(text: str, records: Sequence[Record]) -> str:
    """`text` with each marked table as the benchmarks have it; `records` are those of `savings`."""
    return MARKED.sub(lambda found: "\n".join((found[1], *TABLES[found[2]](records), found[3])), text)


def write_page() -> None:
    """The marked tables of PAGE anew."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(renewed(text, read_records(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    write_page()
