"""The proof of a merge: the same prompts of the run, answered greedily before and after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from geko_engine.export.results import Say, ShouldStop
from geko_engine.inference.examples import Example, dataset_format, first_examples
from geko_engine.inference.generation import Options, generate, prompt_ids
from geko_engine.inference.run_models import ModelChoice
from geko_engine.models.loading import longest_input

ANSWER_TOKENS = 64


@dataclass(frozen=True)
class Prompts:
    """Prompts of a run as token ids; `notes` say why there are none."""

    ids: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()


def prompts_of(asked: ModelChoice, tokenizer: Any, settings: Any, count: int, should_stop: ShouldStop) -> Prompts:
    """The first prompts of the evaluation rows, or of the training rows where there are none.

    Args:
        asked: the model of the run.
        tokenizer: as the run saved it.
        settings: the config of the model, for its number of positions.
        count: most prompts.
        should_stop: asked while rows are read.
    """
    if count < 1:
        return Prompts((), ("No answers were compared, as asked.",))
    format, note = dataset_format(asked.config, tokenizer, should_stop)
    examples, notes = first_examples(asked.config, tokenizer, should_stop)
    room = longest_input(settings) - ANSWER_TOKENS
    found = [prompt_ids(_before(example), format, tokenizer) for example in examples]
    kept = tuple(dict.fromkeys(tuple(ids) for ids in found if len(ids) <= room))[:count]
    missing = () if kept else ("No prompt of the run could be read, so no answers were compared.",)
    return Prompts(kept, tuple(text for text in (note, *notes) if text) + missing)


def _before(example: Example) -> list[tuple[str, bool]]:
    return [(text, False) for text, _ in example.before]


def answers(model: Any, tokenizer: Any, prompts: Prompts, what: str, say: Say, should_stop: ShouldStop) -> list[str]:
    """The greedy answer to each prompt.

    Args:
        model: in evaluation mode. tokenizer: of the model.
        prompts: as `prompts_of` returns them.
        what: is asked, for the progress.
        say: gets a line for each prompt. should_stop: asked at every token.
    """
    options = Options(max_new_tokens=ANSWER_TOKENS)
    found = []
    for number, ids in enumerate(prompts.ids, 1):
        say(f"Asking {what}: prompt {number} of {len(prompts.ids)}")
        found.append(generate(model, tokenizer, list(ids), options, lambda text, tokens: None, should_stop).text)
    return found


def equality_sentence(before: list[str], after: list[str], dtype: str) -> str:
    """How many answers are the same before and after the merge, and why some may differ."""
    equal = sum(a == b for a, b in zip(before, after, strict=True))
    found = f"Greedy answers before and after the merge: {equal} of {len(before)} are the same."
    if equal == len(before):
        return found
    return f"{found} The merged weights are rounded to {dtype}, so single tokens may differ, and with them the rest of an answer."
