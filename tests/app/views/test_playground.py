"""What the Playground page draws: pure, from the updates of jobs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from geko_app.pages.playground import inference_request, sides_of
from geko_app.pages.token_losses import start_job
from geko_app.runs.store import RunEntry
from geko_app.views.playground import (
    card,
    default_run,
    format_chance,
    generation_options,
    loss_level,
    loss_tooltip,
    model_label,
    run_choice,
)
from geko_app.workers.inference_jobs import FINAL, InferenceJob, InferenceRequest
from geko_engine.exceptions import RunError

GOOD = {"temperature": 0, "top_p": 1, "max_new_tokens": 64}


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, text=True) as made:
        yield made


def job(
    process: subprocess.Popen[str], *updates: dict[str, Any], kind: str = "generate", answer: str = ""
) -> InferenceJob:
    made = InferenceJob(1, kind, InferenceRequest("r", FINAL, "a b", answer), process)
    for line in updates:
        made.apply({"id": 1, **line})
    return made


WRITTEN = [{"text": "4", "special": False, "probability": 0.25, "alternatives": [["5", 0.6], ["4", 0.25]]}]


def ended(side: str, text: str, end: str = "end of text") -> dict[str, Any]:
    return {"part": side, "state": "ended", "text": text, "tokens": 4, "seconds": 0.5, "end": end}


READ = {"part": "prompt", "text": "a b\n", "tokens": 3, "exact": True, "note": ""}
DONE = {"done": True, "error": ""}


def sides(found: dict[str, Any], name: str) -> list[Any]:
    return [side[name] for side in found["sides"]]


def test_numbers_are_taken_within_their_bounds_only() -> None:
    assert generation_options(GOOD) == {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 64}
    for name, value in (
        ("temperature", -0.1), ("temperature", 2.1), ("temperature", None), ("temperature", "1"), ("temperature", True),
        ("top_p", 0), ("top_p", float("nan")), ("max_new_tokens", 0), ("max_new_tokens", 1025),
    ):  # fmt: skip
        with pytest.raises(RunError, match="give a number from"):
            generation_options({**GOOD, name: value})
    with pytest.raises(RunError):
        generation_options("nothing")


def test_an_answer_grows_and_only_what_is_new_travels(process: subprocess.Popen[str]) -> None:
    asked = job(process, {"part": "base", "state": "loading"})
    assert sides(card(asked, {}), "status") == ["loading the model", "waiting"]
    asked.apply({"id": 1, "part": "base", "state": "writing"})
    assert sides(card(asked, {}), "status")[0] == "reading the prompt"
    asked.apply({"id": 1, "part": "base", "text": "abc", "tokens": 2})
    found = card(asked, {"base": 2})
    assert (sides(found, "text")[0], sides(found, "from")[0]) == ("c", 2)
    assert sides(found, "status")[0] == "generating · 2 tokens" and found["running"]
    assert sides(card(asked, {"base": 9}), "from")[0] == 3  # another answer was there before


def test_right_and_wrong_are_said_when_an_answer_has_ended_and_is_no_free_text(process: subprocess.Popen[str]) -> None:
    asked = job(process, READ, ended("base", " 4 "), answer="4")
    assert sides(card(asked, {}), "verdict") == ["", ""]
    asked.apply({"id": 1, **ended("tuned", "5")})
    asked.apply({"id": 1, **DONE})
    found = card(asked, {})
    assert sides(found, "verdict") == ["right", "wrong"]
    assert sides(found, "status") == ["finished · 4 tokens · 8 tokens/s"] * 2
    for changed in ({**READ, "exact": False}, READ):
        other = job(
            process, changed, ended("base", "4"), ended("tuned", "4"), DONE, answer="" if changed is READ else "4"
        )
        assert sides(card(other, {}), "verdict") == ["", ""]
    free = "A sentence that nobody writes twice in just the same words."
    assert sides(
        card(job(process, READ, ended("base", "4"), ended("tuned", free), DONE, answer=free), {}), "verdict"
    ) == [
        "",
        "right",
    ]


def test_the_tokens_of_an_ended_answer_come_with_their_alternatives(process: subprocess.Popen[str]) -> None:
    asked = job(process, READ, {**ended("base", "4"), "written": WRITTEN}, DONE)
    (token,) = card(asked, {})["sides"][0]["tokens"]
    assert token == {
        "text": "4",
        "special": False,
        "level": 2,
        "chance": "25 %",
        "alternatives": [["5", "60 %", 0.6], ["4", "25 %", 0.25]],
    }
    assert [format_chance(share) for share in (1.0, 0.99999, 0.0123, 0.00001, 0.0)] == [
        "100 %",
        "99.9 %",
        "1.23 %",
        "under 0.01 %",
        "0 %",
    ]


def test_each_end_has_its_words(process: subprocess.Popen[str]) -> None:
    stopped = job(process, READ, ended("base", "4", "stopped"), DONE, answer="4")
    assert sides(card(stopped, {}), "status") == ["stopped · 4 tokens · 8 tokens/s", "stopped"]
    assert sides(card(stopped, {}), "verdict") == ["", ""]
    limit = job(process, READ, ended("base", "4", "limit"), {"part": "tuned", "state": "failed", "error": "No."}, DONE)
    assert sides(card(limit, {}), "status")[0].startswith("stopped at the token limit")
    assert sides(card(limit, {}), "error") == ["", "No."] and sides(card(limit, {}), "status")[1] == "failed"
    dead = job(process, READ, {"done": True, "error": "It was killed."})
    assert card(dead, {})["error"] == "It was killed." and sides(card(dead, {}), "status") == ["", ""]


def test_tokens_are_coloured_by_their_chance(process: subprocess.Popen[str]) -> None:
    assert [loss_level(loss) for loss in (None, 0.0, 0.3, 1.0, 4.0, 9.0)] == [None, 0, 1, 2, 3, 4]
    assert loss_tooltip(None) == "context" and loss_tooltip(0.6931472) == "loss 0.693, probability 50 %"
    tokens = [["a", None], ["4", 1.0], ["<eos>", 0.0]]
    found = card(job(process, {"part": "base", "list": tokens}, DONE, kind="losses"), {})
    assert found["sides"][0]["tokens"] == [
        ["a", None, "context"],
        ["4", 2, loss_tooltip(1.0)],
        ["<eos>", 0, loss_tooltip(0.0)],
    ]
    assert sides(found, "mean") == ["0.500", ""] and len(found["legend"]) == 5


def test_examples_stand_in_groups_and_keep_their_rows_to_the_server(process: subprocess.Popen[str]) -> None:
    row = {"prompt": "p", "answer": "a", "note": "", "earlier": 0, "exact": True}
    rows = [{**row, "ref": "hard:3", "group": "hard"}, {**row, "ref": "evaluation:0", "group": "evaluation"}]
    found = card(job(process, {"part": "examples", "list": rows, "notes": []}, DONE, kind="examples"), {})
    assert [group["title"] for group in found["groups"]] == ["Confidently wrong in training", "Evaluation data"]
    assert set(found["groups"][0]["rows"][0]) == {"ref", "prompt", "answer", "note", "earlier"}


def test_the_newest_complete_run_is_shown_first() -> None:
    choices = [
        run_choice(RunEntry("c", "training", True), "demo", ["checkpoint-20"]),
        run_choice(RunEntry("b", "complete", False), "demo", [FINAL, "checkpoint-1200"]),
        run_choice(RunEntry("a", "complete", False), "demo", [FINAL]),
    ]
    assert default_run(choices) == "b" and default_run(choices[:1]) == "c" and default_run([]) == ""
    assert choices[1]["models"] == [["final", "Final model"], ["checkpoint-1200", "Checkpoint at step 1,200"]]
    assert model_label(FINAL) == "Final model"


def test_whatever_a_browser_sends_is_read_as_text() -> None:
    assert inference_request(None) == InferenceRequest("", "", "", "", "")
    turns = [["user", "hi"], ["system", "no"], ["assistant", 7], "x", ["assistant", "yes"], ["user"]]
    spoken = inference_request({"turns": turns, "system": "be brief", "chat": "yes"})
    assert (spoken.turns, spoken.system, spoken.chat) == ((("user", "hi"), ("assistant", "yes")), "be brief", False)
    assert sides_of(None) == ["base", "tuned"] and sides_of({"sides": ["tuned", "x"]}) == ["tuned"]
    assert inference_request({"run": 3, "which": ["x"], "prompt": "p", "example": "e" * 99}) == InferenceRequest(
        "", "", "p", "", "e" * 40
    )

    def refuse() -> str:
        raise RunError("No.")

    assert start_job(refuse) == {"key": "", "error": "No."} and start_job(lambda: "k") == {"key": "k", "error": ""}
