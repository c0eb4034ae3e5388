"""Plots of what `savings` has recorded: compute against loss, and differences to plain training paired by seed.

python -m benchmarks.plots

Reads results/savings.jsonl (and results/small) and writes SVG files beside them: one pair for each setting (samples x
epochs) at the mixes' own number of epochs, and one of what each budget buys where several were measured. No number is
typed in here, and the same records give the same bytes.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.arms import PLAIN, Arm, Record, Setting, apart, arms_of, by_setting, paired, pareto_front, read_records
from benchmarks.common import RESULTS, SMALL
from benchmarks.compute_budgets import LOSS, RIGHT, curves, means
from benchmarks.datasets import MIXES
from benchmarks.tables import of_most_samples
from geko_app.theme import MOSS, STONE
from geko_app.views.charts import BUCKET_COLORS, EVALUATION

INK, SOFT, LINE, PANEL = STONE.c800, STONE.c500, STONE.c200, STONE.c50
WIDTH = 8.0  # inches: 768 pixels on a page
SIZE = 8.0  # points, of all text but titles
LETTER = 0.056  # inches of one letter at that size
TITLE_LETTER = 0.085  # and of a title's
NARROWEST = 1.25  # inches of a panel, for two of them and their labels side by side
MEASURED = "DejaVu Sans"  # comes with matplotlib, so the layout is the same everywhere; wider than what will be shown
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "geko",
    "font.family": "sans-serif",
    "font.sans-serif": [MEASURED],
    "font.size": SIZE,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.facecolor": PANEL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": PANEL,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
PART = "geko, "  # of the rule, switched off or changed
CONTROLS = ("short", "random", "selective")
PRESETS = ("aggressive", "balanced", "conservative", "seed")


@dataclass(frozen=True)
class Look:
    """How the arms of one kind are drawn."""

    colour: str
    marker: str
    size: float
    place: int  # among the rows
    filled: bool = True

    @property
    def words(self) -> tuple[float, ...]:
        """A darker shade, in which small text is legible."""
        return tuple(0.78 * part for part in to_rgb(self.colour))


def look_of(arm: str) -> Look:
    """By the arm's name: plain training, GEKO as it comes, GEKO changed, a control, or another project."""
    if arm == PLAIN:
        return Look(INK, "s", 5.0, 0)
    if arm.startswith(f"{PLAIN},"):
        return Look(SOFT, "s", 5.0, 2, filled=False)
    if arm == "geko":
        return Look(MOSS.c600, "o", 7.5, 1)
    if arm.startswith("geko,") or arm.startswith(PRESETS):
        return Look(MOSS.c500, "o", 5.0, 4, filled=False)
    if arm.startswith(CONTROLS):
        return Look(EVALUATION["light"], "^", 5.5, 2)
    return Look(BUCKET_COLORS["freeze"], "D", 4.5, 3)


def marker(look: Look) -> dict[str, Any]:
    """Keyword arguments of a marker."""
    return {
        "marker": look.marker,
        "markersize": look.size,
        "color": look.colour,
        "markerfacecolor": look.colour if look.filled else PANEL,
        "markeredgewidth": 1.2,
        "linestyle": "none",
    }


