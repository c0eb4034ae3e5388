"""What the rule leaves out of the next epoch on this data, by which criterion, and why: one sentence for the user. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from geko_engine.config import GEKOConfig
from geko_engine.mastery import MASTERIES
from geko_engine.planner import MOST_SUSPECTS, level_replay
from geko_engine.sample_states import PartitionStats

NOTHING = (
    "Nothing is mastered so far, so nothing is skipped, and GEKO trains as plain training does. Long free-text answers are "
    "hardly ever exactly right: of those, samples are left out once the loss of those like them no longer falls."
)
LIFTED = (
    "Samples whose look-alikes' loss no longer fell were left out, and the replayed ones got worse: all come up again."
)


def criterion_sentence(
    config: GEKOConfig, counts: PartitionStats, suspects: int, plateau: Mapping[str, float] | None = None
) -> str:
    """What is left out from now on; "" for plain training.

    Args:
        suspects: samples that the noise guard holds for wrong labels. plateau: what was found, see `Progress`.
    """
    if not config.enabled:
        return ""
    mastered = _mastered(config, counts, plateau or {})
    return " ".join(filter(None, [mastered, _guarded(config, counts.total, suspects)]))


def _mastered(config: GEKOConfig, counts: PartitionStats, plateau: Mapping[str, float]) -> str:
    if not counts.freeze:
        return LIFTED if "lifted" in plateau else NOTHING
    share = f"{counts.freeze:,} of {counts.total:,} samples ({100 * counts.freeze / counts.total:.0f} %)"
    if plateau and "lifted" not in plateau:
        change = (
            f"over epoch {plateau['epoch']:.0f} it fell by {max(0.0, plateau['level']):.3f}, that of the others by "
            f"{plateau['others']:.3f}"
        )
        why = f"are like samples whose loss no longer falls ({change})"
        return f"Hardly any answer is ever exactly right here, so the loss decides: {share} {why}. {_left_out(level_replay(config))}"
    return f"{share} are mastered: {MASTERIES[config.mastery].because}. {_left_out(config.frozen_replay)}"


def _left_out(replay: float) -> str:
    return f"They are left out, {f'but for a random {100 * replay:.0f} %' if replay else 'with no replay'}."


def _guarded(config: GEKOConfig, total: int, suspects: int) -> str:
    if not config.noise_guard or not suspects:
        return ""
    if suspects > MOST_SUSPECTS * total:
        return f"{suspects:,} look wrong, which is too many to be wrong labels: they are listed, and none is left out."
    return f"{suspects:,} look wrong and are mostly left out."
