"""What is left out and why, in the words that the page, the log and the report show."""

from __future__ import annotations

import pytest

from geko_engine import GEKOConfig
from geko_engine.criterion import NOTHING, criterion_sentence
from geko_engine.sample_states import PartitionStats

HALF = PartitionStats(freeze=2000, light=500, focus=1000, hard=500)
NONE = PartitionStats(focus=1000, hard=3000)
CASES = {
    "short answers": (
        GEKOConfig(),
        HALF,
        0,
        "2,000 of 4,000 samples (50 %) are mastered: answered exactly, and surely. They are left out, but for a random 15 %.",
    ),
    "without replay": (
        GEKOConfig(frozen_replay=0, noise_guard=False),
        HALF,
        40,
        "2,000 of 4,000 samples (50 %) are mastered: answered exactly, and surely. They are left out, with no replay.",
    ),
    "some look wrong": (
        GEKOConfig(mastery="relative", frozen_replay=0.5),
        HALF,
        40,
        "2,000 of 4,000 samples (50 %) are mastered: their loss is below the mean of the data. They are left out, but for a "
        "random 50 %. 40 look wrong and are mostly left out.",
    ),
    "long answers": (GEKOConfig(), NONE, 0, NOTHING),
    "too many look wrong": (
        GEKOConfig(),
        NONE,
        801,
        f"{NOTHING} 801 look wrong, which is too many to be wrong labels: they are listed, and none is left out.",
    ),
    "just few enough": (GEKOConfig(), NONE, 800, f"{NOTHING} 800 look wrong and are mostly left out."),
    "plain training": (GEKOConfig(enabled=False), HALF, 40, ""),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence_says_what_is_left_out_and_why(name: str) -> None:
    config, counts, suspects, sentence = CASES[name]
    assert criterion_sentence(config, counts, suspects) == sentence
