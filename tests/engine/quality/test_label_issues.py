"""Wrong answers are found where answers repeat and can be predicted; elsewhere nothing is judged, and it says why."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from geko_engine.quality import noise_model
from geko_engine.quality.answer_classifier import LeaveOneOut, one_hot, softmax
from geko_engine.quality.label_issues import GRADES, LIKELY, find_label_issues, graded, repeated_labels

TOPICS = {
    "card": ["card", "plastic", "chip", "pin", "contactless"],
    "transfer": ["transfer", "send", "account", "recipient", "wire"],
    "exchange": ["exchange", "currency", "euro", "dollar", "rate"],
    "loan": ["loan", "interest", "borrow", "mortgage", "repay"],
}
FILLERS = ["please", "how", "can", "i", "my", "the", "when", "is", "about", "question", "today", "again"]


def questions(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Prompts of a few words, some of which belong to their topic."""
    chance = random.Random(seed)
    prompts, answers = [], []
    for _ in range(count):
        topic = chance.choice(list(TOPICS))
        words = chance.choices(TOPICS[topic], k=3) + chance.choices(FILLERS, k=5)
        chance.shuffle(words)
        prompts.append(" ".join(words))
        answers.append(topic)
    return prompts, answers


def test_flipped_labels_are_found_with_the_right_answer_beside() -> None:
    prompts, answers = questions(400)
    given = list(answers)
    wrong = list(range(0, 400, 20))
    for row in wrong:
        given[row] = next(topic for topic in TOPICS if topic != answers[row])
    found = find_label_issues(prompts, given)
    likely = [issue for issue in found if issue.grade == LIKELY]
    assert found.reason == "" and len({issue.row for issue in found} & set(wrong)) >= 17
    assert {issue.row for issue in likely} <= set(wrong) and len(likely) >= 7
    assert all(issue.suggested == answers[issue.row] and issue.given == given[issue.row] for issue in likely)
    assert [issue.probability for issue in found] == sorted((issue.probability for issue in found), reverse=True)
    assert found.expected_precision >= 0.9 and found.accuracy == pytest.approx(0.95, abs=0.01)


def test_of_clean_labels_next_to_nothing_is_listed() -> None:
    found = find_label_issues(*questions(400))
    assert found.reason == "" and found.likely.sum() <= 2 and len(found) <= 6


def test_rare_answers_and_empty_prompts_are_not_judged() -> None:
    prompts, answers = questions(100)
    prompts += ["something else", " "]
    answers += ["stands only here", "card"]
    found = find_label_issues(prompts, answers)
    assert found.judged.tolist() == [True] * 100 + [False] * 2
    assert np.isnan(found.probability[100:]).all() and (found.given[100:] == -1).all() and not found.look[100:].any()


@pytest.mark.parametrize(
    ("prompts", "answers", "why"),
    [
        ([f"prompt {i}" for i in range(100)], [f"answer {i}" for i in range(100)], "answers that repeat"),
        ([f"prompt {i}" for i in range(100)], ["yes"] * 100, "all answers are equal"),
        ([f"prompt {i}" for i in range(10)], ["yes", "no"] * 5, "only 100 %"),
        (["?!"] * 100, ["yes", "no"] * 50, "no words"),
        ([], [], "only 0 %"),
    ],
)
def test_where_nothing_can_be_judged_it_says_why(prompts: list[str], answers: list[str], why: str) -> None:
    found = find_label_issues(prompts, answers)
    assert why in found.reason and len(found) == 0 and not found.judged.any() and list(found) == []


def test_answers_that_the_words_do_not_predict_are_not_judged() -> None:
    prompts, answers = questions(400)
    random.Random(1).shuffle(answers)
    found = find_label_issues(prompts, answers)
    assert "predict" in found.reason and len(found) == 0


def test_each_row_is_scored_by_a_model_that_has_not_seen_it() -> None:
    """Against scikit-learn's ridge regression, fitted anew without each of some rows."""
    numbers = np.random.default_rng(0)
    x, targets = numbers.normal(size=(60, 8)), one_hot(numbers.integers(0, 3, 60), 3)
    scores = LeaveOneOut(x).scores(targets, 0.7)
    for row in (0, 17, 59):
        others = np.arange(60) != row
        reference = Ridge(0.7, fit_intercept=False).fit(x[others], targets[others])
        assert scores[row] == pytest.approx(reference.predict(x[row : row + 1])[0], abs=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2])
def test_the_rate_of_errors_is_found(rate: float) -> None:
    """Labels drawn as the model assumes: its own rate and calibrated probabilities come back."""
    numbers = np.random.default_rng(1)
    scores = numbers.normal(size=(20_000, 10))
    expected = softmax(scores, 0.2)
    true = (expected.cumsum(1) > numbers.random((20_000, 1))).argmax(1)
    wrong = numbers.random(20_000) < rate
    given = np.where(wrong, (true + numbers.integers(1, 10, 20_000)) % 10, true)
    model = noise_model.fit(scores, given)
    assert model.rate == pytest.approx(rate, abs=0.02) and model.temperature == pytest.approx(0.2, rel=0.2)
    probability = model.wrong(scores, given)
    for low, high in ((0.2, 0.6), (0.6, 0.9), (0.9, 1.0)) if rate else ():
        some = (probability >= low) & (probability < high)
        assert wrong[some].mean() == pytest.approx(probability[some].mean(), abs=0.08)


def test_where_the_classifier_is_sometimes_less_sure_than_it_says_fewer_rows_pass_for_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tenth of the labels is drawn at a higher temperature, and none is an error."""
    numbers, rows = np.random.default_rng(2), np.arange(6000)
    scores = numbers.normal(size=(6000, 40))
    scores[rows, numbers.integers(0, 40, 6000)] += 2
    expected = np.where(numbers.random((6000, 1)) < 0.1, softmax(scores, 0.45), softmax(scores, 0.15))
    given = np.minimum((expected.cumsum(1) > numbers.random((6000, 1))).argmax(1), 39)
    model = noise_model.fit(scores, given)
    monkeypatch.setattr(noise_model, "BLUR", 1.0)
    without = noise_model.fit(scores, given)
    assert model.log_likelihood > without.log_likelihood and model.blurred > 0.1
    assert model.rate < 0.8 * without.rate


def test_the_first_grade_has_the_expected_precision_and_holds_no_row_that_is_rather_right() -> None:
    likely, look = graded(np.array([0.99, 0.97, 0.85, 0.8, 0.3, 0.05]))
    assert likely.tolist() == [True, True, True, True, False, False] and look.tolist() == [False] * 4 + [True, False]
    none, some = graded(np.array([0.7, 0.6, 0.0]))
    assert not none.any() and some.tolist() == [True, True, False]
    assert GRADES == ("likely_mislabeled", "worth_a_look")


def test_spaces_make_no_other_label() -> None:
    labels, given = repeated_labels(["a b"] * 5, ["new  york", "new york ", "new york", "New York", "new york"])
    assert labels == ["new york"] and given.tolist() == [0, 0, 0, -1, 0]
