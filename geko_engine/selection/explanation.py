"""What the rule leaves out of the next epoch on this data, by which criterion, and why: one sentence for the user. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.epoch_plan import MOST_SUSPECTS
from geko_engine.selection.mastery import MASTERIES
from geko_engine.selection.sample_records import PartitionStats

NOTHING = (
    "Nothing is mastered so far, so nothing is skipped, and GEKO trains as plain training does. Long free-text answers are "
    "hardly ever exactly right: what saves there is batching, and fewer epochs."
)
ALIKE = (
    "Hardly any answer is ever exactly right here, and training still changes the answers to all kinds of samples, as far as "
    "can be told, so none is left out for that."
)


def criterion_sentence(
    config: GEKOConfig, counts: PartitionStats, suspects: int, churn: Sequence[Mapping[str, float]] = ()
) -> str:
    """What is left out from now on; "" for plain training.

    Args:
        suspects: samples that the noise guard holds for wrong labels. churn: what each look at the panel told, see Progress.
    """
    if not config.enabled:
        return ""
    last = churn[-1] if churn else {}
    settled = int(last.get("settled", 0))
    mastered = _mastered(config, counts.freeze - settled, counts.total)
    if last:
        mastered = " ".join(filter(None, [_settled(config, settled, counts.total, last), mastered]))
    return " ".join(filter(None, [mastered or NOTHING, _guarded(config, counts.total, suspects)]))


def _settled(config: GEKOConfig, count: int, total: int, look: Mapping[str, float]) -> str:
    if not count:
        return ALIKE
    change = f"{look['settled_churn']:.3f} on average, the others {look['others_churn']:.3f}"
    return (
        f"Hardly any answer is ever exactly right here, so what counts is what training still changes: {_share(count, total)} "
        f"are like those whose target probabilities moved least since the last look ({change}). {_left_out(config)}"
    )


def _mastered(config: GEKOConfig, count: int, total: int) -> str:
    if not count:
        return ""
    return f"{_share(count, total)} are mastered: {MASTERIES[config.mastery].because}. {_left_out(config)}"


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} samples ({100 * count / total:.0f} %)"


def _left_out(config: GEKOConfig) -> str:
    replayed = f"but for a random {100 * config.frozen_replay:.0f} %" if config.frozen_replay else "with no replay"
    return f"They are left out, {replayed}."


def _guarded(config: GEKOConfig, total: int, suspects: int) -> str:
    if not config.noise_guard or not suspects:
        return ""
    if suspects > MOST_SUSPECTS * total:
        return f"{suspects:,} look wrong, which is too many to be wrong labels: they are listed, and none is left out."
    return f"{suspects:,} look wrong and are mostly left out."


def predicted_sentence(left_out: int, met: int, right: int) -> str:
    """How many samples were left out because of look-alikes, and how those fared that were met all the same."""
    text = f"{left_out:,} samples were left out because samples like them are answered right"
    return (
        f"{text}; of {met:,} such ones that were trained on all the same, {100 * right / met:.0f} % were."
        if met
        else text + "."
    )
