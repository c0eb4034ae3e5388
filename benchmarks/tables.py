"""Records of `savings` -> its tables, as Markdown. Pure.

The main table has a row for each mix: what GEKO needs to come as far as plain training, and what becomes of as many epochs.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.arms import PLAIN, Record, spread
from benchmarks.compute_budgets import LOSS, RIGHT, curves, reaches
from benchmarks.datasets import MIXES

GEKO, SHORT = "geko", "short"
FEWEST_SEEDS = 5  # for any claim; another number is said
SAME_COMPUTE = 0.03  # of plain training's: a larger difference is another budget
MISSING = "–"
MAIN = (
    "data",
    "GEKO's compute to plain training's loss",
    "to its right answers",
    "right answers after as many epochs: plain",
    "GEKO (its compute)",
    "a shorter plain run of that compute",
)


def mean_and_spread(values: Sequence[float], form: str) -> str:
    """Mean and standard deviation."""
    return f"{statistics.fmean(values):{form}} ±{spread(values):{form}}" if values else MISSING


def said(seeds: int) -> str:
    """How many seeds, where they are not the usual ones."""
    return "" if seeds == FEWEST_SEEDS else f" ({seeds} seed{'s' * (seeds > 1)})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return [lines[0], "|---" * len(header) + "|", *lines[1:]]


def groups_of(records: Sequence[Record]) -> dict[tuple[str, int], list[Record]]:
    """Records by mix, in the order of MIXES, and number of samples."""
    found: dict[tuple[str, int], list[Record]] = {}
    for record in sorted(records, key=lambda r: (list(MIXES).index(r["mix"]), -r["samples"])):
        found.setdefault((record["mix"], record["samples"]), []).append(record)
    return found


def of_most_samples(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by mix: those with most samples, as a budget means nothing over different numbers of them."""
    found: dict[str, list[Record]] = {}
    for (mix, _), mine in groups_of(records).items():  # the most come first
        found.setdefault(mix, mine)
    return found


def what(mix: str, samples: int) -> str:
    """The data in words."""
    return MIXES[mix].what + (f", {samples:,} samples" if samples != MIXES[mix].samples else "")


def main_table(records: Sequence[Record]) -> list[str]:
    """A row for each mix that plain training and GEKO were both run on at the mix's own number of epochs."""
    rows = [main_row(mix, samples, mine) for (mix, samples), mine in groups_of(records).items()]
    whole = [row for row in rows if MISSING not in row[3:5]]
    return [*table(MAIN, whole), ""] if whole else []


def main_row(mix: str, samples: int, records: Sequence[Record]) -> list[str]:
    """Cells of one mix."""
    epochs = MIXES[mix].epochs
    loss, right = (reaches(records, field, epochs).get(GEKO) for field in (LOSS, RIGHT))
    seeds = len({record["seed"] for record in records})
    cells = [what(mix, samples) + said(seeds), str(loss or MISSING), str(right or MISSING)]
    own: list[Record] = []
    for arm in (PLAIN, GEKO, SHORT):
        mine = [r for r in records if r["epochs"] == epochs and r["arm"] == arm]
        if arm == SHORT and apart_in_compute(mine, own):
            mine = []  # it had the compute of another arm
        if arm == GEKO:
            own = mine
        cell = mean_and_spread([100 * r[RIGHT] for r in mine], ".1f").replace(" ±", " % ±")
        cell += f" ({statistics.fmean(r['cost'] for r in mine):.2f})" if mine and arm == GEKO else ""
        cells.append(cell + (f" (n={len(mine)})" if mine and len(mine) != seeds else ""))
    return cells


def apart_in_compute(one: Sequence[Record], other: Sequence[Record]) -> bool:
    """Whether two arms spent clearly different compute."""
    if not one or not other:
        return False
    return abs(statistics.fmean(r["cost"] for r in one) - statistics.fmean(r["cost"] for r in other)) > SAME_COMPUTE


def mix_tables(mix: str, samples: int, records: Sequence[Record]) -> list[str]:
    """All arms of one mix: a table for each number of epochs, and one of the budgets where there are several."""
    lines = [f"**{mix}**: {what(mix, samples)}", ""]
    for epochs in sorted({record["epochs"] for record in records}):
        lines += [*arm_table(f"{mix}, {epochs} epochs", [r for r in records if r["epochs"] == epochs]), ""]
    return lines + budget_table(mix, records)


def arm_table(title: str, records: Sequence[Record]) -> list[str]:
    """Compute, loss and right answers of each arm."""
    groups = sorted({name for record in records for name in record["groups"]})
    rows = []
    for arm in dict.fromkeys(record["arm"] for record in records):
        mine = [record for record in records if record["arm"] == arm]
        cells = [mean_and_spread([r["cost"] for r in mine], ".3f"), mean_and_spread([r[LOSS] for r in mine], ".4f")]
        cells.append(mean_and_spread([100 * r[RIGHT] for r in mine], ".1f"))
        cells += [mean_and_spread([100 * r["groups"][name] for r in mine], ".1f") for name in groups]
        rows.append([arm, *cells, str(len(mine))])
    return table([title, "compute", "evaluation loss", "exact match %", *groups, "seeds"], rows)


def budget_table(mix: str, records: Sequence[Record]) -> list[str]:
    """Compute to plain training's own result after the mix's number of epochs; nothing where no arm has several."""
    epochs = MIXES[mix].epochs
    if not curves(records, LOSS, epochs):
        return []
    loss, right = (reaches(records, field, epochs) for field in (LOSS, RIGHT))
    if not any(reach.seeds for reach in loss.values()):
        return []  # no plain run to compare with
    header = [f"{mix}: compute to plain training's {epochs} epochs", "its loss", "its right answers"]
    return [*table(header, [[arm, str(loss[arm]), str(right[arm])] for arm in loss]), ""]


def all_tables(records: Sequence[Record]) -> str:
    """The main table, and all that it was made of."""
    lines = main_table(records)
    for (mix, samples), mine in groups_of(records).items():
        lines += mix_tables(mix, samples, mine)
    return "\n".join(lines)
