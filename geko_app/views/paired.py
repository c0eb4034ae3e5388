"""Two runs that answered the same evaluation rows: which is better, and by how much more than chance. Pure."""

from __future__ import annotations

from geko_engine.runs.evaluation_scores import Difference, PairedDifference

CAUTION = "The interval is about these rows; another seed can move the result as well."
NO_DIFFERENCE = "no clear difference"
INTERVAL = ", 95 % interval"
LOSS_PLACES, POINT_PLACES = 3, 1  # decimals that are shown of most differences
MOST_PLACES = 6


def paired_sentence(first: str, second: str, found: PairedDifference) -> str:
    """What the second run gained over the first one on the rows that both answered, with 95 % intervals.

    Args:
        first, second: names of the runs. found: second minus first.
    """
    points = _in_points(found.exact_match)
    places = _places(points, POINT_PLACES)
    lower, upper = points.value - points.margin, points.value + points.margin
    interval = f"(95 % interval {lower:+.{places}f} to {upper:+.{places}f})"
    matches = f"{second} answers {_more_or_fewer(points, places)} {first} {interval}"
    losses = f"its loss is {loss_change(found.loss)}"
    return (
        f"On {found.rows:,} evaluation rows that both answered, {matches}, and {losses}: {_verdict(found)}. {CAUTION}"
    )


def loss_change(loss: Difference, interval: str = "") -> str:
    """By how much a loss is another one, with its interval: "0.190 lower (± 0.010)".

    Args:
        interval: INTERVAL where it is to be said what the margin is.
    """
    places = _places(loss, LOSS_PLACES)
    change = f"{_amount(loss, places)} {'lower' if loss.value < 0 else 'higher'}" if loss.value else "equal"
    return f"{change} (± {loss.margin:.{places}f}{interval})"


def exact_change(exact: Difference) -> str:
    """By how much more or less is answered exactly, with its interval: "+10.0 points of exact match (± 4.2, 95 % interval)"."""
    points = _in_points(exact)
    places = _places(points, POINT_PLACES)
    margin = f"(± {points.margin:.{places}f}{INTERVAL})"
    if not points.value:
        return f"the same exact match {margin}"
    if _is_hidden(points, places):
        more = "fewer" if points.value < 0 else "more"
        return f"{_amount(points, places)} points of exact match {more} {margin}"
    return f"{points.value:+.{places}f} points of exact match {margin}"


def _in_points(exact: Difference) -> Difference:
    return Difference(100 * exact.value, 100 * exact.margin)


def _places(found: Difference, fewest: int) -> int:
    """The decimals to show of a difference: of a clear one so many that neither it nor its interval seems to reach zero."""
    least = abs(found.value) - found.margin
    if not found.is_clear:
        return fewest
    return next((places for places in range(fewest, MOST_PLACES) if round(least, places) > 0), MOST_PLACES)


def _is_hidden(found: Difference, places: int) -> bool:
    """Whether so many decimals show zero."""
    return float(f"{abs(found.value):.{places}f}") == 0


def _amount(found: Difference, places: int) -> str:
    if _is_hidden(found, places):
        return f"less than {10**-places:.{places}f}"
    return f"{abs(found.value):.{places}f}"


def _more_or_fewer(points: Difference, places: int) -> str:
    if not points.value:
        return "as many exactly as"
    return f"{_amount(points, places)} points {'fewer' if points.value < 0 else 'more'} exactly than"


def _verdict(found: PairedDifference) -> str:
    exact, loss = found.exact_match, found.loss
    better = [name for name, is_better in (("exact match", exact.value > 0), ("loss", loss.value < 0)) if is_better]
    clear = [name for name, difference in (("exact match", exact), ("loss", loss)) if difference.is_clear]
    if not clear:
        return NO_DIFFERENCE
    said = [f"clearly {'better' if name in better else 'worse'} by {name}" for name in clear]
    return " and ".join(said)
