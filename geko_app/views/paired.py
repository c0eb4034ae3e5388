"""Two runs that answered the same evaluation rows: which is better, and by how much more than chance. Pure."""

from __future__ import annotations

from geko_app.formatting import format_loss
from geko_engine.runs.evaluation_scores import Difference, PairedDifference

CAUTION = "The interval is about these rows; another seed can move the result as well."


def paired_sentence(first: str, second: str, found: PairedDifference) -> str:
    """What the second run gained over the first one on the rows that both answered, with 95 % intervals.

    Args:
        first, second: names of the runs. found: second minus first.
    """
    exact, loss = found.exact_match, found.loss
    lower, upper = 100 * (exact.value - exact.margin), 100 * (exact.value + exact.margin)
    matches = (
        f"{second} answers {_points(exact.value)} exactly than {first} (95 % interval {lower:+.1f} to {upper:+.1f})"
    )
    change = "lower" if loss.value < 0 else "higher"
    losses = f"its loss is {format_loss(abs(loss.value))} {change} (± {format_loss(loss.margin)})"
    return f"On {found.rows:,} evaluation rows that both answered, {matches}, and {losses}: {_verdict(exact, loss)}. {CAUTION}"


def _points(value: float) -> str:
    return f"{abs(100 * value):.1f} points {'fewer' if value < 0 else 'more'}"


def _verdict(exact: Difference, loss: Difference) -> str:
    better = [name for name, is_better in (("exact match", exact.value > 0), ("loss", loss.value < 0)) if is_better]
    clear = [name for name, d in (("exact match", exact), ("loss", loss)) if d.is_clear]
    if not clear:
        return "no clear difference"
    said = [f"clearly {'better' if name in better else 'worse'} by {name}" for name in clear]
    return " and ".join(said)
