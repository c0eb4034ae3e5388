"""Two runs that answered the same evaluation rows: which is better, and by how much more than chance. Pure."""

from __future__ import annotations

from geko_app.formatting import format_loss
from geko_engine.runs.evaluation_scores import Difference, PairedDifference

CAUTION = "The interval is about these rows; another seed can move the result as well."
NO_DIFFERENCE = "no clear difference"
INTERVAL = ", 95 % interval"


def paired_sentence(first: str, second: str, found: PairedDifference) -> str:
    """What the second run gained over the first one on the rows that both answered, with 95 % intervals.

    Args:
        first, second: names of the runs. found: second minus first.
    """
    exact = found.exact_match
    lower, upper = 100 * (exact.value - exact.margin), 100 * (exact.value + exact.margin)
    matches = f"{second} answers {_points(exact)} {first} (95 % interval {lower:+.1f} to {upper:+.1f})"
    losses = f"its loss is {loss_change(found.loss)}"
    return (
        f"On {found.rows:,} evaluation rows that both answered, {matches}, and {losses}: {_verdict(found)}. {CAUTION}"
    )


def loss_change(loss: Difference, interval: str = "") -> str:
    """By how much a loss is another one, with its interval: "0.190 lower (± 0.010)".

    Args:
        interval: INTERVAL where it is to be said what the margin is.
    """
    change = f"{format_loss(abs(loss.value))} {'lower' if loss.value < 0 else 'higher'}"
    shown = change if _is_seen_in_loss(loss) else "equal to three decimals"
    return f"{shown} (± {format_loss(loss.margin)}{interval})"


def exact_change(exact: Difference) -> str:
    """By how much more or less is answered exactly, with its interval: "+10.0 points of exact match (± 4.2, 95 % interval)"."""
    shown = f"{100 * exact.value:+.1f} points of exact match" if _is_seen_in_points(exact) else "the same exact match"
    return f"{shown} (± {100 * exact.margin:.1f}{INTERVAL})"


def is_clear_loss(loss: Difference) -> bool:
    """Whether a loss is clearly another one; never where its difference is too small to be shown."""
    return loss.is_clear and _is_seen_in_loss(loss)


def is_clear_exact(exact: Difference) -> bool:
    """The same of the exact match."""
    return exact.is_clear and _is_seen_in_points(exact)


def _is_seen_in_loss(loss: Difference) -> bool:
    return format_loss(abs(loss.value)) != format_loss(0.0)


def _is_seen_in_points(exact: Difference) -> bool:
    return f"{abs(100 * exact.value):.1f}" != "0.0"


def _points(exact: Difference) -> str:
    if not _is_seen_in_points(exact):
        return "as many exactly as"
    return f"{abs(100 * exact.value):.1f} points {'fewer' if exact.value < 0 else 'more'} exactly than"


def _verdict(found: PairedDifference) -> str:
    exact, loss = found.exact_match, found.loss
    better = [name for name, is_better in (("exact match", exact.value > 0), ("loss", loss.value < 0)) if is_better]
    clear = [name for name, clear in (("exact match", is_clear_exact(exact)), ("loss", is_clear_loss(loss))) if clear]
    if not clear:
        return NO_DIFFERENCE
    said = [f"clearly {'better' if name in better else 'worse'} by {name}" for name in clear]
    return " and ".join(said)
