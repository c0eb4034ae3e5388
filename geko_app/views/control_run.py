"""A run compared with its plain baseline: one sentence on cost and quality, whichever way it goes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geko_app.formatting import format_count, format_duration, format_loss, format_percent
from geko_app.runs.summary import APART, RunFacts

CAUTION = "This is a single pair of runs: on small data, another seed alone can change the result by a point or two."


def control_sentence(
    chosen: Sequence[RunFacts], configs: Sequence[Mapping[str, Any]], *, is_paired: bool = False
) -> str:
    """The comparison, if `chosen` are two complete runs that differ in nothing but GEKO on and off; else "".

    Args:
        chosen: the compared runs.
        configs: their configurations by dotted key, in the same order.
        is_paired: whether their answers are compared row by row beside it: that says which is better, and these figures do not.
    """
    if len(chosen) != 2 or any(facts.end != "complete" for facts in chosen):
        return ""
    keys = {key for config in configs for key in config}
    differing = {key for key in keys if configs[0].get(key) != configs[1].get(key)}
    if "geko.enabled" not in differing or differing - set(APART):
        return ""
    geko, plain = chosen if configs[0]["geko.enabled"] else (chosen[1], chosen[0])
    return " ".join([_cost(geko, plain), *_quality(geko, plain, is_paired)])


def _cost(geko: RunFacts, plain: RunFacts) -> str:
    saved = geko.compute_saved_ratio or 0.0
    share = format_percent(abs(saved))
    difference = f"{share} {'less' if saved > 0 else 'more'} compute than" if share != "0.0 %" else "as much compute as"
    tokens = f"{format_count(geko.tokens or 0)} trained tokens instead of {format_count(plain.tokens or 0)}"
    time = f"{format_duration(geko.seconds)} instead of {format_duration(plain.seconds)}"
    return f"GEKO used {difference} the baseline: {tokens}, {time}."


def _quality(geko: RunFacts, plain: RunFacts, is_paired: bool) -> list[str]:
    if geko.eval_loss_after is None or plain.eval_loss_after is None:
        return ["Without evaluation data, the quality of the two cannot be compared."]
    losses = f"{format_loss(geko.eval_loss_after)} with GEKO and {format_loss(plain.eval_loss_after)} without"
    matches = ""
    if geko.exact_match_after is not None and plain.exact_match_after is not None:
        matches = (
            f", its exact match {format_percent(geko.exact_match_after)} and {format_percent(plain.exact_match_after)}"
        )
    figures = f"The final evaluation loss is {losses}{matches}."
    if is_paired:
        return [figures]
    better = geko.eval_loss_after <= plain.eval_loss_after
    verdict = "GEKO is no worse" if better else "plain training is better"
    return [figures, f"By this loss, {verdict}.", CAUTION]
