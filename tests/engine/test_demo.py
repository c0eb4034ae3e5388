"""The shipped demo: tasks that say what they mean, data that the generator reproduces, a model that knows what it should."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from geko_engine.demo import demo_path
from scripts.demo_tasks import GROUPS, NAMES, SMALL_KINDS, Row, make_rows
from scripts.make_assets import EVAL_ROWS, TRAIN_ROWS, WRONG_RATIO, accuracy, encode
from tests.engine.test_cli import geko_train, only_run
from tests.engine.test_version1 import equal_to, figures

REFERENCE = (
    Path(__file__).parents[1] / "fixtures" / "demo_report.json"
)  # of `geko-train --demo`, without seconds and texts


def shipped(name: str) -> list[Row]:
    return [json.loads(line) for line in demo_path(f"{name}.jsonl").read_text("utf-8").splitlines()]


def solve(prompt: str) -> str:
    """The answer, worked out from the sentence alone."""
    numbers = [int(number) for number in re.findall(r"\d+", prompt)]
    word = re.search(r"(?: |^)((?:[a-l] )+[a-l])(?= |[.?])", prompt.replace("letters ", ""))
    letters = word.group(1).split() if word else []
    single = re.search(r"letters? (?:after each of )?([a-l])[.?]", prompt)
    letters = letters or ([single.group(1)] if single else [])
    if prompt.startswith(NAMES):
        return str(numbers[0] + numbers[1] - (numbers[2] if "loses" in prompt else 0))
    if prompt.startswith("How often is "):
        return str(letters.count(prompt.split()[3]))
    rules = {
        "Repeat": lambda: letters,
        "Say": lambda: letters[::-1],
        "Which is the last": lambda: letters[-1:],
        "Name the letter after": lambda: [chr(ord(letter) + 1) for letter in letters],
        "Write each": lambda: [letter for letter in letters for _ in range(2)],
        "Leave out": lambda: letters[1:],
        "Put": lambda: sorted(letters),
        "Which number is larger": lambda: [str(max(numbers))],
        "Which number is smaller": lambda: [str(min(numbers))],
        "How much": lambda: [str(numbers[0] + numbers[1] if " plus " in prompt else numbers[0] - numbers[1])],
    }
    for beginning, rule in rules.items():
        if prompt.startswith(beginning):
            return " ".join(rule())
    raise AssertionError(prompt)


@pytest.mark.parametrize("group", GROUPS)
def test_every_answer_is_what_the_sentence_asks_for(group: str) -> None:
    for row in make_rows(800, 7, mix={group: 1.0}):
        assert row["completion"] == solve(row["prompt"]), row


def test_the_same_seed_gives_the_same_rows_and_another_one_others() -> None:
    assert make_rows(200, 3, wrong_ratio=0.1) == make_rows(200, 3, wrong_ratio=0.1)
    assert make_rows(200, 3) != make_rows(200, 4)


def test_the_share_of_wrong_answers_is_as_asked_and_they_are_wrong() -> None:
    rows = make_rows(1000, 5, wrong_ratio=0.1)
    wrong = [row for row in rows if row["wrong"]]
    assert len(wrong) == 100
    assert all(row["completion"] != solve(row["prompt"]) for row in wrong)
    assert all(row["completion"] == solve(row["prompt"]) for row in rows if not row["wrong"])


def test_the_shipped_data_is_what_the_generator_makes() -> None:
    evaluation = make_rows(EVAL_ROWS, 1)
    assert shipped("eval") == evaluation
    avoid = {row["prompt"] for row in evaluation}
    assert shipped("train") == make_rows(TRAIN_ROWS, 0, wrong_ratio=WRONG_RATIO, avoid=avoid)


def test_no_evaluation_task_is_trained_on_but_of_the_kinds_that_have_few() -> None:
    seen = {row["prompt"] for row in shipped("train")}
    assert {row["kind"] for row in shipped("eval") if row["prompt"] in seen} <= SMALL_KINDS


def test_the_demo_is_small() -> None:
    assert sum(file.stat().st_size for file in demo_path("model").rglob("*") if file.is_file()) < 6_000_000


def test_the_demo_model_knows_its_known_kinds_and_can_learn_the_others() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo_path("model"))
    model = AutoModelForCausalLM.from_pretrained(demo_path("model"))
    found = accuracy(model, tokenizer, [row for group in GROUPS for row in make_rows(400, 11, mix={group: 1.0})])
    assert found["known"] >= 0.9 and found["new"] < 0.4 and found["hard"] < 0.4


def test_a_prompt_is_masked_as_in_the_engine() -> None:
    """The demo model was pre-trained in the layout that the engine trains on."""
    from transformers import AutoTokenizer

    from geko_engine.data.formats import PromptCompletion
    from geko_engine.data.tokenization import tokenise

    tokenizer, rows = AutoTokenizer.from_pretrained(demo_path("model")), make_rows(50, 2)
    data = tokenise(rows, PromptCompletion("prompt", "completion"), tokenizer, 256)
    for index, (ids, start) in enumerate(encode(rows, tokenizer)):
        assert data[index]["input_ids"].tolist() == ids
        assert int((data[index]["labels"] != -100).argmax()) == start


@pytest.mark.slow
def test_the_demo_reports_what_it_always_reports(tmp_path: Path) -> None:
    """Nothing but a change of the rule may change a figure; then `demo_report.json` is made anew, and the changelog says why."""
    done = geko_train("--demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((only_run(tmp_path) / "report.json").read_text("utf-8"))
    assert figures(report) == equal_to(figures(json.loads(REFERENCE.read_text("utf-8"))))
