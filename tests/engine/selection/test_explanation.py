"""What is left out and why, in the words that the page, the log and the report show."""

from __future__ import annotations

import re

import pytest

from geko_engine import GEKOConfig
from geko_engine.selection.explanation import ALIKE, NOTHING, criterion_sentence, in_past_tense
from geko_engine.selection.sample_records import BucketCounts

HALF = BucketCounts(freeze=2000, light=500, focus=1000, hard=500)
NONE = BucketCounts(focus=1000, hard=3000)
CASES = {
    "short answers": (
        GEKOConfig(),
        HALF,
        0,
        "2,000 of 4,000 samples (50 %) are mastered: answered exactly, and surely. They are skipped, except for a random 15 %.",
    ),
    "without replay": (
        GEKOConfig(frozen_replay=0, noise_guard=False),
        HALF,
        40,
        "2,000 of 4,000 samples (50 %) are mastered: answered exactly, and surely. They are skipped, with no replay.",
    ),
    "some look wrong": (
        GEKOConfig(mastery="below_mean_loss", frozen_replay=0.5),
        HALF,
        40,
        "2,000 of 4,000 samples (50 %) are mastered: their loss is below the mean of the data. They are skipped, except "
        "for a random 50 %. 40 are probably mislabeled and are mostly skipped.",
    ),
    "long answers": (GEKOConfig(), NONE, 0, NOTHING),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence_says_what_is_left_out_and_why(name: str) -> None:
    config, counts, suspects, sentence = CASES[name]
    assert criterion_sentence(config, counts, suspects) == sentence


@pytest.mark.parametrize(("suspects", "why"), [(801, "too many to be label errors"), (20, "as few as in clean data")])
def test_suspects_that_are_not_left_out_are_said_to_be_listed(suspects: int, why: str) -> None:
    said = criterion_sentence(GEKOConfig(), NONE, suspects, leaves_suspects_out=False)
    assert said == f"{NOTHING} {suspects} may be mislabeled, {why}: they are listed, and none is skipped."
    assert in_past_tense(said).endswith("and none was skipped.")


@pytest.mark.parametrize(("replay", "left_out"), [(0.15, "except for a random 15 %"), (0.0, "with no replay")])
def test_where_churn_decides_it_is_said_with_what_was_measured(replay: float, left_out: str) -> None:
    scans = [{"stable": 0}, {"stable": 1800, "stable_churn": 0.0124, "others_churn": 0.0361}]
    sentence = (
        "Hardly any answer is exactly right here, so GEKO measures what training still changes: 1,800 of 4,000 samples (45 %) "
        "are similar to those whose target probabilities moved least since the last scan (0.012 on average, the others 0.036). "
        f"They are skipped, {left_out}."
    )
    config = GEKOConfig(frozen_replay=replay)
    assert criterion_sentence(config, BucketCounts(freeze=1800, hard=2200), 0, scans) == sentence
    both = criterion_sentence(config, BucketCounts(freeze=1840, hard=2160), 0, scans)
    assert both.startswith(f"{sentence} 40 of 4,000 samples (1 %) are mastered: answered exactly, and surely.")


def test_where_all_kinds_change_alike_it_is_said_that_nothing_is_skipped() -> None:
    assert criterion_sentence(GEKOConfig(), NONE, 0, [{"stable": 0}]) == ALIKE


@pytest.mark.parametrize("known", [None, 0.1])
@pytest.mark.parametrize("name", CASES)
def test_once_the_run_has_ended_what_was_skipped_is_past(name: str, known: float | None) -> None:
    config, counts, suspects, _ = CASES[name]
    for scans in ([], [{"stable": 0}], [{"stable": 1800, "stable_churn": 0.0124, "others_churn": 0.0361}]):
        past = in_past_tense(criterion_sentence(config, counts, suspects, scans, known))
        assert (
            re.search(r"\b(is|are) (mostly )?(skipped|mastered|similar|plain|hardly|below|exactly)\b", past) is None
        ), past
