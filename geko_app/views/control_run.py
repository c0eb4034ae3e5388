"""A run and its control: the honest sentence under their curves, whichever way it goes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geko_app.runs.summary import RunFacts
from geko_app.views.formatting import compact, duration

CAUTION = "One pair of runs is one sample: on small data, seeds alone differ by a point or two."


def control_sentence(chosen: Sequence[RunFacts], configs: Sequence[Mapping[str, Any]]) -> str:
    """What GEKO made of the same run, where exactly that is compared: two complete runs, GEKO on and off; else "".

    Args:
        chosen, configs: the compared runs and their flat configurations, in the same order.
    """
    if len(chosen) != 2 or any(facts.end != "complete" for facts in chosen):
        return ""
    keys = {key for config in configs for key in config}
    differing = {key for key in keys if configs[0].get(key) != configs[1].get(key)} - {"output_dir"}
    if differing != {"geko.enabled"}:
        return ""
    geko, plain = chosen if configs[0]["geko.enabled"] else (chosen[1], chosen[0])
    return f"{_cost(geko, plain)} {_quality(geko, plain)} {CAUTION}"


def _cost(geko: RunFacts, plain: RunFacts) -> str:
    saved = geko.compute_saved_ratio or 0.0
    spent = f"{100 * abs(saved):.1f} % {'less' if saved >= 0 else 'more'} compute than its control"
    tokens = f"{compact(geko.tokens or 0)} trained tokens instead of {compact(plain.tokens or 0)}"
    return f"GEKO spent {spent}: {tokens}, {duration(geko.seconds)} instead of {duration(plain.seconds)}."


def _quality(geko: RunFacts, plain: RunFacts) -> str:
    if geko.eval_loss_after is None or plain.eval_loss_after is None:
        return "There is no evaluation data, so nothing can be said of the quality."
    ends = f"It ended at an evaluation loss of {geko.eval_loss_after:.3f}, the control at {plain.eval_loss_after:.3f}"
    if geko.exact_match_after is not None and plain.exact_match_after is not None:
        ends += f"; exactly right are {100 * geko.exact_match_after:.1f} % and {100 * plain.exact_match_after:.1f} %"
    better = geko.eval_loss_after <= plain.eval_loss_after
    return f"{ends}. On this loss {'GEKO is no worse' if better else 'plain training is better'}."
