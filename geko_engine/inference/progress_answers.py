"""Answers of the model while it is trained: the same prompts before the training and after each epoch.

A listener of the trainer. It draws no random numbers and leaves the model as it was, so a run with it ends bit-identical
to one without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import torch
from transformers import StoppingCriteriaList

from geko_engine.data.formats import Format
from geko_engine.inference.answer_metrics import judge
from geko_engine.inference.examples import Example
from geko_engine.inference.generation import (
    Options,
    StopWhen,
    end_tokens,
    generation_settings,
    pieces_of,
    prompt_ids,
    readable,
)
from geko_engine.models.loading import longest_input
from geko_engine.reporting.events import Answered, EpochEnded, Event, Message, PhaseChanged, RunStarted
from geko_engine.training.state import TrainerState

LONGEST = 64  # tokens of an answer: enough to see what it is like
BATCH = 8  # prompts that are answered together
SHOWN = 2000  # characters of a prompt or an answer that an event holds
MOST = 0.1  # of the time that has passed since the last answers: where new ones would take more, they wait
SHORT = 5.0  # seconds that answers may take in any case
WAITING = (
    "Answering the prompts took {seconds:.0f} s, so it is done again when that is at most a tenth of the time since, and at the "
    "end. Fewer prompts (training.answers_per_epoch) take less."
)


class ProgressAnswers:
    """Answers the same prompts greedily before the training and after each epoch, and emits Answered.

    Where that would take more than MOST of the time, epochs are left out; `at_end` makes up for the last one.

    Args:
        model, tokenizer: those that are trained.
        examples: rows to ask, with their own answers as references.
        own: prompts without a reference.
        format: of the rows.
        emit: gets the events. should_stop: asked at each token.
        context: what the answers are generated in, such as a precision (default: nothing).

    Attributes:
        left_out: how many prompts leave the model no room for an answer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        examples: list[Example],
        own: list[str],
        format: Format,
        emit: Callable[[Event], None],
        should_stop: Callable[[], bool],
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._model, self._tokenizer, self._emit, self._should_stop = model, tokenizer, emit, should_stop
        self._context = context
        asked = [(example.prompt, example.answer, example.before) for example in examples]
        asked += [(prompt, "", pieces_of(prompt, "", format, tokenizer)) for prompt in own]
        prompts = [(prompt, answer, prompt_ids(before, format, tokenizer)) for prompt, answer, before in asked]
        room = longest_input(model.config)
        self._prompts = [(prompt, answer, ids) for prompt, answer, ids in prompts if len(ids) < room]
        self.left_out = len(prompts) - len(self._prompts)
        self._seconds, self._ended, self._step = 0.0, time.monotonic(), -1  # of the last answers
        self._said = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted) and event.resumed_from_step == 0:
            self._answer(0, 0)
        elif isinstance(event, EpochEnded):
            if self._seconds <= max(SHORT, MOST * (time.monotonic() - self._ended)):
                self._answer(event.epoch, event.step)
            elif self._prompts and not self._said:
                self._said = True
                self._emit(Message(WAITING.format(seconds=self._seconds)))

    def at_end(self, state: TrainerState) -> None:
        """Answer with the last weights of a run that is complete, unless they have answered already."""
        if self._step != state.step:
            self._answer(state.epoch, state.step)

    def _answer(self, epoch: int, step: int) -> None:
        if not self._prompts:
            return
        began = time.monotonic()
        self._emit(PhaseChanged("answering", f"{len(self._prompts)} prompts"))
        with self._context():
            texts = answers(self._model, self._tokenizer, [ids for _, _, ids in self._prompts], self._should_stop)
        if self._should_stop():
            return  # the last ones were cut short
        rows = [
            {"prompt": prompt[-SHOWN:], "reference": reference[:SHOWN], "answer": text[:SHOWN]}
            | asdict(judge(text, reference))
            for (prompt, reference, _), text in zip(self._prompts, texts, strict=True)
        ]
        self._ended, self._step = time.monotonic(), step
        self._seconds = self._ended - began
        self._emit(Answered(epoch, step, rows, self._seconds))


def answers(model: Any, tokenizer: Any, prompts: list[list[int]], should_stop: Callable[[], bool]) -> list[str]:
    """Greedy answers to `prompts`; the mode of the model and the state of all random generators stay as they are.

    Args:
        model: a causal language model.
        tokenizer: of the model.
        prompts: ids of each, as before an answer in training.
        should_stop: asked at each token; True ends all answers there.
    """
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            return [text for part in _parts(prompts) for text in _batch(model, tokenizer, part, should_stop)]
    finally:
        model.train(training)


def _parts(prompts: list[list[int]]) -> Iterator[list[list[int]]]:
    return (prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH))


def _batch(model: Any, tokenizer: Any, prompts: list[list[int]], should_stop: Callable[[], bool]) -> list[str]:
    longest, ends = max(map(len, prompts)), end_tokens(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends or [0])[0]
    missing = [longest - len(ids) for ids in prompts]
    device = next(model.parameters()).device
    written = model.generate(
        input_ids=torch.tensor([[pad] * gap + ids for gap, ids in zip(missing, prompts, strict=True)], device=device),
        attention_mask=torch.tensor([[0] * gap + [1] * (longest - gap) for gap in missing], device=device),
        generation_config=generation_settings(Options(LONGEST), longest_input(model.config) - longest, ends, pad),
        stopping_criteria=StoppingCriteriaList([StopWhen(should_stop)]),
    )
    return [readable(tokenizer, _until(row[longest:].tolist(), ends)) for row in written]


def _until(ids: list[int], ends: list[int]) -> list[int]:
    """`ids` before the first of `ends`: what follows is padding."""
    return ids[: next((at for at, token in enumerate(ids) if token in ends), len(ids))]
