"""Answers during a run: the same as one prompt alone gets, and the run does not notice them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig, ModelConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.inference.answer_metrics import Judged, judge
from geko_engine.inference.generation import Options, generate
from geko_engine.inference.progress_answers import LONGEST, ProgressAnswers, answers
from geko_engine.reporting.events import Answered, EpochEnded, Event, Message, RunStarted
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from geko_engine.training.state import TrainerState
from tests.engine.conftest import character_tokenizer, small_gpt2, small_llama


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        (" yes\n", "yes", Judged(True, True, None)),
        ("Yes, it is", "yes", Judged(False, True, None)),
        ("so #### 1,200", "1200", Judged(False, False, True)),
        ("about 12 or 13", "12", Judged(False, True, False)),
        ("none", "12", Judged(False, False, False)),
        ("-3.50", "= -3.5", Judged(False, False, True)),
        ("anything", " ", Judged()),
    ],
)
def test_an_answer_is_judged_by_three_measures(answer: str, reference: str, wanted: Judged) -> None:
    assert judge(answer, reference) == wanted


@pytest.mark.parametrize("make", [small_llama, small_gpt2])
def test_prompts_answered_together_get_the_answers_that_each_gets_alone(make: Any) -> None:
    model, tokenizer = make(seed=3).eval(), character_tokenizer()
    prompts = [tokenizer(text)["input_ids"] for text in ("a", "abc def", "12 + 3 =", *"bcdefgh")]
    alone = [generate(model, tokenizer, p, Options(LONGEST), lambda *_: None, lambda: False).text for p in prompts]
    assert answers(model, tokenizer, prompts, lambda: False) == alone
    assert len(set(alone)) > 1


def test_mode_and_random_numbers_stay() -> None:
    model, tokenizer = small_gpt2(dropout=0.5).train(), character_tokenizer()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    answers(model, tokenizer, [[5, 6]], lambda: False)
    assert model.training and torch.equal(torch.get_rng_state(), before)


def one_run(folder: Path, model: Path, data: Path, **changes: Any) -> tuple[RunFolder, list[Event]]:
    config = RunConfig(
        ModelConfig(str(model)),
        DataConfig(str(data), eval_ratio=0.2, chat_template="raw"),
        training=GEKOTrainingArgs(num_epochs=2, batch_size=8, learning_rate=1e-3, **changes),
        output_dir=str(folder),
    )
    made, events = RunFolder.create(config), []
    assert run(made, on_event=events.append)["end"] == "complete"
    return made, events


def test_a_run_answers_before_the_training_and_after_each_epoch_and_ends_as_without(
    tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    prompts = "say yes\n\n what, else? "
    asked, events = one_run(tmp_path / "a", model_folder, data_file, answers_per_epoch=3, answer_prompts=prompts)
    silent, none = one_run(tmp_path / "b", model_folder, data_file, answers_per_epoch=0)
    found = [event for event in events if isinstance(event, Answered)]
    assert [event.epoch for event in found] == [0, 1, 2] and found[-1].step > found[1].step > 0
    for event in found:
        assert [row["prompt"] for row in event.answers[3:]] == ["say yes", "what, else?"]
        assert all(row["reference"] and row["exact"] is not None for row in event.answers[:3])
        assert all(row["exact"] is row["contains"] is row["numeric"] is None for row in event.answers[3:])
        json.dumps(event.to_dict())
    rows = [json.loads(line)["prompt"] for line in data_file.read_text(encoding="utf-8").splitlines()]
    assert {row["prompt"] for row in found[0].answers[:3]} <= set(rows)
    assert not [event for event in none if isinstance(event, Answered)]
    weights = [load_file(f.model_path / "model.safetensors") for f in (asked, silent)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_slow_answers_wait_until_they_are_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, events = [0.0], []
    monkeypatch.setattr("geko_engine.inference.progress_answers.time.monotonic", lambda: clock[0])

    def slow(*_: Any) -> list[str]:
        clock[0] += 20
        return ["yes"]

    monkeypatch.setattr("geko_engine.inference.progress_answers.answers", slow)
    monkeypatch.setattr("geko_engine.inference.progress_answers.prompt_ids", lambda *_: [5, 6])
    example = SimpleNamespace(prompt="a?", answer="yes", before=[])
    listener = ProgressAnswers(small_llama(), character_tokenizer(), [example], [], Any, events.append, lambda: False)
    listener(RunStarted("m", 4, 0, 4, 1, 4, 9, 9, 9, 9, "cpu", "fp32"))
    for epoch, seconds in ((1, 199), (2, 1), (3, 10), (4, 10)):
        clock[0] += seconds
        listener(EpochEnded(epoch, 10 * epoch, 1.0))
    for _ in range(2):
        listener.at_end(TrainerState(epoch=4, step=40))
    assert [event.epoch for event in events if isinstance(event, Answered)] == [0, 2, 4]
    (said,) = (event.text for event in events if isinstance(event, Message))
    assert "took 20 s" in said and "training.answers_per_epoch" in said
