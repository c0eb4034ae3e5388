"""What the rule leaves out of the next epoch on this data, by which criterion, and why: one sentence for the user. Pure."""

from __future__ import annotations

from geko_engine.config import GEKOConfig
from geko_engine.mastery import MASTERIES
from geko_engine.planner import MOST_SUSPECTS
from geko_engine.sample_states import PartitionStats

NOTHING = (
    "Nothing is mastered so far, so nothing is skipped, and GEKO trains as plain training does. Long free-text answers are "
    "hardly ever exactly right: what saves there is batching, and fewer epochs."
)


def criterion_sentence(config: GEKOConfig, counts: PartitionStats, suspects: int) -> str:
    """What is left out from now on. `suspects`: samples that the noise guard holds for wrong labels. "" for plain training."""
    if not config.enabled:
        return ""
    return " ".join(filter(None, [_mastered(config, counts), _guarded(config, counts.total, suspects)]))


def _mastered(config: GEKOConfig, counts: PartitionStats) -> str:
    if not counts.freeze:
        return NOTHING
    share = f"{counts.freeze:,} of {counts.total:,} samples ({100 * counts.freeze / counts.total:.0f} %)"
    replayed = f"but for a random {100 * config.frozen_replay:.0f} %" if config.frozen_replay else "with no replay"
    return f"{share} are mastered: {MASTERIES[config.mastery].because}. They are left out, {replayed}."


def _guarded(config: GEKOConfig, total: int, suspects: int) -> str:
    if not config.noise_guard or not suspects:
        return ""
    if suspects > MOST_SUSPECTS * total:
        return f"{suspects:,} look wrong, which is too many to be wrong labels: they are listed, and none is left out."
    return f"{suspects:,} look wrong and are mostly left out."