def grid_of(panels: int, columns: int, height: float, caption: str, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `panels` axes, `height` inches a row, with `caption` below."""
    rows = -(-panels // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, rows * height + 0.2), squeeze=False, **shared)
    figure.subplots_adjust(top=1 - 0.3 / figure.get_figheight(), bottom=0.65 / figure.get_figheight())
    figure.text(0.5, 0.1 / figure.get_figheight(), caption, color=SOFT, horizontalalignment="center")
    flat = list(axes.flat)
    for empty in flat[panels:]:
        empty.set_visible(False)
    return figure, flat[:panels]


def said(setting: Setting, mixes: Mapping[str, Sequence[Record]]) -> str:
    """What was trained, in words, with the mixes that have another number of seeds than most."""
    most = {mix: most_seeds(arms_of(records)) for mix, records in mixes.items()}
    usual = statistics.mode(most.values())
    others = "".join(f" ({seeds} of {mix})" for mix, seeds in most.items() if seeds != usual)
    return f"{setting[0]:,} samples, {setting[1]} epochs, {usual} seed{'s' * (usual > 1)}{others}"


def most_seeds(arms: Sequence[Arm]) -> int:
    """The number of seeds of the arm that has the most."""
    return max(arm.seeds for arm in arms)


def label_of(arm: Arm, most: int) -> str:
    """The name, with the number of seeds where other arms of the panel have more."""
    return arm.name if arm.seeds == most else f"{arm.name} (n={arm.seeds})"


def compute_figure(setting: Setting, mixes: Mapping[str, Sequence[Record]]) -> Figure:
    """One panel a mix: compute against evaluation loss, one marker an arm; parts switched off are in the other plot."""
    mixes = {mix: [r for r in records if not r["arm"].startswith(PART)] for mix, records in mixes.items()}
    found = [arms_of(records) for records in mixes.values()]
    labels = LETTER * max(len(label_of(arm, most_seeds(arms))) for arms in found for arm in arms) + 0.3
    columns = 2 if WIDTH / 2 - 0.6 - labels >= NARROWEST and len(mixes) > 1 else 1
    height = 0.95 + 0.155 * max(9, *map(len, found))
    caption = (
        f"{said(setting, mixes)}: mean and standard deviation. "
        "Left is cheaper, below is better; the line is the Pareto front."
    )
    figure, axes = grid_of(len(mixes), columns, height, caption)
    panel = (WIDTH - columns * (labels + 0.6)) / columns
    figure.subplots_adjust(left=0.6 / WIDTH, right=1 - labels / WIDTH, wspace=(labels + 0.6) / panel, hspace=0.45)
    for ax, (mix, records) in zip(axes, mixes.items(), strict=True):
        arms = arms_of(records)
        front = pareto_front(arms)
        ax.plot([a.cost for a in front], [a.loss for a in front], color=MOSS.c300, linewidth=1, zorder=1)
        for arm in arms:
            draw_arm(ax, arm)
        ax.margins(x=0.08, y=0.1)
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        head(ax, mix)
        ax.grid(axis="y", color=LINE, linewidth=0.6)
        ax.set_xlabel("compute, plain training = 1")
        ax.set_ylabel("evaluation loss")
        label_arms(ax, arms)
    return figure


def head(ax: Axes, text: str) -> None:
    """The name of a panel."""
    ax.set_title(text, loc="left", fontsize=SIZE + 1.5, fontweight="bold", color=INK)


def draw_arm(ax: Axes, arm: Arm) -> None:
    """Marker with error bars of one standard deviation."""
    look = look_of(arm.name)
    ax.errorbar(
        arm.cost, arm.loss, arm.loss_spread, arm.cost_spread, color=look.colour, elinewidth=0.8, alpha=0.45, zorder=2
    )
    ax.plot(arm.cost, arm.loss, zorder=4 if arm.name == "geko" else 3, **marker(look))


def label_arms(ax: Axes, arms: Sequence[Arm]) -> None:
    """The arms' names in a column right of the panel, in the order of their losses, each with a line to its marker."""
    low, high = ax.get_ylim()
    gap = 1.25 * SIZE / 72 * ax.figure.dpi / ax.bbox.height
    places = apart([(arm.loss - low) / (high - low) for arm in arms], gap, 0.0, 1.0)
    most = most_seeds(arms)
    for arm, place in zip(arms, places, strict=True):
        look = look_of(arm.name)
        ax.annotate(
            label_of(arm, most),
            (arm.cost, arm.loss),
            (1 + 0.1 / (ax.get_position().width * WIDTH), place),
            textcoords="axes fraction",
            color=look.words,
            fontweight="bold" if arm.name == "geko" else "normal",
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "color": look.colour, "linewidth": 0.5, "alpha": 0.6, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def paired_figure(setting: Setting, mixes: Mapping[str, Sequence[Record]]) -> Figure:
    """One column a mix, one row an arm: percentage points of exact match above or below plain training, seed by seed.

    Where the mixes do not fit side by side, each line of them lists only the arms that it has.
    """
    differences = {mix: paired(records, "exact_match") for mix, records in mixes.items()}
    caption = f"Exact match, points against plain training with the same seed: a dot a seed, a stroke at the mean. {said(setting, mixes)}."
    left = LETTER * max(map(len, ordered_rows(differences))) + 0.3
    fitting = int((WIDTH - left) / (TITLE_LETTER * max(map(len, mixes)) + 0.05))
    columns = max(1, min(4, len(mixes), fitting))
    names = list(differences)
    lines = [{mix: differences[mix] for mix in names[k : k + columns]} for k in range(0, len(names), columns)]
    arms = [ordered_rows(line) for line in lines]
    ratios = {"height_ratios": [0.8 + 0.19 * len(rows) for rows in arms]}
    height = statistics.fmean(ratios["height_ratios"])
    figure, axes = grid_of(len(mixes), columns, height, caption, sharex=True, sharey="row", gridspec_kw=ratios)
    for place, mix in enumerate(names):
        draw_pairs(axes[place], mix, arms[place // columns], differences[mix])
    figure.subplots_adjust(left=left / WIDTH, right=0.98, wspace=0.08, hspace=0.8 / height)
    return figure


def draw_pairs(ax: Axes, mix: str, rows: Sequence[str], found: Mapping[str, Sequence[float]]) -> None:
    """The arms `rows` of one mix."""
    ax.axvline(0, color=SOFT, linewidth=0.8)
    ax.hlines(range(len(rows)), 0, 1, color=LINE, linewidth=0.5, transform=ax.get_yaxis_transform(), zorder=0)
    for place, name in enumerate(rows):
        draw_row(ax, place, look_of(name), [100 * value for value in found.get(name, [])])
    head(ax, mix)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(labelbottom=True)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    for label in ax.get_yticklabels():
        name = label.get_text()
        label.set(color=look_of(name).words, fontweight="bold" if name == "geko" else "normal")


def ordered_rows(differences: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """All arms by kind; within a kind, the best mean difference over the mixes first."""
    values: dict[str, list[float]] = {}
    for found in differences.values():
        for name, seeds in found.items():
            values.setdefault(name, []).append(statistics.fmean(seeds))
    return sorted(values, key=lambda name: (look_of(name).place, -statistics.fmean(values[name])))


def draw_row(ax: Axes, place: int, look: Look, values: Sequence[float]) -> None:
    """A dot a seed and a stroke at their mean."""
    if values:
        ax.plot(values, [place] * len(values), "o", markersize=4, color=look.colour, alpha=0.4, markeredgewidth=0)
        ax.plot([statistics.fmean(values)] * 2, [place - 0.32, place + 0.32], color=look.colour, linewidth=2)


def budgets_figure(mixes: Mapping[str, Sequence[Record]]) -> Figure:
    """One row a mix: the loss and the right answers that each arm buys for a given compute."""
    caption = "A marker for each number of epochs, with one standard deviation; 1 is plain training's whole run (dotted line)."
    figure, axes = grid_of(2 * len(mixes), 2, 2.3, caption)
    for row, (mix, records) in enumerate(mixes.items()):
        for ax, field in zip(axes[2 * row : 2 * row + 2], (LOSS, RIGHT), strict=True):
            draw_budgets(ax, records, field, MIXES[mix].epochs)
            head(ax, mix if field == LOSS else "")
            ax.set_ylabel("evaluation loss" if field == LOSS else "right answers, %")
            ax.set_xlabel("compute")
    figure.subplots_adjust(left=0.08, right=0.98, wspace=0.2, hspace=0.5)
    return figure


def draw_budgets(ax: Axes, records: Sequence[Record], field: str, epochs: int) -> None:
    """A line an arm; plain training's result after `epochs` across the panel."""
    factor = 1 if field == LOSS else 100
    whole = [r[field] for r in records if r["arm"] == PLAIN and r["epochs"] == epochs]
    if whole:
        ax.axhline(factor * statistics.fmean(whole), color=SOFT, linewidth=0.8, linestyle=":", zorder=1)
    for arm, seeds in curves(records, field, epochs).items():
        look, points = look_of(arm), means(seeds)
        x, y = [compute for compute, _, _ in points], [factor * value for _, value, _ in points]
        ax.errorbar(
            x, y, [factor * s for _, _, s in points], color=look.colour, linewidth=1.2, elinewidth=0.7, alpha=0.8
        )
        ax.plot(x, y, label=arm, **marker(look))
    ax.grid(axis="y", color=LINE, linewidth=0.6)
    if field == LOSS:
        ax.legend(frameon=False, fontsize=SIZE, labelcolor=INK)


def write(figure: Figure, path: Path) -> None:
    """As SVG, in the font of whoever looks at it; the same figure always gives the same bytes."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    path.write_text(drawn.getvalue().replace(f"'{MEASURED}', sans-serif", "system-ui, sans-serif"), encoding="utf-8")
    print(f"Written: {path}")


def draw(folder: Path) -> None:
    """All plots of what is recorded in `folder`."""
    records = read_records(folder)
    usual = [record for record in records if record["epochs"] == MIXES[record["mix"]].epochs]
    for setting, mixes in by_setting(usual).items():
        name = f"{setting[0]}x{setting[1]}.svg"
        write(compute_figure(setting, mixes), folder / f"savings-compute-{name}")
        if any(paired(records, "exact_match") for records in mixes.values()):
            write(paired_figure(setting, mixes), folder / f"savings-paired-{name}")
    budgets = {mix: mine for mix, mine in of_most_samples(records).items() if curves(mine, LOSS, MIXES[mix].epochs)}
    if budgets:
        write(budgets_figure(budgets), folder / "savings-budgets.svg")


def main() -> None:
    """Draw what there is."""
    with plt.rc_context(STYLE):
        for folder in (RESULTS, SMALL):
            draw(folder)


if __name__ == "__main__":
    main()
