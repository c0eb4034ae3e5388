"""Sentences that the server composes from parts, as they come out: the script of the page translates each as a whole."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser

from geko_app.formatting import format_share
from geko_app.languages import catalogue, languages
from geko_app.pages.components import static_text
from geko_app.views import answers as answers_view
from geko_app.views import control_run, core_set, corrections_worth, paired, review, worth
from geko_app.workers.inference_jobs import death_sentence
from geko_app.workers.run_follower import death_reason
from geko_engine.config.selection import GEKOConfig
from geko_engine.quality.languages import NAMES
from geko_engine.quality.personal_data import CARD, EMAIL, IBAN, PHONE
from geko_engine.runs.evaluation_scores import Difference, PairedDifference
from geko_engine.runs.folder import RunFolder
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.explanation import criterion_sentence, in_past_tense, predicted_sentence
from geko_engine.selection.mastery import MASTERY_CRITERIA
from geko_engine.selection.sample_reasons import RecordedSample, guard_reason, never_trained, why
from geko_engine.selection.sample_records import BucketCounts, Prediction

pytestmark = pytest.mark.browser

TRANSLATE = """async ([code, entries, texts]) => {
  const address = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  const { Catalogue } = await import(address);
  const catalogue = new Catalogue(entries);
  return texts.map((text) => catalogue.translate(text));
}"""
KEPT = re.compile(
    r"“[^”]*”|'[^']*'|FREEZE|LIGHT|FOCUS|HARD|GEKO|IBAN|SIG[A-Z]+|token|Q-value|my run|(?:1128-)?demo|[a-z]+[._][a-z_.]+"
)
RUN = RecordedSample(
    bucket=int(Bucket.HARD),
    correct=False,
    confidence=0.9,
    q=0.1,
    loss=3.0,
    best_loss=0.1,
    mean_loss=1.0,
    min_target_probability=0.003,
    hard_streak=3,
)


def reasons() -> Iterator[str]:
    """Why samples are in their buckets, suspected, and never trained on."""
    either: dict[str, tuple[Any, ...]] = {
        "bucket": tuple(map(int, Bucket)),
        "correct": (False, True),
        "confidence": (0.3, 0.99),
        "q": (0.1, 0.99),
        "loss": (0.1, 3.0),
        "mean_loss": (1.0, float("nan")),
        "never_freeze": (False, True),
        "predicted": tuple(map(int, Prediction)),
    }
    for values in itertools.product(*either.values()):
        sample = dataclasses.replace(RUN, **dict(zip(either, values, strict=True)))
        yield from (why(sample, GEKOConfig(mastery=name)) for name in MASTERY_CRITERIA)
        yield from (never_trained(dataclasses.replace(sample, trained=0, scored=scored)) for scored in (0, 1))
    for streak, outlier, probability in itertools.product((0, 3), (False, True), (1e-9, 0.003)):
        yield guard_reason(
            dataclasses.replace(RUN, hard_streak=streak, loss_outlier=outlier, min_target_probability=probability)
        )


def criteria() -> Iterator[str]:
    """What the rule skips, by all that decides its words."""
    scans = [(), *([{"stable": count, "stable_churn": 0.001, "others_churn": 0.1}] for count in (0, 30))]
    either = itertools.product(MASTERY_CRITERIA, (0.0, 0.1), (30, 80), (0, 3, 900), scans, (None, 0.12), (True, False))
    for mastery, replay, frozen, suspects, churn, known, leaves_out in either:
        config = GEKOConfig(mastery=mastery, frozen_replay=replay)
        counts = BucketCounts(freeze=frozen, light=4, focus=100, hard=900, unseen=0)
        sentence = criterion_sentence(config, counts, suspects, churn, known, leaves_out)
        yield from (sentence, in_past_tense(sentence))
    yield from (predicted_sentence(1234, 0, 0), f"Epoch 3: {predicted_sentence(1234, 56, 50)}")


def comparisons() -> Iterator[str]:
    """What corrections, core sets and GEKO itself were worth."""
    sizes = itertools.product((1, -1), ((0.1, 0.01), (0.1, 0.2), (0.0004, 0.02)))
    differences = [Difference(0.0, 0.01), *(Difference(sign * value, margin) for sign, (value, margin) in sizes)]
    for exact, loss in itertools.product(differences, repeat=2):
        found = PairedDifference(1000, exact, loss)
        yield paired.paired_sentence("Nov 28, 06:30 · demo · ab12", "my run", found)
        for edited, deleted in ((1, 0), (4, 0), (0, 1), (0, 3), (2, 3)):
            for besides in ("", " and further training", " and other settings"):
                what = f"{corrections_worth._what(edited, deleted)}{besides}"
                yield f"{what}: {corrections_worth._gain(found)}."
                of_two = f"{what}: {corrections_worth._gain(found)}."
                yield worth._of_two("my run", "Nov 28, 06:30 · demo · ab12", of_two, is_compared=True)
                for share in map(format_share, (0.12, 0.001)):
                    yield f"{what}: {corrections_worth._gain(found)}, for {share} of the compute of the run 1128-demo."
                yield f"{what}. {corrections_worth.NO_EVALUATION}"
        for name, share in itertools.product(core_set.NAMES.values(), (0.2, 0.001, 0.999)):
            spent = f", {format_share(share)} of the compute of the run on all rows"
            of_it = f"{core_set._difference(found)}: {core_set._judged(found.loss)}."
            for cost in ("", spent):
                yield (
                    f"{name.capitalize()} of 1,200 rows ({format_share(share)} of the data){cost}: {of_it} "
                    f"{core_set.NO_OTHER.format(name)} {core_set.CAUTION}"
                )
    for saved, loss in itertools.product((0.3, -0.1, 0.0), (0.3, 0.5, None)):
        geko: Any = SimpleNamespace(
            compute_saved_ratio=saved, tokens=123_456, seconds=12.0, eval_loss_after=loss, exact_match_after=0.9
        )
        plain: Any = SimpleNamespace(tokens=2_345_678, seconds=200.0, eval_loss_after=0.4, exact_match_after=0.9)
        yield " ".join([control_run._cost(geko, plain), *control_run._quality(geko, plain, is_paired=False)])


def bulk_actions() -> Iterator[str]:
    for action, count in itertools.product((review.KEEP, review.DELETE, review.ACCEPT), (1, 5)):
        yield review._would(count, action)
    some = ([0.3], [0.2, 0.3], [0.9, 0.95, 0.9], [0.5, 0.6], [0.9, 0.8, 0.05])
    for known, action, are_more in itertools.product(some, (review.KEEP, review.DELETE, review.ACCEPT), (False, True)):
        yield (review._of_one if len(known) == 1 else review._of_several)(known, action, are_more)


def ends() -> Iterator[str]:
    """Why processes are gone."""
    folder = RunFolder("runs")
    for code in (1, 0, -9, -11, -15):
        process: Any = SimpleNamespace(returncode=code)
        yield from (death_reason(process, folder), death_sentence(code))
        yield death_sentence(code).replace("inference", "export")
    yield death_reason(None, folder)


def issues() -> Iterator[str]:
    for name in NAMES.values():
        yield f"The answer is in {name}; most are in {NAMES['en']}."
    kinds = (EMAIL, PHONE, CARD, IBAN)
    for count in range(1, len(kinds) + 1):
        for found in itertools.combinations(kinds, count):
            yield f"It seems to contain personal data: {', '.join(found)}."


def answers() -> Iterator[str]:
    """How many answers of a round are right, as the dashboard joins the rounds."""
    judged = [{"exact": True, "contains": True, "numeric": True}] * 3
    for names in itertools.chain.from_iterable(itertools.combinations(judged[0], count) for count in range(4)):
        found = [{name: answer[name] for name in names} for answer in judged]
        rounds = [answers_view._round({"answers": found, "epoch": epoch, "seconds": 63.0}) for epoch in (0, 2)]
        yield " ".join(f"{one['name']}: {one['note']}." for one in rounds)


COMPOSED = [answers, reasons, criteria, comparisons, bulk_actions, ends, issues]


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("compose", COMPOSED, ids=lambda compose: compose.__name__)
def test_a_composed_sentence_is_translated_whole(compose: Any, language: str, browser: Browser) -> None:
    texts = sorted(set(filter(None, compose())))
    assert texts
    context = browser.new_context()
    shown = context.new_page().evaluate(TRANSLATE, [static_text("language_catalogue.js"), catalogue(language), texts])
    context.close()
    left = [
        [text, found] for text, found in zip(texts, shown, strict=True) if re.search("[a-z]{3}", KEPT.sub("", found))
    ]
    assert left == [], json.dumps(left[:20], indent=1, ensure_ascii=False)
